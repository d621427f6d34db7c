package packets_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/proxy"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit/packets"
)

// TestChoice plans random worlds and has upstream's own code read the same objects and choose among the endpoints.
func TestChoice(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	met := map[string]int{} // what kinds of choices there were
	for i := range uint64(20_000) {
		w := randomWorld(rand.New(rand.NewPCG(seed, i)))
		if trouble := w.compare(met); trouble != "" {
			t.Fatalf("world %d of seed %d: %s\n%s", i, seed, trouble, w)
		}
	}
	for _, kind := range []string{"reject", "drop", "some of the ready", "all ready", "terminating", "health"} {
		if met[kind] < 500 {
			t.Errorf("%d choices of kind %q: the worlds are too much alike; all: %v", met[kind], kind, met)
		}
	}
}

// choiceWorld is one Service with its slices, and who looks.
type choiceWorld struct {
	node, zone string
	service    *model.Service
	slices     []*model.EndpointSlice
}

func (w *choiceWorld) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "node %q in zone %q\n%+v\n", w.node, w.zone, w.service)
	for _, s := range w.slices {
		fmt.Fprintf(&b, "%s %+v\n", s.Name, *s)
	}
	return b.String()
}

func randomWorld(r *rand.Rand) *choiceWorld {
	one := func(list ...string) string { return list[r.IntN(len(list))] }
	ip := netip.MustParseAddr
	w := &choiceWorld{node: one("n1", "n2", "n3"), zone: one("z1", "z2", "z3", "")}
	policies := []model.TrafficPolicy{model.PolicyCluster, model.PolicyLocal}
	s := &model.Service{
		Name: model.Name{Namespace: "default", Name: "s"}, Type: model.LoadBalancer,
		ClusterIPs:     [][]netip.Addr{{ip("10.96.0.1")}, {ip("fd00:10:96::1")}, {ip("10.96.0.1"), ip("fd00:10:96::1")}}[r.IntN(3)],
		InternalPolicy: policies[r.IntN(2)], ExternalPolicy: policies[r.IntN(2)],
	}
	w.service = s
	s.Ports = []model.Port{{Name: "a", Protocol: model.TCP, Port: 80}, {Name: "a", Protocol: model.UDP, Port: 80}, {Name: "b", Protocol: model.TCP, Port: 81}}[:1+r.IntN(3)]
	for i := range s.Ports {
		if r.IntN(2) == 0 {
			s.Ports[i].NodePort = uint16(30000 + i)
		}
	}
	if r.IntN(2) == 0 {
		s.ExternalIPs = []netip.Addr{ip("198.18.0.1"), ip("2001:db8:e::1")}[r.IntN(2):]
	}
	if r.IntN(2) == 0 {
		s.LoadBalancerIPs = []netip.Addr{ip("198.19.0.1"), ip("2001:db8:1b::1")}[r.IntN(2):]
	}
	if s.ExternalPolicy == model.PolicyLocal {
		s.HealthCheckNodePort = 32000
	}
	const pool = 6
	for _, f := range packets.Families {
		lives := map[int]bool{} // an address is alive at most once, and dead at most once: else upstream's choice depends on chance
		dead := map[int]bool{}
		hints := r.IntN(4)
		for n := range r.IntN(4) {
			sl := &model.EndpointSlice{Name: model.Name{Namespace: "default", Name: fmt.Sprintf("s-%v-%d", f, n)}, Service: s.Name, IPv6: f.IPv6, Headless: r.IntN(12) == 0}
			for _, p := range s.Ports {
				if r.IntN(6) > 0 {
					sl.Ports = append(sl.Ports, model.EndpointPort{Name: p.Name, Protocol: p.Protocol, Port: 8080})
				}
			}
			for range r.IntN(4) {
				k := r.IntN(pool)
				e := model.Endpoint{Node: one("n1", "n2", "n3", ""), Serving: r.IntN(2) == 0, Terminating: r.IntN(3) == 0}
				e.Addr = ip(fmt.Sprintf("10.244.0.%d", k))
				if f.IPv6 {
					e.Addr = ip(fmt.Sprintf("fd00:10:244::%d", k))
				}
				if e.Ready = r.IntN(2) == 0; e.Terminating {
					e.Ready = r.IntN(6) == 0
				}
				seen := lives
				if e.Terminating {
					seen = dead
				}
				if seen[k] || sl.Headless && lives[k] {
					continue
				}
				seen[k] = true
				if e.Node != "" {
					e.Zone = "z" + e.Node[1:]
				}
				if hints&1 != 0 && r.IntN(6) > 0 {
					e.ForZones = []string{one("z1", "z2", "z3"), one("z1", "z2", "z3")}[r.IntN(2):]
				}
				if hints&2 != 0 && r.IntN(6) > 0 {
					e.ForNodes = []string{one("n1", "n2", "n3")}
				}
				sl.Endpoints = append(sl.Endpoints, e)
			}
			w.slices = append(w.slices, sl)
		}
	}
	return w
}

// compare says where the plan is not what upstream's code says.
func (w *choiceWorld) compare(met map[string]int) string {
	st := store.New()
	_, _ = st.Update(func(t *store.Txn) error {
		t.PutNode(&model.Node{Name: w.node, Zone: w.zone, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}})
		t.PutService(w.service)
		for _, s := range w.slices {
			t.PutSlice(s)
		}
		return nil
	})
	p := plan.Look(st.Snapshot(), w.node).Service(st.Snapshot(), w.service.Name)
	got := map[string]string{}
	for i := range p.Frontends {
		f := &p.Frontends[i]
		got[fmt.Sprintf("%s %s", f.Scope, f.Key)] = f.Inside.String() + " outside " + f.Outside.String()
	}
	want := map[string]string{}
	for _, family := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
		w.upstream(family, want, met)
		ready := 0
		for _, a := range p.Health.Ready {
			if a.Is6() == (family == corev1.IPv6Protocol) {
				ready++
			}
		}
		if n, ok := want["health "+string(family)]; ok {
			met["health"]++
			if h := fmt.Sprintf("%d %d", p.Health.Port, ready); h != n {
				return fmt.Sprintf("health check: port and number of local backends %s, want %s", h, n)
			}
			delete(want, "health "+string(family))
		}
	}
	for k, v := range want {
		if got[k] != v {
			return fmt.Sprintf("%s: %q, want %q", k, got[k], v)
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			return fmt.Sprintf("%s: %q, want nothing", k, v)
		}
	}
	return ""
}

// upstream writes down what upstream's code makes of the world in one family.
func (w *choiceWorld) upstream(family corev1.IPFamily, want map[string]string, met map[string]int) {
	services, endpoints := proxy.ServicePortMap{}, proxy.EndpointsMap{}
	st := proxy.NewServiceChangeTracker(family, nil, nil)
	st.Update(nil, serviceObject(&packets.World{}, w.service))
	services.Update(st)
	et := proxy.NewEndpointsChangeTracker(family, w.node, nil, nil)
	for _, s := range w.slices {
		if !s.Headless { // which kube-proxy does not watch
			et.EndpointSliceUpdate(sliceObject(s), false)
		}
	}
	endpoints.Update(et)
	labels := map[string]string{}
	if w.zone != "" {
		labels[corev1.LabelTopologyZone] = w.zone
	}
	name := types.NamespacedName{Namespace: "default", Name: "s"}
	for key, svc := range services {
		cluster, local, _, any := proxy.CategorizeEndpoints(endpoints[key], svc, w.node, labels)
		choose := func(useLocal bool) string {
			set := cluster
			if useLocal {
				set = local
			}
			switch {
			case len(set) > 0:
				met[kindOf(set, endpoints[key])]++
				return text(set)
			case any:
				met["drop"]++
				return "drop"
			}
			met["reject"]++
			return "reject"
		}
		add := func(scope plan.Scope, addr string, port int, inside, outside string) {
			p, _ := model.ParseProtocol(string(svc.Protocol()))
			want[fmt.Sprintf("%s %s", scope, plan.Key{Addr: netip.MustParseAddr(addr), Protocol: p, Port: uint16(port)})] = inside + " outside " + outside
		}
		internal := choose(svc.InternalPolicyLocal())
		add(plan.ClusterIP, svc.ClusterIP().String(), svc.Port(), internal, internal)
		if !svc.ExternallyAccessible() {
			continue
		}
		inside, outside := choose(false), choose(svc.ExternalPolicyLocal())
		if svc.NodePort() != 0 {
			own := map[corev1.IPFamily]string{corev1.IPv4Protocol: "192.0.2.1", corev1.IPv6Protocol: "2001:db8::1"}[family]
			add(plan.NodePort, own, svc.NodePort(), inside, outside)
		}
		for _, ip := range svc.ExternalIPs() {
			add(plan.ExternalIP, ip.String(), svc.Port(), inside, outside)
		}
		for _, ip := range svc.LoadBalancerVIPs() {
			add(plan.LoadBalancerIP, ip.String(), svc.Port(), inside, outside)
		}
	}
	if port := services.HealthCheckNodePorts()[name]; port != 0 {
		// Upstream counts endpoints of ports that the Service does not have, too; here every slice has ports of the Service only.
		want["health "+string(family)] = fmt.Sprintf("%d %d", port, endpoints.LocalReadyEndpoints()[name])
	}
}

// text is how a plan prints such a set.
func text(set []proxy.Endpoint) string {
	var out []netip.AddrPort
	for _, e := range set {
		out = append(out, netip.MustParseAddrPort(e.String()))
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return plan.Choice{Backends: out}.String()
}

func kindOf(set, all []proxy.Endpoint) string {
	ready := 0
	for _, e := range all {
		if e.IsReady() {
			ready++
		}
	}
	switch {
	case !set[0].IsReady():
		return "terminating"
	case len(set) < ready:
		return "some of the ready"
	}
	return "all ready"
}
