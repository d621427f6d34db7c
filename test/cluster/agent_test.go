package cluster_test

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

const pods = "10.244.0.0/16,fd00:244::/64"

func (c *cluster) service(t testing.TB, name string, change func(*corev1.Service)) *corev1.Service {
	t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	if change != nil {
		change(s)
	}
	return ok(c.CoreV1().Services("default").Create(t.Context(), s, metav1.CreateOptions{}))(t)
}

// slice gives an EndpointSlice of a Service; endpoints are "address node", and "address node leaving".
func slice(service string, endpoints ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To(int32(8080))}},
	}
	for _, e := range endpoints {
		w := strings.Fields(e)
		leaving := len(w) > 2
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: w[:1], NodeName: &w[1],
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(!leaving), Serving: ptr.To(true), Terminating: &leaving},
		})
	}
	return s
}

// testAgent runs the agent with the roles of deploy/: as data plane alone, then with DNS and Ingress.
func (c *cluster) testAgent(t *testing.T) {
	ctx := t.Context()
	n := c.node(t, "a", 11)
	// Two Services want one address; the first by age, then by name has it.
	shared := func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"203.0.113.5"} }
	first := c.service(t, "conflict-1", shared)
	second := c.service(t, "conflict-2", shared)
	fine := c.service(t, "fine", nil)

	agent := func(more ...string) *process {
		return n.start(os.Getenv("FAIRWAY"), append([]string{"agent", "--node-name", "a", "--kubeconfig", c.kubeconfig(t, "fairway-agent"), "--pod-cidr", pods}, more...)...)
	}
	p := agent()
	n.answers("http://127.0.0.1:10256/readyz?verbose", 200, "[+]nft at revision")
	n.answers("http://127.0.0.1:10256/healthz", 200, `"nodeEligible":true,"healthy":true`)
	table := n.Run("nft", "list", "table", "ip", "fairway")
	for _, s := range []*corev1.Service{first, second, fine} {
		if !strings.Contains(table, s.Spec.ClusterIP+" ") {
			t.Errorf("service %s, %s, is not in the kernel", s.Name, s.Spec.ClusterIP)
		}
	}
	if !strings.Contains(table, "10.96.0.0/16") {
		t.Error("the Service range is not in the rules, though the API has its ServiceCIDR object")
	}

	// The bad one is named where its owner looks.
	event := func(reason string) *corev1.Event {
		t.Helper()
		var found *corev1.Event
		until(t, "an Event "+reason, func() error {
			events, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.kind=Service,reason=" + reason})
			if err != nil {
				return err
			}
			those := slices.DeleteFunc(events.Items, func(e corev1.Event) bool { return e.Source.Host != n.name }) // not of other tests' nodes
			if len(those) != 1 {
				return fmt.Errorf("there are %d", len(those))
			}
			found = &those[0]
			return nil
		})
		return found
	}
	failed := event("ProgrammingFailed")
	if failed.InvolvedObject.Name != second.Name || failed.InvolvedObject.UID != second.UID || !strings.Contains(failed.Message, "203.0.113.5:80/TCP belongs to service default/conflict-1") {
		t.Errorf("the Event is on %s: %s", failed.InvolvedObject.Name, failed.Message)
	}
	n.answers("http://127.0.0.1:10256/status", 200, `"service default/conflict-2":`)

	// The same again, from a new process: the Event is refreshed, not doubled.
	p.end(t, syscall.SIGKILL)
	until(t, "the next second", func() error { // the time of an Event is one of whole seconds
		if now := time.Now().Unix(); now <= failed.LastTimestamp.Unix() {
			return fmt.Errorf("it is still %d", now)
		}
		return nil
	})
	p = agent()
	until(t, "the Event is refreshed", func() error {
		if e := event("ProgrammingFailed"); e.ResourceVersion == failed.ResourceVersion {
			return fmt.Errorf("it is as it was")
		}
		return nil
	})
	ok(c.CoreV1().Services("default").Patch(ctx, first.Name, types.MergePatchType, []byte(`{"spec":{"externalIPs":null}}`), metav1.PatchOptions{}))(t)
	if e := event("Programmed"); e.InvolvedObject.Name != second.Name || e.Type != corev1.EventTypeNormal {
		t.Errorf("mended, the Event is %s on %s", e.Type, e.InvolvedObject.Name)
	}
	until(t, "nothing is named any more", func() error {
		if _, body, _, err := n.get("http://127.0.0.1:10256/status"); err != nil || strings.Contains(body, "conflict-2") {
			return fmt.Errorf("%w %s", err, body)
		}
		return nil
	})

	// A range that comes later is in force at once; its Services work. It goes with its object.
	added := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "added"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.97.0.0/24"}}}
	ok(c.NetworkingV1().ServiceCIDRs().Create(ctx, added, metav1.CreateOptions{}))(t)
	listed := func(want bool) {
		t.Helper()
		until(t, "the added range", func() error {
			if strings.Contains(n.Run("nft", "list", "table", "ip", "fairway"), "10.97.0.0/24") != want {
				return fmt.Errorf("in the rules: %v", !want)
			}
			return nil
		})
	}
	listed(true)
	if err := c.NetworkingV1().ServiceCIDRs().Delete(ctx, "added", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}

	c.testMetrics(t, n)
	c.usesAll(t, "fairway-agent", "agent.yaml")

	// A node that goes says so to load balancers, and to nobody else (KEP-3836).
	taint := `{"spec":{"taints":[{"key":"ToBeDeletedByClusterAutoscaler","effect":"NoSchedule"}]}}`
	ok(c.CoreV1().Nodes().Patch(ctx, "a", types.MergePatchType, []byte(taint), metav1.PatchOptions{}))(t)
	n.answers("http://127.0.0.1:10256/healthz", 503, `"nodeEligible":false,"healthy":true`)
	n.answers("http://127.0.0.1:10256/livez", 200, `"healthy":true`)
	ok(c.CoreV1().Nodes().Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"taints":null}}`), metav1.PatchOptions{}))(t)
	n.answers("http://127.0.0.1:10256/healthz", 200, `"nodeEligible":true`)
	listed(false)
	p.end(t, syscall.SIGTERM)

	c.withNames(t, n, agent)
}

// withNames runs the agent with DNS and Ingress, whose roles come on top. Slices that somebody left in its way have to go.
func (c *cluster) withNames(t *testing.T, n *node, agent func(...string) *process) {
	ctx := t.Context()
	c.apply(t, "agent-dns.yaml")
	c.apply(t, "agent-ingress.yaml")
	dns := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-dns"},
		Spec: corev1.ServiceSpec{
			IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicyRequireDualStack),
			Ports:          []corev1.ServicePort{{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}},
		},
	}
	ok(c.CoreV1().Services("kube-system").Create(ctx, dns, metav1.CreateOptions{}))(t)
	for name, kind := range map[string]discoveryv1.AddressType{"kube-dns-a-ipv4": discoveryv1.AddressTypeIPv6, "kube-dns-a-ipv6": discoveryv1.AddressTypeIPv6} {
		s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name}, AddressType: kind}
		ok(c.DiscoveryV1().EndpointSlices("kube-system").Create(ctx, s, metav1.CreateOptions{}))(t)
	}
	// ConfigMaps are asked for by name, and only if an Ingress names one.
	headers := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "headers"}, Data: map[string]string{"X-Served": "yes"}}
	ok(c.CoreV1().ConfigMaps("default").Create(ctx, headers, metav1.CreateOptions{}))(t)
	named := &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "named", Annotations: map[string]string{"nginx.ingress.kubernetes.io/custom-headers": "default/headers"},
		},
		Spec: networkingv1.IngressSpec{
			IngressClassName: ptr.To("fairway"),
			DefaultBackend: &networkingv1.IngressBackend{
				Service: &networkingv1.IngressServiceBackend{Name: "named", Port: networkingv1.ServiceBackendPort{Number: 80}},
			},
		},
	}
	ok(c.NetworkingV1().Ingresses("default").Create(ctx, named, metav1.CreateOptions{}))(t)
	args, state := c.dnsArgs(t, n)
	p := agent(append(args, "--dns-listen", n.ip4+":10053,["+n.ip6+"]:10053", "--ingress-http", n.ip4+":80")...)
	n.answers("http://127.0.0.1:10256/readyz?verbose", 200, "[+]dns at revision")
	until(t, "the node's slices", func() error {
		for family, addr := range map[string]string{"4": n.ip4, "6": n.ip6} {
			s, err := c.DiscoveryV1().EndpointSlices("kube-system").Get(ctx, "kube-dns-a-ipv"+family, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if len(s.Endpoints) != 1 || netip.MustParseAddr(s.Endpoints[0].Addresses[0]) != netip.MustParseAddr(addr) {
				return fmt.Errorf("%s has %v", s.Name, s.Endpoints)
			}
		}
		return nil
	})
	c.usesAll(t, "fairway-agent", "agent.yaml", "agent-dns.yaml", "agent-ingress.yaml")
	p.end(t, syscall.SIGTERM)
	if i, err := os.Stat(state); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("the names are not kept as the manifest asks: %v, %v", i, err)
	}
}

// dnsArgs puts deploy/agent-dns-patch.yaml on the DaemonSet and gives what the agent gets of it, as the kubelet would make it for a node; the
// host's directory is one of the test's.
func (c *cluster) dnsArgs(t *testing.T, n *node) (args []string, state string) {
	t.Helper()
	patch := ok(yaml.YAMLToJSON(ok(os.ReadFile("../../deploy/agent-dns-patch.yaml"))(t)))(t)
	set := ok(c.AppsV1().DaemonSets("fairway-system").Patch(t.Context(), "fairway-agent", types.JSONPatchType, patch, metav1.PatchOptions{FieldValidation: metav1.FieldValidationStrict}))(t)
	pod := set.Spec.Template.Spec
	container := pod.Containers[0]
	if !slices.ContainsFunc(container.Env, func(e corev1.EnvVar) bool {
		return e.Name == "HOST_IP" && e.ValueFrom.FieldRef.FieldPath == "status.hostIP"
	}) {
		t.Errorf("HOST_IP is not in the environment: %v", container.Env)
	}
	host := map[string]bool{}
	for _, v := range pod.Volumes {
		host[v.Name] = v.HostPath != nil
	}
	dir := t.TempDir()
	for _, a := range container.Args {
		if strings.HasPrefix(a, "--dns-") {
			args = append(args, strings.ReplaceAll(a, "$(HOST_IP)", n.ip4))
		}
	}
	for _, m := range container.VolumeMounts {
		for i, a := range args {
			if rest, below := strings.CutPrefix(a, "--dns-state="+m.MountPath+"/"); below && host[m.Name] && !m.ReadOnly {
				state = dir + "/" + rest
				args[i] = "--dns-state=" + state
			}
		}
	}
	if state == "" {
		t.Fatalf("the file of names is in no directory of the host: %v, %v", container.Args, container.VolumeMounts)
	}
	return args, state
}

// testMetrics reads what a dashboard of kube-proxy would.
func (c *cluster) testMetrics(t *testing.T, n *node) {
	ctx := t.Context()
	n.answers("http://127.0.0.1:10256/healthz", 200, "")
	c.service(t, "measured", nil)
	s := slice("measured", "10.244.1.1 a")
	s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: metav1.NowMicro().Format("2006-01-02T15:04:05.999999999Z07:00")}
	ok(c.DiscoveryV1().EndpointSlices("default").Create(ctx, s, metav1.CreateOptions{}))(t)
	body := n.answers("http://127.0.0.1:10249/metrics", 200, `kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} `) // there is none before the first
	for _, name := range []string{
		`kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.001"}`,
		`kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv6"}`,
		`kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv4"}`,
		`kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1.`,
		`kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"} 1.`,
		"kubeproxy_sync_proxy_rules_endpoint_changes_total ", "kubeproxy_sync_proxy_rules_endpoint_changes_pending ",
		"kubeproxy_sync_proxy_rules_service_changes_total ", "kubeproxy_sync_proxy_rules_service_changes_pending ",
		`kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="internal"}`,
		`kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"} 0`,
		`kubeproxy_proxy_healthz_total{code="200"} `,
		"fairway_revision ", `fairway_consumer_revision{consumer="nft"} `, `fairway_consumer_failed_objects{consumer="nft"} `,
		"fairway_programming_duration_seconds_count ", "fairway_build_info{", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(body, "\n"+name) {
			t.Errorf("/metrics has no %s", name)
		}
	}
	n.answers("http://127.0.0.1:10249/proxyMode", 200, "nftables")
	if out := string(ok(n.Command(os.Getenv("FAIRWAY"), "status", "--agent", "-o", "json").Output())(t)); !strings.Contains(out, `"commits": `) {
		t.Errorf("fairway status --agent -o json prints\n%s", out)
	}
}
