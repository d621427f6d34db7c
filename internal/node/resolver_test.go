package node

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodResolver(t *testing.T) {
	t.Parallel()
	host := parseResolver("# comment\nnameserver 192.0.2.53\nsearch old.test\nsearch corp.test cluster.local\noptions timeout:1 ndots:2\n")
	dns := []netip.Addr{netip.MustParseAddr("10.96.0.10")}
	two := "2"
	for _, test := range []struct {
		name string
		spec corev1.PodSpec
		dns  []netip.Addr
		want string
	}{
		{"ClusterFirst", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, dns,
			"nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local corp.test\noptions ndots:5\n"},
		{"Default", corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, dns,
			"nameserver 192.0.2.53\nsearch corp.test cluster.local\noptions timeout:1 ndots:2\n"},
		{"ClusterFirst on the machine's network", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true}, dns,
			"nameserver 192.0.2.53\nsearch corp.test cluster.local\noptions timeout:1 ndots:2\n"},
		{"ClusterFirstWithHostNet", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true}, dns,
			"nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local corp.test\noptions ndots:5\n"},
		{"None", corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"198.51.100.1"}}}, dns,
			"nameserver 198.51.100.1\n"},
		{"no cluster DNS", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, nil,
			"nameserver 192.0.2.53\nsearch corp.test cluster.local\noptions timeout:1 ndots:2\n"},
		{"with additions", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: &corev1.PodDNSConfig{
			Nameservers: []string{"a", "b", "c"}, Searches: []string{"svc.cluster.local", "extra.test"},
			Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &two}, {Name: "edns0"}},
		}}, dns,
			"nameserver 10.96.0.10\nnameserver a\nnameserver b\n" +
				"search shop.svc.cluster.local svc.cluster.local cluster.local corp.test extra.test\noptions ndots:2 edns0\n"},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: test.spec}
		if got := podResolver(pod, host, test.dns, "cluster.local").String(); got != test.want {
			t.Errorf("%s:\n%s\nwant:\n%s", test.name, got, test.want)
		}
	}
}

func TestResolverLimits(t *testing.T) {
	t.Parallel()
	r := resolver{servers: []string{"1", "2", "3", "4"}}
	for i := range 40 {
		r.search = append(r.search, fmt.Sprintf("%s-%02d.test", strings.Repeat("x", 80), i))
	}
	r.search = append([]string{strings.Repeat("y", 254)}, r.search...)
	got := r.limited()
	if len(got.servers) != 3 || len(strings.Join(got.search, " ")) > 2048 || len(got.search) != 23 || strings.HasPrefix(got.search[0], "y") {
		t.Errorf("%d servers, %d domains of %d characters", len(got.servers), len(got.search), len(strings.Join(got.search, " ")))
	}
}

func TestHostnameAndHosts(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: strings.Repeat("a", 62) + "-b"},
		Spec:       corev1.PodSpec{Subdomain: "sub", HostAliases: []corev1.HostAlias{{IP: "192.0.2.9", Hostnames: []string{"x", "y"}}}},
	}
	name := strings.Repeat("a", 62)
	if got := hostname(pod); got != name {
		t.Errorf("host name %s", got)
	}
	hosts := hostsFile(pod, []string{"10.0.0.2"}, "cluster.local")
	for _, line := range []string{
		"127.0.0.1\tlocalhost\n", "10.0.0.2\t" + name + ".sub.shop.svc.cluster.local\t" + name + "\n", "192.0.2.9\tx\ty\n",
	} {
		if !strings.Contains(hosts, line) {
			t.Errorf("%q lacks %q", hosts, line)
		}
	}
}
