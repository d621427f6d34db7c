package cluster_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// testHealthPorts asks the health check node ports of a node with kube-proxy and of one with Fairway, whose endpoints are the same: every answer
// must be, too.
func (c *cluster) testHealthPorts(t *testing.T) {
	ctx := t.Context()
	theirs, ours := c.node(t, "kube-proxy", 21), c.node(t, "fairway", 22)
	admin := c.kubeconfig(t, "")
	config := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: kube-proxy
clusterCIDR: 10.244.0.0/16,fd00:244::/64
clientConnection: {kubeconfig: %s}
nftables: {minSyncPeriod: 10ms}
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, admin)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	theirs.start(os.Getenv("KUBE_PROXY"), "--config", config)
	ours.start(os.Getenv("FAIRWAY"), "agent", "--node-name", "fairway", "--kubeconfig", admin, "--pod-cidr", pods)

	// ask gives what a load balancer sees; a closed port is an answer as well.
	ask := func(n *node, port int32) string {
		status, body, header, err := n.get("http://" + net.JoinHostPort(n.ip4, strconv.Itoa(int(port))) + "/healthz")
		if err != nil {
			return "closed"
		}
		var heads []string
		for _, h := range []string{"Content-Type", "X-Content-Type-Options", "X-Load-Balancing-Endpoint-Weight"} {
			heads = append(heads, h+": "+header.Get(h))
		}
		return fmt.Sprintf("%d\n%s\n\n%s", status, strings.Join(heads, "\n"), body)
	}
	same := func(what string, port int32, begins string) {
		t.Helper()
		until(t, what, func() error {
			a, b := ask(theirs, port), ask(ours, port)
			if a != b || !strings.HasPrefix(a, begins) {
				return fmt.Errorf("want %s\nkube-proxy: %s\nFairway: %s", begins, a, b)
			}
			return nil
		})
	}
	local := func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
	}
	both := func(service string, state string) *discoveryv1.EndpointSlice {
		return slice(service, "10.244.1.1 kube-proxy"+state, "10.244.1.2 kube-proxy"+state, "10.244.2.1 fairway"+state, "10.244.2.2 fairway"+state)
	}
	create := func(s *discoveryv1.EndpointSlice) {
		ok(c.DiscoveryV1().EndpointSlices("default").Create(ctx, s, metav1.CreateOptions{}))(t)
	}
	// The Service first, then its endpoints.
	one := c.service(t, "health-1", local).Spec.HealthCheckNodePort
	same("no endpoints", one, "503\n")
	create(both("health-1", ""))
	same("two endpoints", one, "200\nContent-Type: application/json\nX-Content-Type-Options: nosniff\nX-Load-Balancing-Endpoint-Weight: 2\n")
	// The other way round.
	create(both("health-2", ""))
	two := c.service(t, "health-2", local).Spec.HealthCheckNodePort
	same("endpoints that were there before", two, "200\n")
	// They leave, though they still serve.
	leaving := both("health-1", " leaving")
	if err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		_, err := c.DiscoveryV1().EndpointSlices("default").Update(ctx, leaving, metav1.UpdateOptions{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	same("endpoints that leave", one, "503\n")
	// Another policy, and the end.
	if err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		s, err := c.CoreV1().Services("default").Get(ctx, "health-2", metav1.GetOptions{})
		if err == nil {
			s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyCluster, 0
			_, err = c.CoreV1().Services("default").Update(ctx, s, metav1.UpdateOptions{})
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	same("policy Cluster", two, "closed")
	if err := c.CoreV1().Services("default").Delete(ctx, "health-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	same("a Service that is gone", one, "closed")

	// Somebody else has the port of a Service on our node: its owner is told, and it opens when it can.
	const taken = 32000
	l := ok(ours.Listen("tcp", net.JoinHostPort(ours.ip4, strconv.Itoa(taken))))(t)
	c.service(t, "health-3", func(s *corev1.Service) { local(s); s.Spec.HealthCheckNodePort = taken })
	until(t, "the Event", func() error {
		events, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=health-3,reason=FailedToStartServiceHealthcheck"})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Source.Host == ours.name && strings.Contains(e.Message, "32000") {
				return nil
			}
		}
		return fmt.Errorf("none of %d", len(events.Items))
	})
	_ = l.Close()
	same("the port is free again", taken, "503\n")

	// The proxies' own health has one form.
	for _, path := range []string{"/healthz", "/livez"} {
		var keys [2]string
		for i, n := range []*node{theirs, ours} {
			status, body, header, err := n.get("http://127.0.0.1:10256" + path)
			if err != nil || status != http.StatusOK {
				t.Fatalf("%s of %s: status %d, %v", path, n.name, status, err)
			}
			keys[i] = header.Get("Content-Type") + shape(t, body)
		}
		if keys[0] != keys[1] {
			t.Errorf("%s: kube-proxy says %s\nFairway says %s", path, keys[0], keys[1])
		}
	}
}
