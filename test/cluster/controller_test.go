//lint:file-ignore SA1019 mirroring is for Endpoints, which are deprecated and served as long as v1 is

package cluster_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// testController runs two instances with the role of deploy/, kills the one that works, and sees the other one go on.
func (c *cluster) testController(t *testing.T) {
	ctx := t.Context()
	c.apply(t, "agent-ingress.yaml") // for its IngressClass
	n := c.node(t, "controllers", 31)
	kubeconfig := c.kubeconfig(t, "fairway-controller")
	instances := map[string]*process{}
	start := func(port string) {
		instances[port] = n.start(os.Getenv("FAIRWAY"), "controller", "--kubeconfig", kubeconfig, "--ingress-address", "192.0.2.99",
			"--metrics-bind-address", "127.0.0.1:"+port, "--healthz-bind-address", "127.0.0.1:1"+port,
			"--leader-elect-lease-duration=4s", "--leader-elect-renew-deadline=3s", "--leader-elect-retry-period=500ms")
	}
	leaders := func() (out []string) {
		for port := range instances {
			if _, body, _, err := n.get("http://127.0.0.1:" + port + "/metrics"); err == nil && strings.Contains(body, "\nfairway_controller_leader 1\n") {
				out = append(out, port)
			}
		}
		return out
	}
	one := func() (leader string) {
		t.Helper()
		until(t, "one instance leads", func() error {
			l := leaders()
			if len(l) != 1 {
				return fmt.Errorf("%v lead", l)
			}
			leader = l[0]
			return nil
		})
		return leader
	}
	start("7001")
	start("7002")
	leader := one()
	for port := range instances {
		n.answers("http://127.0.0.1:1"+port+"/livez", 200, "ok") // who waits is well
	}

	// Endpoint tracking.
	c.service(t, "tracked", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "tracked"} })
	pod := func(name, ip string) {
		t.Helper()
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "tracked"}},
			Spec: corev1.PodSpec{
				NodeName: n.name, Containers: []corev1.Container{{Name: "c", Image: "none"}}, AutomountServiceAccountToken: ptr.To(false),
				Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			},
		}
		p = ok(c.CoreV1().Pods("default").Create(ctx, p, metav1.CreateOptions{}))(t)
		p.Status = corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		}
		ok(c.CoreV1().Pods("default").UpdateStatus(ctx, p, metav1.UpdateOptions{}))(t)
	}
	endpoints := func(service string, want int) {
		t.Helper()
		until(t, fmt.Sprintf("%d endpoints of %s", want, service), func() error {
			l, err := c.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
			if err != nil {
				return err
			}
			got := 0
			for _, s := range l.Items {
				got += len(s.Endpoints)
			}
			if got != want {
				return fmt.Errorf("there are %d", got)
			}
			return nil
		})
	}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}} // which a controller makes elsewhere
	ok(c.CoreV1().ServiceAccounts("default").Create(ctx, sa, metav1.CreateOptions{}))(t)
	pod("tracked-1", "10.244.3.1")
	endpoints("tracked", 1)

	// Mirroring; the API says what does not fit into slices.
	c.service(t, "mirrored", nil)
	hand := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mirrored"}, Subsets: []corev1.EndpointSubset{{Ports: []corev1.EndpointPort{{Port: 80}}}}}
	a := netip.MustParseAddr("10.245.0.0")
	for range 1001 {
		a = a.Next()
		hand.Subsets[0].Addresses = append(hand.Subsets[0].Addresses, corev1.EndpointAddress{IP: a.String()})
	}
	ok(c.CoreV1().Endpoints("default").Create(ctx, hand, metav1.CreateOptions{}))(t)
	endpoints("mirrored", 1000)

	// The status of Ingresses.
	ing := &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "ours"},
		Spec: networkingv1.IngressSpec{IngressClassName: ptr.To("fairway"), DefaultBackend: &networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{Name: "tracked", Port: networkingv1.ServiceBackendPort{Number: 80}},
		}},
	}
	ok(c.NetworkingV1().Ingresses("default").Create(ctx, ing, metav1.CreateOptions{}))(t)
	published := func(want string) {
		t.Helper()
		until(t, "the Ingress's address", func() error {
			i, err := c.NetworkingV1().Ingresses("default").Get(ctx, "ours", metav1.GetOptions{})
			if err == nil && fmt.Sprint(len(i.Status.LoadBalancer.Ingress)) != want {
				err = fmt.Errorf("it has %v", i.Status.LoadBalancer.Ingress)
			}
			return err
		})
	}
	published("1")

	// The leader dies. What happens meanwhile is done by the other one.
	instances[leader].end(t, syscall.SIGKILL)
	delete(instances, leader)
	pod("tracked-2", "10.244.3.2")
	if err := c.CoreV1().Endpoints("default").Delete(ctx, "mirrored", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ok(c.NetworkingV1().Ingresses("default").Patch(ctx, "ours", types.MergePatchType, []byte(`{"spec":{"ingressClassName":"others"}}`), metav1.PatchOptions{}))(t)
	endpoints("tracked", 2)
	endpoints("mirrored", 0)
	published("0")
	if next := one(); next == leader {
		t.Error("the dead lead")
	}

	// One that ends in order gives the Lease back.
	start(leader)
	last := one()
	instances[last].end(t, syscall.SIGTERM)
	if !instances[last].ProcessState.Success() {
		t.Errorf("on SIGTERM it ended with %v", instances[last].ProcessState)
	}
	delete(instances, last)
	pod("tracked-3", "10.244.3.3")
	endpoints("tracked", 3)
	c.usesAll(t, "fairway-controller", "controller.yaml")
}
