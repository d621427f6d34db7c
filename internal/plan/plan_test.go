package plan_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
)

var web = model.Name{Namespace: "default", Name: "web"}

// ep reads an endpoint: "10.1.0.1 ready serving node=n1 zone=z1 forzone=z1 fornode=n1"; "term" is terminating.
func ep(s string) model.Endpoint {
	f := strings.Fields(s)
	e := model.Endpoint{Addr: netip.MustParseAddr(f[0])}
	for _, w := range f[1:] {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "ready":
			e.Ready, e.Serving = true, true
		case "serving":
			e.Serving = true
		case "term":
			e.Terminating = true
		case "node":
			e.Node = v
		case "zone":
			e.Zone = v
		case "forzone":
			e.ForZones = strings.Split(v, ",")
		case "fornode":
			e.ForNodes = strings.Split(v, ",")
		default:
			panic("ep: " + w)
		}
	}
	return e
}

func slice(name string, port uint16, eps ...string) *model.EndpointSlice {
	s := &model.EndpointSlice{
		Name: model.Name{Namespace: "default", Name: name}, Service: web,
		Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: port}},
	}
	for _, e := range eps {
		s.Endpoints = append(s.Endpoints, ep(e))
	}
	if len(s.Endpoints) > 0 {
		s.IPv6 = s.Endpoints[0].Addr.Is6()
	}
	return s
}

func service(change func(*model.Service)) *model.Service {
	s := &model.Service{
		Name: web, Type: model.ClusterIP, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
		Ports: []model.Port{{Name: "http", Protocol: model.TCP, Port: 80}},
	}
	if change != nil {
		change(s)
	}
	return s
}

func lookAt(svc *model.Service, slices ...*model.EndpointSlice) plan.Service {
	st := store.New()
	_, _ = st.Update(func(t *store.Txn) error {
		t.PutNode(&model.Node{Name: "n1", Zone: "z1", Addresses: []netip.Addr{
			netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("2001:db8::1"),
		}})
		if svc != nil {
			t.PutService(svc)
		}
		for _, s := range slices {
			t.PutSlice(s)
		}
		return nil
	})
	return plan.Look(st.Snapshot(), "n1").Service(st.Snapshot(), web)
}

// TestEndpoints holds the rules that choose among endpoints, for a ClusterIP with policy Cluster and Local and a NodePort with policy
// Local.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		eps     []string
		cluster string // internal policy Cluster
		local   string // internal policy Local, and external policy Local from outside
	}{
		{"ready ones", []string{"10.1.0.1 ready node=n1", "10.1.0.2 ready node=n2"}, "→ 10.1.0.1:8080,10.1.0.2:8080", "→ 10.1.0.1:8080"},
		{"sorted", []string{"10.1.0.10 ready", "10.1.0.9 ready node=n1"}, "→ 10.1.0.9:8080,10.1.0.10:8080", "→ 10.1.0.9:8080"},
		{"not ready, not terminating", []string{"10.1.0.1 serving node=n1"}, "reject", "reject"},
		{"terminating ones leave when others are ready", []string{"10.1.0.1 ready", "10.1.0.2 serving term node=n1"},
			"→ 10.1.0.1:8080", "→ 10.1.0.2:8080"},
		{"only terminating ones: those that serve", []string{"10.1.0.1 serving term node=n1", "10.1.0.2 term", "10.1.0.3 serving term node=n2"},
			"→ 10.1.0.1:8080,10.1.0.3:8080", "→ 10.1.0.1:8080"},
		{"terminating and not serving", []string{"10.1.0.1 term node=n1"}, "reject", "reject"},
		{"ready although terminating (publishNotReadyAddresses)", []string{"10.1.0.1 ready term node=n1"}, "→ 10.1.0.1:8080", "→ 10.1.0.1:8080"},
		{"none here", []string{"10.1.0.1 ready node=n2"}, "→ 10.1.0.1:8080", "drop"},
		{"endpoints without a node are not here", []string{"10.1.0.1 ready"}, "→ 10.1.0.1:8080", "drop"},
		{"none", nil, "reject", "reject"},

		{"zone hints", []string{"10.1.0.1 ready forzone=z1", "10.1.0.2 ready forzone=z2"}, "→ 10.1.0.1:8080", "drop"},
		{"one without a hint switches them off", []string{"10.1.0.1 ready forzone=z1", "10.1.0.2 ready"}, "→ 10.1.0.1:8080,10.1.0.2:8080", "drop"},
		{"unready ones without a hint do not", []string{"10.1.0.1 ready forzone=z1", "10.1.0.2", "10.1.0.3 ready forzone=z2"}, "→ 10.1.0.1:8080", "drop"},
		{"no hint for this zone: all", []string{"10.1.0.1 ready forzone=z3", "10.1.0.2 ready forzone=z2"}, "→ 10.1.0.1:8080,10.1.0.2:8080", "drop"},
		{"node hints before zone hints", []string{"10.1.0.1 ready forzone=z1 fornode=n2", "10.1.0.2 ready forzone=z2 fornode=n1"}, "→ 10.1.0.2:8080", "drop"},
		{"no node hint for this node: zone", []string{"10.1.0.1 ready forzone=z1 fornode=n2", "10.1.0.2 ready forzone=z2 fornode=n3"}, "→ 10.1.0.1:8080", "drop"},
		{"hints do not bind terminating ones", []string{"10.1.0.1 serving term forzone=z2"}, "→ 10.1.0.1:8080", "drop"},
		{"hints do not bind policy Local", []string{"10.1.0.1 ready node=n1 forzone=z2", "10.1.0.2 ready node=n2 forzone=z1"}, "→ 10.1.0.2:8080", "→ 10.1.0.1:8080"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if p := lookAt(service(nil), slice("s", 8080, c.eps...)); p.Frontends[0].Inside.String() != c.cluster {
				t.Errorf("policy Cluster: %s, want %s", p.Frontends[0].Inside, c.cluster)
			}
			local := service(func(s *model.Service) { s.InternalPolicy = model.PolicyLocal })
			if p := lookAt(local, slice("s", 8080, c.eps...)); p.Frontends[0].Inside.String() != c.local {
				t.Errorf("internal policy Local: %s, want %s", p.Frontends[0].Inside, c.local)
			}
			edge := service(func(s *model.Service) {
				s.Type, s.ExternalPolicy, s.Ports[0].NodePort = model.NodePort, model.PolicyLocal, 30080
			})
			p := lookAt(edge, slice("s", 8080, c.eps...))
			f := p.Frontends[1]
			if f.Scope != plan.NodePort || !f.Split || f.Outside.String() != c.local || f.Inside.String() != c.cluster {
				t.Errorf("external policy Local: %s", &f)
			}
		})
	}
}

// TestFrontends holds which frontends a Service has, and what is planned for them besides their backends.
func TestFrontends(t *testing.T) {
	t.Parallel()
	ips := func(s ...string) (out []netip.Addr) {
		for _, a := range s {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	one := []*model.EndpointSlice{slice("s", 8080, "10.1.0.1 ready node=n1"), slice("s6", 8080, "fd00::1 ready node=n2")}
	for _, c := range []struct {
		name   string
		change func(*model.Service)
		want   string
	}{
		{"ClusterIP", nil, "ClusterIP 10.96.0.1:80/TCP → 10.1.0.1:8080 masquerade non-pods"},
		{"headless", func(s *model.Service) { s.Headless = true }, ""},
		{"of another proxy", func(s *model.Service) { s.OtherProxy = true }, ""},
		{"no address", func(s *model.Service) { s.ClusterIPs = nil }, ""},
		{"ExternalName, even with an address", func(s *model.Service) { s.Type, s.ExternalName = model.ExternalName, "example.test" }, ""},
		{"both families", func(s *model.Service) { s.ClusterIPs = ips("fd96::1", "10.96.0.1") },
			"ClusterIP 10.96.0.1:80/TCP → 10.1.0.1:8080 masquerade non-pods; ClusterIP [fd96::1]:80/TCP → [fd00::1]:8080 masquerade non-pods"},
		{"NodePort at the node's addresses of the Service's family, never at loopback",
			func(s *model.Service) { s.Type, s.Ports[0].NodePort = model.NodePort, 30080 },
			"ClusterIP 10.96.0.1:80/TCP → 10.1.0.1:8080 masquerade non-pods; NodePort 192.0.2.1:30080/TCP → 10.1.0.1:8080 masquerade all"},
		{"external and load-balancer IPs", func(s *model.Service) {
			s.Type, s.ExternalIPs, s.LoadBalancerIPs = model.LoadBalancer, ips("203.0.113.1", "2001:db8::9"), ips("203.0.113.2")
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("198.51.100.7/24"), netip.MustParsePrefix("2001:db8::/64")}
		}, "ClusterIP 10.96.0.1:80/TCP → 10.1.0.1:8080 masquerade non-pods; ExternalIP 203.0.113.1:80/TCP → 10.1.0.1:8080 masquerade all; " +
			"LoadBalancerIP 203.0.113.2:80/TCP → 10.1.0.1:8080 masquerade all sources [198.51.100.0/24]"},
		{"where the node may come in, so may the load-balancer IPs", func(s *model.Service) {
			s.LoadBalancerIPs, s.SourceRanges = ips("203.0.113.2", "203.0.113.3"), []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}
		}, "ClusterIP 10.96.0.1:80/TCP → 10.1.0.1:8080 masquerade non-pods; " +
			"LoadBalancerIP 203.0.113.2:80/TCP → 10.1.0.1:8080 masquerade all sources [192.0.2.0/28 203.0.113.2/32 203.0.113.3/32]; " +
			"LoadBalancerIP 203.0.113.3:80/TCP → 10.1.0.1:8080 masquerade all sources [192.0.2.0/28 203.0.113.2/32 203.0.113.3/32]"},
		{"one address twice: the one that admits fewer", func(s *model.Service) {
			s.ExternalIPs, s.LoadBalancerIPs, s.SourceRanges = ips("203.0.113.1"), ips("203.0.113.1"), []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		}, "ClusterIP 10.96.0.1:80/TCP → 10.1.0.1:8080 masquerade non-pods; " +
			"LoadBalancerIP 203.0.113.1:80/TCP → 10.1.0.1:8080 masquerade all sources [198.51.100.0/24]"},
		{"a range for all is no limit", func(s *model.Service) {
			s.LoadBalancerIPs, s.SourceRanges = ips("203.0.113.2"), []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		}, "ClusterIP 10.96.0.1:80/TCP → 10.1.0.1:8080 masquerade non-pods; LoadBalancerIP 203.0.113.2:80/TCP → 10.1.0.1:8080 masquerade all"},
		{"ranges of the other family admit nobody", func(s *model.Service) {
			s.LoadBalancerIPs, s.SourceRanges = ips("203.0.113.2"), []netip.Prefix{netip.MustParsePrefix("2001:db8::/64")}
		}, "ClusterIP 10.96.0.1:80/TCP → 10.1.0.1:8080 masquerade non-pods; " +
			"LoadBalancerIP 203.0.113.2:80/TCP → 10.1.0.1:8080 masquerade all sources [0.0.0.0/32]"},
		{"one address twice: once", func(s *model.Service) { s.ExternalIPs, s.LoadBalancerIPs = ips("203.0.113.1"), ips("203.0.113.1") },
			"ClusterIP 10.96.0.1:80/TCP → 10.1.0.1:8080 masquerade non-pods; ExternalIP 203.0.113.1:80/TCP → 10.1.0.1:8080 masquerade all"},
		{"affinity", func(s *model.Service) { s.Affinity = time.Minute },
			"ClusterIP 10.96.0.1:80/TCP → 10.1.0.1:8080 masquerade non-pods affinity 1m0s"},
		{"external policy Local: only the node is masqueraded", func(s *model.Service) {
			s.ExternalIPs, s.ExternalPolicy = ips("203.0.113.1"), model.PolicyLocal
		}, "ClusterIP 10.96.0.1:80/TCP → 10.1.0.1:8080 masquerade non-pods; " +
			"ExternalIP 203.0.113.1:80/TCP → 10.1.0.1:8080 outside → 10.1.0.1:8080 masquerade node"},
		{"a port without endpoints of that name", func(s *model.Service) { s.Ports[0].Name = "other" }, "ClusterIP 10.96.0.1:80/TCP reject masquerade non-pods"},
		{"a port of another protocol", func(s *model.Service) { s.Ports[0].Protocol = model.SCTP }, "ClusterIP 10.96.0.1:80/SCTP reject masquerade non-pods"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := lookAt(service(c.change), one...)
			var got []string
			for i := range p.Frontends {
				got = append(got, p.Frontends[i].String())
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

func TestMergedSlices(t *testing.T) {
	t.Parallel()
	headless := slice("h", 8080, "10.1.0.9 ready")
	headless.Headless = true
	nowhere := slice("z", 0, "10.1.0.8 ready")
	p := lookAt(service(nil),
		slice("a", 8080, "10.1.0.1 serving term node=n1", "10.1.0.2 ready"), slice("b", 8080, "10.1.0.1 ready node=n1"),
		slice("c", 9090, "10.1.0.1 ready"), headless, nowhere)
	if got, want := p.Frontends[0].Inside.String(), "→ 10.1.0.1:8080,10.1.0.1:9090,10.1.0.2:8080"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(p.Hairpin), "[10.1.0.1]"; got != want {
		t.Errorf("hairpin %s, want %s", got, want)
	}
}

// TestNonsense gives a slice of IPv4 endpoints that are none: a kernel would refuse the whole Service for one of them.
func TestNonsense(t *testing.T) {
	t.Parallel()
	s := slice("a", 8080, "10.1.0.1 ready node=n1", "fd00::1 ready node=n1")
	s.Endpoints = append(s.Endpoints, model.Endpoint{Ready: true, Node: "n1"})
	p := lookAt(service(nil), s)
	if got, want := p.Frontends[0].Inside.String(), "→ 10.1.0.1:8080"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(p.Hairpin), "[10.1.0.1]"; got != want {
		t.Errorf("hairpin %s, want %s", got, want)
	}
}

// TestView holds where NodePorts are served.
func TestView(t *testing.T) {
	t.Parallel()
	st := store.New()
	_, _ = st.Update(func(t *store.Txn) error {
		n := &model.Node{Name: "n1"}
		for _, a := range []string{"127.0.0.1", "192.0.2.1", "198.51.100.1", "2001:db8::1", "192.0.2.1", "2001:db8:1::1"} {
			n.Addresses = append(n.Addresses, netip.MustParseAddr(a))
		}
		t.PutNode(n)
		return nil
	})
	for _, c := range []struct{ ranges, want string }{
		{"", "[192.0.2.1 2001:db8::1]"},
		{"198.51.100.0/24 2001:db8:1::/48", "[198.51.100.1 2001:db8:1::1]"},
		{"198.51.100.0/24", "[198.51.100.1 2001:db8::1 2001:db8:1::1]"},
		{"0.0.0.0/0 ::1/128", "[192.0.2.1 198.51.100.1]"},
	} {
		var ranges []netip.Prefix
		for _, r := range strings.Fields(c.ranges) {
			ranges = append(ranges, netip.MustParsePrefix(r))
		}
		v := plan.Look(st.Snapshot(), "n1", ranges...)
		if got := fmt.Sprint(v.Addrs); got != c.want || fmt.Sprint(v.Own) != "[192.0.2.1 2001:db8::1]" {
			t.Errorf("ranges %q: NodePorts at %s, want %s; own addresses %s", c.ranges, got, c.want, v.Own)
		}
	}
	if v := plan.Look(st.Snapshot(), "other"); len(v.Addrs)+len(v.Own) > 0 {
		t.Errorf("a node without a row has %+v", v)
	}
}

// TestHealth holds what load balancers are told.
func TestHealth(t *testing.T) {
	t.Parallel()
	s := slice("a", 8080, "10.1.0.2 ready node=n1", "10.1.0.1 ready node=n1", "10.1.0.3 serving term node=n1", "10.1.0.4 ready node=n2", "10.1.0.5 node=n1")
	s.Ports = append(s.Ports, model.EndpointPort{Name: "http", Protocol: model.TCP, Port: 9090}, model.EndpointPort{Name: "other", Protocol: model.TCP, Port: 1})
	lb := func(svc *model.Service) {
		svc.Type, svc.ExternalPolicy, svc.HealthCheckNodePort = model.LoadBalancer, model.PolicyLocal, 31000
	}
	h := lookAt(service(lb), s).Health
	if h.Port != 31000 || fmt.Sprint(h.Addrs) != "[192.0.2.1 2001:db8::1]" || fmt.Sprint(h.Ready) != "[10.1.0.1 10.1.0.2]" {
		t.Errorf("health check: %+v", h)
	}
	for name, change := range map[string]func(*model.Service){
		"policy Cluster":    func(s *model.Service) { s.ExternalPolicy = model.PolicyCluster },
		"another type":      func(s *model.Service) { s.Type = model.NodePort },
		"no port allocated": func(s *model.Service) { s.HealthCheckNodePort = 0 },
	} {
		if h := lookAt(service(func(s *model.Service) { lb(s); change(s) }), s).Health; h.Port != 0 || h.Addrs != nil {
			t.Errorf("%s: health check %+v", name, h)
		}
	}
}

// TestPrecedes holds who has what two Services want.
func TestPrecedes(t *testing.T) {
	t.Parallel()
	at := func(name string, second int64) *plan.Service {
		return &plan.Service{Name: model.Name{Namespace: "default", Name: name}, Created: time.Unix(second, 0)}
	}
	if a, b := at("b", 1), at("a", 2); !a.Precedes(b) || b.Precedes(a) {
		t.Error("the older one does not precede")
	}
	if a, b := at("a", 1), at("b", 1); !a.Precedes(b) || b.Precedes(a) || a.Precedes(a) {
		t.Error("of the same age the first by name does not precede")
	}
}

func TestUDPServing(t *testing.T) {
	t.Parallel()
	svc := service(func(s *model.Service) { s.Ports[0].Protocol = model.UDP })
	s := slice("a", 53, "10.1.0.1 ready", "10.1.0.2 serving term", "10.1.0.3 term", "10.1.0.4 serving")
	s.Ports[0].Protocol = model.UDP
	f := lookAt(svc, s).Frontends[0]
	want := []netip.AddrPort{netip.MustParseAddrPort("10.1.0.1:53"), netip.MustParseAddrPort("10.1.0.2:53"), netip.MustParseAddrPort("10.1.0.4:53")}
	if !slices.Equal(f.Serving, want) || f.Inside.String() != "→ 10.1.0.1:53" {
		t.Errorf("serving %v, want %v; new flows %s", f.Serving, want, f.Inside)
	}
}

func TestAbsentService(t *testing.T) {
	t.Parallel()
	if p := lookAt(nil, slice("a", 8080, "10.1.0.1 ready node=n1")); len(p.Frontends)+len(p.Hairpin)+len(p.ClusterIPs) != 0 {
		t.Errorf("a Service without a row has a plan: %s", &p)
	}
}

func BenchmarkService(b *testing.B) {
	var eps []string
	for i := range 10 {
		eps = append(eps, fmt.Sprintf("10.1.0.%d ready node=n1", i+1))
	}
	st := store.New()
	_, _ = st.Update(func(t *store.Txn) error { t.PutService(service(nil)); t.PutSlice(slice("s", 8080, eps...)); return nil })
	snap := st.Snapshot()
	v := plan.Look(snap, "n1")
	b.ReportAllocs()
	for b.Loop() {
		v.Service(snap, web)
	}
}
