package packets

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// single adds packets of one rule to a view, in both families; each protocol in protocols.
type single struct {
	*View
	rule string
}

func (s single) add(what string, from Client, protocol model.Protocol, to func(Family) plan.Key, want func(Family) Outcome) {
	for _, f := range Families {
		k := to(f)
		k.Protocol = protocol
		if protocol == ICMP && f.IPv6 {
			k.Protocol = ICMPv6
		}
		s.Packets = append(s.Packets, Packet{
			Name: fmt.Sprintf("%s/%s/%s %s from %s", s.rule, what, f, k.Protocol, from), From: from, To: k, Want: want(f),
		})
	}
}

// differs says that upstream does otherwise with the packets added since there were n.
func (s single) differs(n int, paragraph string, kubeProxy func(Packet) Outcome) {
	for i := n; i < len(s.Packets); i++ {
		o := kubeProxy(s.Packets[i])
		s.Packets[i].KubeProxy, s.Packets[i].Difference = &o, paragraph
	}
}

func is(v Verdict) func(Family) Outcome { return func(Family) Outcome { return Outcome{Verdict: v} } }

// forward is for backends given by name, at Target; source kept or not.
func forward(pods string, kept bool) func(Family) Outcome {
	return func(f Family) Outcome {
		return Outcome{Verdict: Forward, Backends: backends(f, strings.Fields(pods), Target), Kept: kept}
	}
}

func (v *View) at(s *numbered, kind plan.Scope) func(Family) plan.Key {
	return func(f Family) plan.Key { return s.key(f, kind, 0, v.Node) }
}

// port is at another port of the same address.
func port(n uint16, key func(Family) plan.Key) func(Family) plan.Key {
	return func(f Family) plan.Key { k := key(f); k.Port = n; return k }
}

func literal(v4, v6 string, port uint16) func(Family) plan.Key {
	return func(f Family) plan.Key { return plan.Key{Addr: f.of(v4, v6), Port: port} }
}

// singles are the rules that stand alone, as node n1 sees them.
func (b *builder) singles(v *View) {
	b.hairpin(v)
	b.nobodysPorts(v)
	b.oddSlices(v)
	b.oddServices(v)
	b.sourceRanges(v)
	b.contested(v)
	b.affinity(v)
}

func (b *builder) hairpin(v *View) {
	s := single{v, "a Pod that is its own backend"}
	cluster := b.service("self", nil)
	b.slices(cluster, "a1", nil)
	local := b.service("self-local", func(s *model.Service) { s.InternalPolicy, s.ExternalPolicy = model.PolicyLocal, model.PolicyLocal })
	b.slices(local, "a1 b1", nil)
	for _, p := range Protocols {
		s.add("ClusterIP", "a1", p, v.at(cluster, plan.ClusterIP), forward("a1", false))
		s.add("another Pod is not", "a2", p, v.at(cluster, plan.ClusterIP), forward("a1", true))
		s.add("internal policy Local", "a1", p, v.at(local, plan.ClusterIP), forward("a1", false))
	}
	s.add("NodePort", "a1", model.TCP, v.at(cluster, plan.NodePort), forward("a1", false))
	only := b.service("self-only-local", func(s *model.Service) { s.ExternalPolicy = model.PolicyLocal })
	b.slices(only, "a1", nil)
	for _, k := range kinds[1:] {
		s.add("external policy Local, "+k.String(), "a1", model.TCP, v.at(only, k), forward("a1", false))
	}
}

func (b *builder) nobodysPorts(v *View) {
	s := single{v, "what no Service has"}
	plain := b.service("plain", func(s *model.Service) { s.Ports = s.Ports[:1] }) // TCP alone
	b.slices(plain, "a1", nil)
	for _, c := range []Client{"n1", "a9", "b9", "outside"} {
		for _, p := range Protocols {
			s.add("another port of a ClusterIP", c, p, port(81, v.at(plain, plan.ClusterIP)), is(Reject))
			s.add("another port of an external IP", c, p, port(81, v.at(plain, plan.ExternalIP)), is(Pass))
			s.add("an address of the first range", c, p, literal("10.96.200.200", "fd00:10:96::c8c8", 80), is(Drop))
			s.add("an address of the second range", c, p, literal("10.98.0.77", "fd00:10:98::77", 80), is(Drop))
		}
		for _, p := range Protocols[1:] {
			s.add("the port of another protocol", c, p, v.at(plain, plan.ClusterIP), is(Reject))
			s.add("the NodePort of another protocol", c, p, v.at(plain, plan.NodePort), is(Pass))
		}
		s.add("ping to a ClusterIP", c, ICMP, v.at(plain, plan.ClusterIP), is(Reject))
		s.add("ping to nobody's ClusterIP", c, ICMP, literal("10.96.200.200", "fd00:10:96::c8c8", 0), is(Drop))
		s.add("ping to an external IP", c, ICMP, v.at(plain, plan.ExternalIP), is(Pass))
	}
	for _, c := range []Client{"n1", "a9", "outside"} {
		second := func(f Family) plan.Key { return plan.Key{Addr: secondAddr(f), Port: plain.nodePort()} }
		s.add("NodePort at another address of the node", c, model.TCP, second, is(Pass))
	}
	for _, f := range Families {
		loopback := f.of("127.0.0.1", "::1")
		s.Packets = append(s.Packets, Packet{
			Name: "what no Service has/NodePort at loopback/" + f.String(), From: Client(loopback.String()),
			To: plan.Key{Addr: loopback, Protocol: model.TCP, Port: plain.nodePort()}, Want: Outcome{Verdict: Pass},
		})
	}
}

func (b *builder) oddSlices(v *View) {
	s := single{v, "slices"}
	ports := b.service("two-ports", nil)
	b.slices(ports, "a1; b1", func(i int, sl *model.EndpointSlice) {
		for j := range sl.Ports {
			sl.Ports[j].Port = Target + uint16(i)
		}
	})
	misnamed := b.service("misnamed", nil)
	b.slices(misnamed, "a1", func(_ int, sl *model.EndpointSlice) { sl.Ports[0].Name, sl.Ports[1].Name = "other", "tcp" })
	headless := b.service("for-headless", nil)
	b.slices(headless, "a1", func(_ int, sl *model.EndpointSlice) { sl.Headless = true })
	beside := b.service("beside-headless", nil)
	b.slices(beside, "a1; b1", func(i int, sl *model.EndpointSlice) { sl.Headless = i == 0 })
	portless := b.service("portless", nil)
	b.slices(portless, "a1; b1", func(i int, sl *model.EndpointSlice) {
		if i == 0 {
			sl.Ports[0].Port = 0
		}
	})
	for _, c := range []Client{"n1", "a9", "outside"} {
		kept := c == "a9"
		s.add("each with its own port", c, model.TCP, v.at(ports, plan.ClusterIP), func(f Family) Outcome {
			return Outcome{Verdict: Forward, Kept: kept, Backends: append(backends(f, []string{"a1"}, Target), backends(f, []string{"b1"}, Target+1)...)}
		})
		s.add("a port of another name", c, model.TCP, v.at(misnamed, plan.ClusterIP), is(Reject))
		s.add("a port of the right name and another protocol", c, model.UDP, v.at(misnamed, plan.NodePort), is(Reject))
		s.add("the right one of that Service", c, model.SCTP, v.at(misnamed, plan.ClusterIP), forward("a1", kept))
		s.add("made for headless Services", c, model.TCP, v.at(headless, plan.ClusterIP), is(Reject))
		s.add("made for headless Services, beside another", c, model.TCP, v.at(beside, plan.ClusterIP), forward("b1", kept))
		s.add("without a port number", c, model.TCP, v.at(portless, plan.ClusterIP), forward("b1", kept))
		s.add("without a port number, another port", c, model.UDP, v.at(portless, plan.ClusterIP), forward("a1 b1", kept))
	}
}

func (b *builder) oddServices(v *View) {
	s := single{v, "services"}
	headless := b.service("headless", func(s *model.Service) {
		s.Type, s.Headless, s.ClusterIPs, s.LoadBalancerIPs = model.ClusterIP, true, nil, nil
		clearNodePorts(s)
	})
	b.slices(headless, "a1", nil)
	plain := b.service("external-only", func(s *model.Service) {
		s.Type, s.LoadBalancerIPs = model.ClusterIP, nil
		clearNodePorts(s)
	})
	b.slices(plain, "a1 b1", nil)
	local := b.service("external-only-local", func(s *model.Service) {
		s.Type, s.LoadBalancerIPs, s.ExternalPolicy = model.ClusterIP, nil, model.PolicyLocal
		clearNodePorts(s)
	})
	b.slices(local, "a1 b1", nil)
	bare := b.service("no-node-ports", clearNodePorts)
	b.slices(bare, "b1", nil)
	others := b.service("another-proxys", func(s *model.Service) { s.OtherProxy = true })
	b.slices(others, "a1", nil)
	proxied := b.service("proxied", func(s *model.Service) { s.LoadBalancerIPs = nil })
	for _, f := range Families {
		b.world.ProxyIPs[proxied.Name] = append(b.world.ProxyIPs[proxied.Name], proxied.Addr(f, plan.LoadBalancerIP))
	}
	b.slices(proxied, "a1", nil)
	for _, c := range []Client{"n1", "a9", "outside"} {
		kept := c == "a9"
		s.add("external IP of a headless one", c, model.TCP, v.at(headless, plan.ExternalIP), is(Pass))
		s.add("of another proxy: external IP", c, model.TCP, v.at(others, plan.ExternalIP), is(Pass))
		s.add("of another proxy: ClusterIP", c, model.TCP, v.at(others, plan.ClusterIP), is(Drop))
		s.add("type ClusterIP with external IPs: ClusterIP", c, model.TCP, v.at(plain, plan.ClusterIP), forward("a1 b1", kept))
		s.add("type ClusterIP with external IPs: external IP", c, model.UDP, v.at(plain, plan.ExternalIP), forward("a1 b1", false))
		s.add("type ClusterIP has no NodePort", c, model.TCP, v.at(plain, plan.NodePort), is(Pass))
		outcome := map[Client]func(Family) Outcome{"n1": forward("a1 b1", false), "a9": forward("a1 b1", true), "outside": forward("a1", true)}[c]
		s.add("type ClusterIP with external IPs and policy Local", c, model.TCP, v.at(local, plan.ExternalIP), outcome)
		s.add("without node ports: load-balancer IP", c, model.SCTP, v.at(bare, plan.LoadBalancerIP), forward("b1", false))
		s.add("without node ports: NodePort", c, model.TCP, v.at(bare, plan.NodePort), is(Pass))
		s.add("load-balancer IP of ipMode Proxy", c, model.TCP, v.at(proxied, plan.LoadBalancerIP), is(Pass))
		s.add("NodePort beside ipMode Proxy", c, model.TCP, v.at(proxied, plan.NodePort), forward("a1", false))
	}
	for _, own := range Families {
		one := b.service("only-"+own.label(), func(s *model.Service) {
			for i, a := range s.ClusterIPs {
				if a.Is6() == own.IPv6 {
					s.ClusterIPs = s.ClusterIPs[i : i+1]
					break
				}
			}
		})
		b.slices(one, "a1", nil)
		for _, k := range kinds[1:] {
			s.add("of one family, "+own.String()+", at "+k.String(), "outside", model.TCP, v.at(one, k), func(f Family) Outcome {
				if f != own {
					return Outcome{Verdict: Pass}
				}
				return forward("a1", false)(f)
			})
		}
	}
}

func clearNodePorts(s *model.Service) {
	for i := range s.Ports {
		s.Ports[i].NodePort = 0
	}
}

// sourceRanges has Services whose load-balancer IPs are open to some. "outside" is within the ranges, "stranger" is not.
func (b *builder) sourceRanges(v *View) {
	s := single{v, "source ranges"}
	service := func(name, endpoints string, external model.TrafficPolicy, ranges ...string) *numbered {
		n := b.service(name, func(s *model.Service) { s.ExternalPolicy, s.SourceRanges = external, prefixes(ranges...) })
		b.slices(n, endpoints, nil)
		return n
	}
	some := service("some", "a1 b1", model.PolicyCluster, "198.51.100.0/24", "2001:db8:c::/48")
	for _, p := range Protocols {
		s.add("within", "outside", p, v.at(some, plan.LoadBalancerIP), forward("a1 b1", false))
		for _, c := range []Client{"stranger", "n1", "n2", "a9"} {
			s.add("not within", c, p, v.at(some, plan.LoadBalancerIP), is(Drop))
		}
	}
	for _, k := range kinds[:3] {
		s.add("they do not bind other addresses: "+k.String(), "stranger", model.TCP, v.at(some, k), forward("a1 b1", false))
	}
	local := service("some-local", "a1 b1", model.PolicyLocal, "198.51.100.0/24", "2001:db8:c::/48", "10.244.0.0/16", "fd00:10:244::/48")
	s.add("policy Local, within", "outside", model.TCP, v.at(local, plan.LoadBalancerIP), forward("a1", true))
	s.add("policy Local, within", "a9", model.TCP, v.at(local, plan.LoadBalancerIP), forward("a1 b1", true))
	s.add("policy Local, not within", "stranger", model.TCP, v.at(local, plan.LoadBalancerIP), is(Drop))
	s.add("policy Local, not within", "n1", model.TCP, v.at(local, plan.LoadBalancerIP), is(Drop))

	node := service("some-node", "a1 b1", model.PolicyCluster, "192.0.2.0/28", "2001:db8::/124")
	for _, c := range []Client{"n1", "n2"} {
		s.add("the node is within", c, model.TCP, v.at(node, plan.LoadBalancerIP), forward("a1 b1", false))
	}
	for _, c := range []Client{"a9", "outside"} {
		s.add("the node is within, others are not", c, model.TCP, v.at(node, plan.LoadBalancerIP), is(Drop))
	}
	for _, f := range Families {
		for of, want := range map[*numbered]Outcome{node: forward("a1 b1", false)(f), some: {Verdict: Drop}} {
			a := of.Addr(f, plan.LoadBalancerIP)
			s.Packets = append(s.Packets, Packet{
				Name: fmt.Sprintf("source ranges/%s, from the address itself/%s", of.Name.Name, f), From: Client(a.String()),
				To: plan.Key{Addr: a, Protocol: model.TCP, Port: 80}, Want: want,
			})
		}
	}
	all := service("all", "a1", model.PolicyCluster, "198.51.100.0/24", "0.0.0.0/0", "::/0")
	s.add("a range for all", "stranger", model.UDP, v.at(all, plan.LoadBalancerIP), forward("a1", false))
	several := service("several", "a1", model.PolicyCluster, "198.51.100.0/25", "203.0.113.128/25", "2001:db8:c::/64", "2001:db8:d::/64", "10.0.0.0/8", "fd00::/8")
	for _, c := range []Client{"outside", "stranger", "a9"} {
		s.add("several", c, model.TCP, v.at(several, plan.LoadBalancerIP), forward("a1", false))
	}
	overlapping := service("overlapping", "a1", model.PolicyCluster, "198.51.0.0/16", "198.51.100.0/24", "2001:db8:c::/48", "2001:db8:c::/64")
	s.add("overlapping, within", "outside", model.TCP, v.at(overlapping, plan.LoadBalancerIP), forward("a1", false))
	s.add("overlapping, not within", "stranger", model.TCP, v.at(overlapping, plan.LoadBalancerIP), is(Drop))
	empty := service("some-empty", "", model.PolicyCluster, "198.51.100.0/24", "2001:db8:c::/48")
	s.add("without endpoints, within", "outside", model.TCP, v.at(empty, plan.LoadBalancerIP), is(Reject))
	s.add("without endpoints, not within", "stranger", model.TCP, v.at(empty, plan.LoadBalancerIP), is(Drop))

	n := len(s.Packets)
	v4 := service("some-v4", "a1", model.PolicyCluster, "198.51.100.0/24")
	s.add("of IPv4 alone", "stranger", model.TCP, v.at(v4, plan.LoadBalancerIP), is(Drop))
	s.differs(n, "`loadBalancerSourceRanges` of one family alone", func(p Packet) Outcome {
		if p.To.Addr.Is4() {
			return p.Want
		}
		return forward("a1", false)(Family{true})
	})
}

// contested has two Services that name one external IP: the older one has it.
func (b *builder) contested(v *View) {
	s := single{v, "one external IP of two Services"}
	both := []netip.Addr{netip.MustParseAddr("198.18.200.1"), netip.MustParseAddr("2001:db8:e::c801")}
	for i, endpoint := range []string{"a1", "b1"} {
		b.slices(b.service(fmt.Sprintf("contested-%d", i), func(s *model.Service) {
			s.ExternalIPs, s.Created = both, time.Unix(int64(i), 0)
		}), endpoint, nil)
	}
	for _, c := range []Client{"n1", "a9", "outside"} {
		n := len(s.Packets)
		s.add("the older has it", c, model.TCP, literal(both[0].String(), both[1].String(), 80), forward("a1", false))
		s.differs(n, "an address and port that two Services name", func(p Packet) Outcome {
			o := forward("a1 b1", false)(Family{p.To.Addr.Is6()})
			o.Some = true
			return o
		})
	}
}

// affinity has Services whose clients stay where they were.
func (b *builder) affinity(v *View) {
	s := single{v, "affinity"}
	cluster := b.service("sticky", func(s *model.Service) { s.Affinity = 3 * time.Hour })
	b.slices(cluster, "a1 a2 b1 c1", nil)
	local := b.service("sticky-local", func(s *model.Service) { s.Affinity, s.ExternalPolicy = time.Hour, model.PolicyLocal })
	b.slices(local, "a1 a2 b1 c1", nil)
	group := func(n int, name string) {
		for i := n; i < len(s.Packets); i++ {
			p := &s.Packets[i]
			p.Sticky = fmt.Sprintf("%s %s %s %v", name, p.From, p.To.Protocol, p.To.Addr.Is6())
		}
	}
	for _, p := range Protocols {
		for _, c := range []Client{"n1", "a9", "b9", "n2", "outside"} {
			for _, k := range kinds {
				n := len(s.Packets)
				_, kept := gets(k, policies{model.PolicyCluster, model.PolicyCluster}, c.kind(v.Node))
				s.add("all of a Service's addresses, "+k.String(), c, p, v.at(cluster, k), forward("a1 a2 b1 c1", kept))
				group(n, "cluster")
				if k == plan.ClusterIP {
					continue
				}
				n = len(s.Packets)
				here, kept := gets(k, policies{model.PolicyCluster, model.PolicyLocal}, c.kind(v.Node))
				s.add("policy Local, "+k.String(), c, p, v.at(local, k), forward(map[bool]string{true: "a1 a2", false: "a1 a2 b1 c1"}[here], kept))
				group(n, "local")
			}
		}
	}
}

// withoutPodRanges is a node that cannot tell Pods from others.
func (b *builder) withoutPodRanges(v *View) {
	s := single{v, "Pods are not known"}
	svc := b.service("strangers", func(s *model.Service) { s.ExternalPolicy = model.PolicyLocal })
	b.slices(svc, "a1 b1", nil)
	for _, c := range []Client{"n1", "a9", "b9", "outside"} {
		n := len(s.Packets)
		s.add("ClusterIP: masquerade all", c, model.TCP, v.at(svc, plan.ClusterIP), forward("a1 b1", false))
		s.differs(n, "nobody said which addresses Pods have", func(p Packet) Outcome { o := p.Want; o.Kept = true; return o })
	}
	for _, k := range kinds[1:] {
		s.add("external policy Local: as from outside, "+k.String(), "a9", model.TCP, v.at(svc, k), forward("a1", true))
		s.add("external policy Local, "+k.String(), "n1", model.TCP, v.at(svc, k), forward("a1 b1", false))
		s.add("external policy Local, "+k.String(), "outside", model.TCP, v.at(svc, k), forward("a1", true))
	}
}
