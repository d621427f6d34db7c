package apiserver

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// manifest parses the spec of a Service, written in flow style to keep tables readable.
func manifest(t *testing.T, name, spec string) *corev1.Service {
	t.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := parse(spec, &svc.Spec); err != nil {
		t.Fatal(err)
	}
	return svc
}

func parse(spec string, into *corev1.ServiceSpec) error {
	if err := yaml.Unmarshal([]byte(spec), into); err != nil {
		return fmt.Errorf("manifest %s: %w", spec, err)
	}
	return nil
}

// describe is what the rules are about, in one line. Allocated values appear as what they are in: v4, v6 (service ranges),
// np (node port range).
func describe(svc *corev1.Service) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", svc.Spec.Type)
	var ips, families []string
	for i, ip := range svc.Spec.ClusterIPs {
		if i == 0 && ip != svc.Spec.ClusterIP {
			ip = fmt.Sprintf("clusterIP %s is not clusterIPs[0] %s", svc.Spec.ClusterIP, ip)
		}
		ips = append(ips, where(ip))
	}
	for _, family := range svc.Spec.IPFamilies {
		families = append(families, strings.TrimPrefix(string(family), "IP"))
	}
	fmt.Fprintf(&b, " ips=%s", strings.Join(ips, ","))
	policy := "-"
	if svc.Spec.IPFamilyPolicy != nil {
		policy = string(*svc.Spec.IPFamilyPolicy)
	}
	fmt.Fprintf(&b, " families=%s policy=%s", strings.Join(families, ","), policy)
	for _, p := range svc.Spec.Ports {
		port := fmt.Sprint(p.NodePort)
		if p.NodePort >= 30086 {
			port = "np"
		}
		fmt.Fprintf(&b, " %d/%s→%s", p.Port, p.Protocol, port)
	}
	if svc.Spec.HealthCheckNodePort != 0 {
		fmt.Fprint(&b, " health=np")
	}
	return b.String()
}

func where(ip string) string {
	addr, err := netip.ParseAddr(ip)
	switch {
	case err != nil:
		return ip
	case netip.MustParsePrefix("10.96.0.0/24").Contains(addr) || netip.MustParsePrefix("fd00:96::/120").Contains(addr):
		return ip // chosen by a test: nothing is picked from the static band
	case netip.MustParsePrefix("10.96.0.0/12").Contains(addr):
		return "v4"
	case netip.MustParsePrefix("fd00:96::/108").Contains(addr):
		return "v6"
	}
	return ip
}

// Manifests on a server with IPv4 (default) and IPv6.
func TestCreateService(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	for i, test := range []struct{ spec, want string }{
		{`{ports: [{port: 80}]}`, "ClusterIP ips=v4 families=v4 policy=SingleStack 80/TCP→0"},
		{`{ipFamilies: [IPv6], ports: [{port: 80}]}`, "ClusterIP ips=v6 families=v6 policy=SingleStack 80/TCP→0"},
		{`{ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}`, "ClusterIP ips=v4,v6 families=v4,v6 policy=PreferDualStack 80/TCP→0"},
		{`{ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6], ports: [{port: 80}]}`, "ClusterIP ips=v6,v4 families=v6,v4 policy=RequireDualStack 80/TCP→0"},
		{`{ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6, IPv4], ports: [{port: 80}]}`, "ClusterIP ips=v6,v4 families=v6,v4 policy=PreferDualStack 80/TCP→0"},
		{`{clusterIP: 10.96.0.11, ports: [{port: 80}]}`, "ClusterIP ips=10.96.0.11 families=v4 policy=SingleStack 80/TCP→0"},
		{`{clusterIP: "fd00:96::11", ports: [{port: 80}]}`, "ClusterIP ips=fd00:96::11 families=v6 policy=SingleStack 80/TCP→0"},
		{`{clusterIP: "fd00:96::12", clusterIPs: ["fd00:96::12", 10.96.0.12], ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}`,
			"ClusterIP ips=fd00:96::12,10.96.0.12 families=v6,v4 policy=RequireDualStack 80/TCP→0"},
		{`{clusterIP: 10.96.0.13, ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}`, "ClusterIP ips=10.96.0.13,v6 families=v4,v6 policy=PreferDualStack 80/TCP→0"},
		{`{clusterIP: None, selector: {a: b}}`, "ClusterIP ips=None families=v4 policy=SingleStack"},
		{`{clusterIP: None, selector: {a: b}, ipFamilyPolicy: PreferDualStack}`, "ClusterIP ips=None families=v4,v6 policy=PreferDualStack"},
		{`{clusterIP: None}`, "ClusterIP ips=None families=v4,v6 policy=RequireDualStack"},
		{`{clusterIP: None, ipFamilies: [IPv6]}`, "ClusterIP ips=None families=v6,v4 policy=RequireDualStack"},
		{`{clusterIP: None, ipFamilyPolicy: SingleStack}`, "ClusterIP ips=None families=v4 policy=SingleStack"},
		{`{type: ExternalName, externalName: example.test}`, "ExternalName ips= families= policy=-"},
		{`{type: NodePort, ports: [{port: 80}]}`, "NodePort ips=v4 families=v4 policy=SingleStack 80/TCP→np"},
		{`{type: NodePort, ports: [{port: 80, nodePort: 30001}]}`, "NodePort ips=v4 families=v4 policy=SingleStack 80/TCP→30001"},
		{`{type: NodePort, ports: [{name: u, port: 53, protocol: UDP, nodePort: 30002}, {name: t, port: 53}]}`,
			"NodePort ips=v4 families=v4 policy=SingleStack 53/UDP→30002 53/TCP→30002"},
		{`{type: NodePort, ports: [{name: t, port: 53}, {name: u, port: 53, protocol: UDP, nodePort: 30003}]}`,
			"NodePort ips=v4 families=v4 policy=SingleStack 53/TCP→30003 53/UDP→30003"},
		{`{type: LoadBalancer, ports: [{port: 80}]}`, "LoadBalancer ips=v4 families=v4 policy=SingleStack 80/TCP→np"},
		{`{type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}, ]}`, "LoadBalancer ips=v4 families=v4 policy=SingleStack 80/TCP→0"},
		{`{type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{name: a, port: 80, nodePort: 30004}, {name: b, port: 81}]}`,
			"LoadBalancer ips=v4 families=v4 policy=SingleStack 80/TCP→30004 81/TCP→0"},
		{`{type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}]}`, "LoadBalancer ips=v4 families=v4 policy=SingleStack 80/TCP→np health=np"},

		{`{clusterIP: 10.96.0.1, ports: [{port: 80}]}`, "error spec.clusterIPs: failed to allocate IP: provided IP is already allocated"},
		{`{clusterIP: 10.96.0.0, ports: [{port: 80}]}`, "error spec.clusterIPs: does not match the current range"},
		{`{clusterIP: 10.111.255.255, ports: [{port: 80}]}`, "error spec.clusterIPs: does not match the current range"},
		{`{clusterIP: 192.0.2.7, ports: [{port: 80}]}`, "error spec.clusterIPs: does not match the current range"},
		{`{clusterIP: nonsense, ports: [{port: 80}]}`, "error spec.clusterIPs[0]"},
		{`{clusterIP: 10.96.0.19, clusterIPs: [10.96.0.110], ports: [{port: 80}]}`, "error spec.clusterIPs"},
		{`{clusterIP: 10.96.0.19, clusterIPs: [10.96.0.19, "fd00:96::19"], ipFamilyPolicy: SingleStack, ports: [{port: 80}]}`, "error spec.ipFamilyPolicy"},
		{`{clusterIP: 10.96.0.19, ipFamilies: [IPv6], ports: [{port: 80}]}`, "error spec.clusterIPs[0]"},
		{`{ipFamilies: [IPv4, IPv6], ports: [{port: 80}]}`, "error spec.ipFamilyPolicy"},
		{`{type: NodePort, clusterIP: None, ports: [{port: 80}]}`, "error spec.clusterIPs[0]"},
		{`{type: NodePort, ports: [{port: 80, nodePort: 29999}]}`, "error spec.ports[0].nodePort: not in the valid range"},
		{`{type: NodePort, ports: [{name: a, port: 80, nodePort: 30005}, {name: b, port: 81, nodePort: 30005}]}`, "error spec.ports[1].nodePort"},
		{`{ports: [{port: 80, nodePort: 30006}]}`, "error spec.ports[0].nodePort"},
		{`{ports: [{port: 0}]}`, "error spec.ports[0].port"},
		{`{ports: []}`, "error spec.ports"},
	} {
		svc, err := shared.client.CoreV1().Services(ns).Create(t.Context(), manifest(t, fmt.Sprintf("s%d", i), test.spec), metav1.CreateOptions{})
		check(t, test.spec, test.want, svc, err)
	}
	// What failed has left nothing behind: all these are free.
	for i, spec := range []string{
		`{clusterIP: 10.96.0.19, clusterIPs: [10.96.0.19, "fd00:96::19"], ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}`,
		`{clusterIP: 10.96.0.110, ports: [{port: 80}]}`,
		`{type: NodePort, ports: [{name: a, port: 80, nodePort: 30005}, {name: b, port: 81, nodePort: 30006}]}`,
	} {
		if _, err := shared.client.CoreV1().Services(ns).Create(t.Context(), manifest(t, fmt.Sprintf("free%d", i), spec), metav1.CreateOptions{}); err != nil {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// check compares a result with a description or, after "error", with a field and a piece of the message.
func check(t *testing.T, what, want string, svc *corev1.Service, err error) {
	t.Helper()
	if fault, failure := strings.CutPrefix(want, "error "); failure {
		for _, piece := range strings.Split(fault, ": ") {
			if err == nil || !strings.Contains(err.Error(), piece) {
				t.Errorf("%s\n got %v\nwant an error with %q", what, err, piece)
			}
		}
		if err != nil && !apierrors.IsInvalid(err) {
			t.Errorf("%s: the error is not Invalid: %v", what, err)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", what, err)
	} else if got := describe(svc); got != want {
		t.Errorf("%s\n got %s\nwant %s", what, got, want)
	}
}

// Each row is the life of one Service: a manifest, and patches to it with what they lead to.
func TestUpdateService(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	type step struct{ patch, want string }
	for i, test := range []struct {
		spec  string
		steps []step
	}{
		{`{ports: [{port: 80}]}`, []step{
			{`{type: NodePort}`, "NodePort ips=v4 families=v4 policy=SingleStack 80/TCP→np"},
			{`{type: LoadBalancer}`, "LoadBalancer ips=v4 families=v4 policy=SingleStack 80/TCP→np"},
			{`{externalTrafficPolicy: Local}`, "LoadBalancer ips=v4 families=v4 policy=SingleStack 80/TCP→np health=np"},
			{`{externalTrafficPolicy: Cluster}`, "LoadBalancer ips=v4 families=v4 policy=SingleStack 80/TCP→np"},
			{`{type: ClusterIP}`, "ClusterIP ips=v4 families=v4 policy=SingleStack 80/TCP→0"},
			{`{type: ExternalName, externalName: example.test}`, "ExternalName ips= families= policy=- 80/TCP→0"},
			{`{type: ClusterIP, externalName: null}`, "ClusterIP ips=v4 families=v4 policy=SingleStack 80/TCP→0"},
			{`{ipFamilyPolicy: PreferDualStack}`, "ClusterIP ips=v4,v6 families=v4,v6 policy=PreferDualStack 80/TCP→0"},
			{`{ipFamilyPolicy: RequireDualStack}`, "ClusterIP ips=v4,v6 families=v4,v6 policy=RequireDualStack 80/TCP→0"},
			{`{ipFamilies: [IPv4]}`, "error spec.ipFamilyPolicy: must be SingleStack"},
			{`{ipFamilyPolicy: SingleStack}`, "ClusterIP ips=v4 families=v4 policy=SingleStack 80/TCP→0"},
			{`{ipFamilies: [IPv6]}`, "error spec.clusterIPs[0]: expected an IPv6 value"},
			{`{clusterIP: 10.96.0.120, clusterIPs: [10.96.0.120]}`, "error spec.clusterIPs[0]"},
		}},
		// The second address may be chosen, given up and chosen again.
		{`{clusterIP: 10.96.0.121, ports: [{port: 80}]}`, []step{
			{`{ipFamilyPolicy: PreferDualStack, clusterIPs: [10.96.0.121, "fd00:96::21"]}`, "ClusterIP ips=10.96.0.121,fd00:96::21 families=v4,v6 policy=PreferDualStack 80/TCP→0"},
			{`{ipFamilyPolicy: SingleStack, clusterIPs: [10.96.0.121], ipFamilies: [IPv4]}`, "ClusterIP ips=10.96.0.121 families=v4 policy=SingleStack 80/TCP→0"},
			{`{ipFamilyPolicy: RequireDualStack, clusterIPs: [10.96.0.121, "fd00:96::21"]}`, "ClusterIP ips=10.96.0.121,fd00:96::21 families=v4,v6 policy=RequireDualStack 80/TCP→0"},
		}},
		{`{type: NodePort, ports: [{name: a, port: 80, nodePort: 30011}]}`, []step{
			{`{ports: [{name: a, port: 80, nodePort: 30012}]}`, "NodePort ips=v4 families=v4 policy=SingleStack 80/TCP→30012"},
			{`{ports: [{name: a, port: 80, nodePort: 30011}, {name: b, port: 81}]}`, "NodePort ips=v4 families=v4 policy=SingleStack 80/TCP→30011 81/TCP→np"},
			{`{ports: [{name: b, port: 81, nodePort: 30011}]}`, "NodePort ips=v4 families=v4 policy=SingleStack 81/TCP→30011"},
			{`{type: ExternalName, externalName: example.test, ports: null}`, "ExternalName ips= families= policy=-"},
			{`{type: NodePort, externalName: null, ports: [{name: b, port: 81, nodePort: 30011}]}`, "NodePort ips=v4 families=v4 policy=SingleStack 81/TCP→30011"},
		}},
		{`{clusterIP: None, selector: {a: b}}`, []step{
			{`{type: NodePort, ports: [{port: 80}]}`, "error spec.clusterIPs[0]"},
			{`{ipFamilyPolicy: PreferDualStack}`, "ClusterIP ips=None families=v4,v6 policy=PreferDualStack"},
			{`{type: ExternalName, externalName: example.test}`, "ExternalName ips= families= policy=-"},
			{`{type: ClusterIP, externalName: null, ports: [{port: 80}]}`, "ClusterIP ips=v4 families=v4 policy=SingleStack 80/TCP→0"},
		}},
	} {
		name := fmt.Sprintf("s%d", i)
		svc, err := shared.client.CoreV1().Services(ns).Create(t.Context(), manifest(t, name, test.spec), metav1.CreateOptions{})
		if err != nil {
			t.Errorf("%s: %v", test.spec, err)
			continue
		}
		first := svc.Spec.ClusterIP
		for _, step := range test.steps {
			var change any
			if err := yaml.Unmarshal([]byte("{spec: "+step.patch+"}"), &change); err != nil {
				t.Fatalf("patch %s: %v", step.patch, err)
			}
			patch, err := json.Marshal(change)
			if err != nil {
				t.Fatal(err)
			}
			svc, err := shared.client.CoreV1().Services(ns).Patch(t.Context(), name, "application/merge-patch+json", patch, metav1.PatchOptions{})
			check(t, test.spec+" patched with "+step.patch, step.want, svc, err)
			if err == nil && svc.Spec.Type != corev1.ServiceTypeExternalName && first != "" && svc.Spec.ClusterIP != first {
				t.Errorf("%s patched with %s: the first address became %s, was %s", test.spec, step.patch, svc.Spec.ClusterIP, first)
			}
			if err == nil && (svc.Spec.Type == corev1.ServiceTypeExternalName || first == "") {
				first = svc.Spec.ClusterIP
			}
		}
	}
	// Everything that was given up on the way is free.
	for i, spec := range []string{`{type: NodePort, ports: [{port: 80, nodePort: 30012}]}`, `{clusterIP: 10.96.0.120, ports: [{port: 80}]}`} {
		if _, err := shared.client.CoreV1().Services(ns).Create(t.Context(), manifest(t, fmt.Sprintf("free%d", i), spec), metav1.CreateOptions{}); err != nil {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// A manifest may be put again without what the server had filled in.
func TestPutManifestAgain(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	services := shared.client.CoreV1().Services(ns)
	spec := `{type: LoadBalancer, externalTrafficPolicy: Local, ipFamilyPolicy: RequireDualStack, ports: [{name: a, port: 80}, {name: b, port: 81}]}`
	before, err := services.Create(t.Context(), manifest(t, "again", spec), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	after, err := services.Update(t.Context(), manifest(t, "again", spec), metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if before.ResourceVersion != after.ResourceVersion {
		t.Errorf("the same manifest made a change:\nbefore %s\nafter  %s", describe(before), describe(after))
	}
	// Ports that change places keep their node ports by name.
	swapped, err := services.Update(t.Context(), manifest(t, "again", strings.Replace(spec, "{name: a, port: 80}, {name: b, port: 81}", "{name: b, port: 81}, {name: a, port: 80}", 1)), metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if swapped.Spec.Ports[0].NodePort != before.Spec.Ports[1].NodePort || swapped.Spec.Ports[1].NodePort != before.Spec.Ports[0].NodePort {
		t.Errorf("before %v, after %v", before.Spec.Ports, swapped.Spec.Ports)
	}
}

// A single-stack server with eight addresses and four node ports: what is full, is full, and comes back when deleted.
func TestExhaustion(t *testing.T) {
	t.Parallel()
	config := dualStack(shortDir(t))
	config.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/29")}
	config.NodePorts = utilnet.PortRange{Base: 30000, Size: 4}
	r := startFor(t, config)
	services := r.client.CoreV1().Services("default")
	create := func(name, spec string) (*corev1.Service, error) {
		return services.Create(t.Context(), manifest(t, name, spec), metav1.CreateOptions{})
	}
	used := map[string]bool{"10.96.0.1": true} // default/kubernetes
	for i := range 5 {
		svc, err := create(fmt.Sprintf("a%d", i), `{ports: [{port: 80}]}`)
		if err != nil {
			t.Fatal(err)
		}
		if used[svc.Spec.ClusterIP] {
			t.Fatalf("%s was given out twice", svc.Spec.ClusterIP)
		}
		used[svc.Spec.ClusterIP] = true
	}
	if svc, err := create("toomany", `{ports: [{port: 80}]}`); err == nil || err.Error() != `Internal error occurred: failed to allocate a serviceIP for Service "toomany": range is full` {
		t.Fatalf("all addresses are in use, and yet: %v, %v", svc, err)
	}
	if err := services.Delete(t.Context(), "a3", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// The address is taken before the node ports run out, and must come back.
	for range 3 {
		_, err := create("ports", `{type: NodePort, ports: [{name: a, port: 1}, {name: b, port: 2}, {name: c, port: 3}, {name: d, port: 4}, {name: e, port: 5}]}`)
		if err == nil || err.Error() != "Internal error occurred: failed to allocate a nodePort: range is full" {
			t.Fatalf("five of four node ports were given out: %v", err)
		}
	}
	if _, err := create("fits", `{type: NodePort, ports: [{name: a, port: 1}, {name: b, port: 2}, {name: c, port: 3}, {name: d, port: 4}]}`); err != nil {
		t.Fatal(err)
	}
	// Rules of a single-stack server.
	for _, test := range []struct{ spec, want string }{
		{`{ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}`, "error spec.ipFamilyPolicy: not configured for dual-stack"},
		{`{ipFamilies: [IPv6], ports: [{port: 80}]}`, "error spec.ipFamilies[0]: not configured"},
		{`{clusterIP: "fd00:96::11", ports: [{port: 80}]}`, "error spec.clusterIPs[0]: not configured"},
		{`{clusterIP: None}`, "ClusterIP ips=None families=v4,v6 policy=RequireDualStack"},
		{`{clusterIP: None, selector: {a: b}, ipFamilyPolicy: PreferDualStack}`, "ClusterIP ips=None families=v4 policy=PreferDualStack"},
	} {
		svc, err := create("rule-"+fmt.Sprint(len(test.spec)), test.spec)
		check(t, test.spec, test.want, svc, err)
	}
}

// A dry run shows what would be given and gives nothing.
func TestDryRun(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	services := shared.client.CoreV1().Services(ns)
	spec := `{type: NodePort, clusterIP: 10.96.0.130, ports: [{name: a, port: 80, nodePort: 30021}, {name: b, port: 81}]}`
	want := "NodePort ips=10.96.0.130 families=v4 policy=SingleStack 80/TCP→30021 81/TCP→np"
	all := []string{metav1.DryRunAll}
	for range 2 {
		svc, err := services.Create(t.Context(), manifest(t, "dry", spec), metav1.CreateOptions{DryRun: all})
		check(t, "dry run", want, svc, err)
	}
	svc, err := services.Create(t.Context(), manifest(t, "dry", spec), metav1.CreateOptions{})
	check(t, "the real one", want, svc, err)
	if _, err := services.Create(t.Context(), manifest(t, "other", spec), metav1.CreateOptions{DryRun: all}); !apierrors.IsInvalid(err) {
		t.Errorf("a dry run does not see that the address is taken: %v", err)
	}
	// Neither a dry update nor a dry delete frees anything.
	if _, err := services.Update(t.Context(), manifest(t, "dry", `{type: ExternalName, externalName: example.test}`), metav1.UpdateOptions{DryRun: all}); err != nil {
		t.Error(err)
	}
	if err := services.Delete(t.Context(), "dry", metav1.DeleteOptions{DryRun: all}); err != nil {
		t.Error(err)
	}
	if _, err := services.Create(t.Context(), manifest(t, "thief", spec), metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a dry run freed an address: %v", err)
	}
	if err := services.Delete(t.Context(), "dry", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	svc, err = services.Create(t.Context(), manifest(t, "next", spec), metav1.CreateOptions{})
	check(t, "after the real delete", want, svc, err)
}

// Many clients ask for the same things at once: each is given out once, also when Services are being updated and deleted.
func TestConcurrentWrites(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	services := shared.client.CoreV1().Services(ns)
	var wg sync.WaitGroup
	var winners sync.Map
	for worker := range 8 {
		wg.Go(func() {
			for round := range 20 {
				// All of them want this one.
				name := fmt.Sprintf("same-%d-%d", worker, round)
				svc, err := services.Create(t.Context(), manifest(t, name, `{type: NodePort, clusterIP: 10.96.0.140, ports: [{port: 80, nodePort: 30031}]}`), metav1.CreateOptions{})
				switch {
				case err == nil:
					if other, taken := winners.Swap("same", name); taken {
						t.Errorf("%s and %s hold the same address", other, name)
					}
					winners.Delete("same")
					if err := services.Delete(t.Context(), svc.Name, metav1.DeleteOptions{}); err != nil {
						t.Error(err)
					}
				case !apierrors.IsInvalid(err):
					t.Errorf("%s: %v", name, err)
				}
				// And these change one Service against each other.
				patch := []byte(`{"spec":{"type":"NodePort"}}`)
				if round%2 == 1 {
					patch = []byte(`{"spec":{"type":"ExternalName","externalName":"example.test"}}`)
				}
				if _, err := services.Create(t.Context(), manifest(t, "contended", `{ports: [{port: 80}]}`), metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
					t.Error(err)
				}
				if _, err := services.Patch(t.Context(), "contended", "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil && !apierrors.IsConflict(err) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	svc, err := services.Create(t.Context(), manifest(t, "last", `{type: NodePort, clusterIP: 10.96.0.140, ports: [{port: 80, nodePort: 30031}]}`), metav1.CreateOptions{})
	check(t, "after all have deleted theirs", "NodePort ips=10.96.0.140 families=v4 policy=SingleStack 80/TCP→30031", svc, err)
}
