package discovery_test

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/dns/zone"
	"fairway.dev/fairway/internal/testkit/questions"
)

// TestPodNames puts questions for names of Pods to Fairway and to CoreDNS, in the modes that the table has not: disabled, and verified.
func TestPodNames(t *testing.T) {
	t.Parallel()
	a := startAPI(t)
	if refused := a.create(t, questions.World{Namespaces: []string{"testns"}, Services: questions.KubeDNS()}); len(refused) > 0 {
		t.Fatal(refused)
	}
	ctx := t.Context()
	if _, err := a.CoreV1().ServiceAccounts("testns").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	for name, status := range map[string]corev1.PodStatus{
		"runs":    {Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.244.1.5"}, {IP: "fd00:244::5"}}},
		"pending": {Phase: corev1.PodPending},
		"ended":   {Phase: corev1.PodSucceeded, PodIPs: []corev1.PodIP{{IP: "10.244.1.9"}}},
	} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}}}
		p, err := a.CoreV1().Pods("testns").Create(ctx, p, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(status.PodIPs) > 0 {
			status.PodIP = status.PodIPs[0].IP
		}
		p.Status = status
		if _, err := a.CoreV1().Pods("testns").UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	upstream := questions.Serve(t, questions.Upstream)
	peers := coreDNS(t, a.kubeconfig, upstream, "disabled", "verified")
	verified, st := serve(t, a.config, dns.Config{Pods: zone.PodsVerified, Upstreams: []netip.AddrPort{upstream}})
	disabled, _ := serve(t, a.config, dns.Config{Pods: zone.PodsDisabled, Upstreams: []netip.AddrPort{upstream}})
	if n := st.Snapshot().Pods.Len(); n != 1 {
		t.Errorf("%d rows of Pods, want the one that runs", n)
	}
	const denied, empty = "NXDOMAIN aa: ; SOA cluster.local.", "NOERROR aa: ; SOA cluster.local."
	for _, q := range []struct {
		name, qtype, verified, disabled string
	}{
		{"10-244-1-5.testns", "A", "NOERROR aa: @ A 10.244.1.5", denied},
		{"10-244-1-5.testns", "AAAA", empty, denied},
		{"10-244-1-5.testns", "TXT", empty, denied},
		{"fd00-244--5.testns", "AAAA", "NOERROR aa: @ AAAA fd00:244::5", denied},
		{"10-244-1-6.testns", "A", denied, denied},
		{"10-244-1-5.default", "A", denied, denied},
		{"10-244-1-5.nowhere", "A", denied, denied},
		{"runs.testns", "A", denied, denied},
		// An address of a Pod that has ended may be another's soon.
		{"10-244-1-9.testns", "A", denied, denied},
		{"testns", "A", empty, denied},
		{"nowhere", "A", denied, denied},
	} {
		for _, network := range []string{"udp", "tcp"} {
			check := func(who string, srv netip.AddrPort, want string) {
				t.Helper()
				if got := questions.Render(t, questions.Exchange(t, srv, network, questions.Message(q.name+".pod.cluster.local", q.qtype))); got != want {
					t.Errorf("%s, %s %s over %s: %s, want %s", who, q.name, q.qtype, network, got, want)
				}
			}
			check("Fairway, verified", verified, q.verified)
			check("CoreDNS, verified", peers["verified"], q.verified)
			check("Fairway, disabled", disabled, q.disabled)
			check("CoreDNS, disabled", peers["disabled"], q.disabled)
		}
	}
}
