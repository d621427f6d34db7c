package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// View is what plans need to know of the node.
type View struct {
	Node string
	Zone string
	// Own are the node's primary addresses: the first of each family in its row, without loopback.
	Own []netip.Addr
	// Addrs are where NodePorts and health checks are served, in the order of the Node row: Own, or what Look was told.
	Addrs []netip.Addr
}

// Look takes the View of a node from its row. A node without a row has no zone and serves no NodePorts. NodePorts are served on
// the primary address of each family; with nodePorts, on all addresses of the row in these ranges, and in a family without a range
// on all of the row. Never on loopback.
func Look(snap *store.Snapshot, node string, nodePorts ...netip.Prefix) View {
	v := View{Node: node}
	n := snap.Node(node)
	if n == nil {
		return v
	}
	v.Zone = n.Zone
	var all []netip.Addr
	for _, a := range n.Addresses {
		if a = a.Unmap(); !a.IsLoopback() && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	for _, a := range all {
		if !slices.ContainsFunc(v.Own, func(b netip.Addr) bool { return a.Is6() == b.Is6() }) {
			v.Own = append(v.Own, a)
		}
	}
	if v.Addrs = v.Own; len(nodePorts) > 0 {
		v.Addrs = nil
		for _, a := range all {
			same := func(p netip.Prefix) bool { return p.Addr().Is6() == a.Is6() }
			if !slices.ContainsFunc(nodePorts, same) || contains(nodePorts, a) {
				v.Addrs = append(v.Addrs, a)
			}
		}
	}
	return v
}

func contains(ps []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Equal is true when every plan is the same under both views.
func (v View) Equal(o View) bool {
	return v.Node == o.Node && v.Zone == o.Zone && slices.Equal(v.Own, o.Own) && slices.Equal(v.Addrs, o.Addrs)
}

// Service plans one Service. The cost follows the number of its own endpoints and frontends.
func (v View) Service(snap *store.Snapshot, name model.Name) Service {
	out := Service{Name: name}
	svc := snap.Services.Get(name)
	if svc == nil || svc.Headless || svc.OtherProxy || svc.Type == model.ExternalName || len(svc.ClusterIPs) == 0 {
		return out
	}
	out.Created = svc.Created
	for _, a := range svc.ClusterIPs {
		out.ClusterIPs = append(out.ClusterIPs, a.Unmap())
	}
	eps := slices.Collect(snap.Slices(name))
	for _, ipv6 := range []bool{false, true} {
		i := slices.IndexFunc(out.ClusterIPs, func(a netip.Addr) bool { return a.Is6() == ipv6 })
		if i < 0 {
			continue // a family without a ClusterIP is a family the Service does not have
		}
		for _, p := range svc.Ports {
			out.Frontends = append(out.Frontends, v.port(svc, p, out.ClusterIPs[i], gather(eps, p, ipv6))...)
		}
		out.Hairpin = append(out.Hairpin, v.local(eps, ipv6)...)
	}
	// Of two frontends with one key (an external IP that is also a load-balancer IP) the one that admits fewer wins, else the
	// one named first in Scope.
	slices.SortStableFunc(out.Frontends, func(a, b Frontend) int {
		return cmp.Or(a.Compare(b.Key), cmp.Compare(min(len(b.Sources), 1), min(len(a.Sources), 1)))
	})
	out.Frontends = slices.CompactFunc(out.Frontends, func(a, b Frontend) bool { return a.Key == b.Key })
	slices.SortFunc(out.Hairpin, netip.Addr.Compare)
	out.Hairpin = slices.Compact(out.Hairpin)
	if svc.Type == model.LoadBalancer && svc.ExternalPolicy == model.PolicyLocal && svc.HealthCheckNodePort != 0 {
		out.Health = Health{Port: svc.HealthCheckNodePort, Addrs: v.Addrs, Ready: v.ready(svc, eps, out.ClusterIPs)}
	}
	return out
}

// port gives the frontends of one Service port in the family of its ClusterIP, by ascending Scope.
func (v View) port(svc *model.Service, p model.Port, ip netip.Addr, bs []backend) []Frontend {
	everywhere, here := v.everywhere(bs), v.here(bs)
	base := Frontend{
		PortName: p.Name, Affinity: svc.Affinity, Sticky: Key{ip, p.Protocol, p.Port},
		Inside: choice(everywhere, false),
	}
	if p.Protocol == model.UDP || p.Protocol == model.TCP {
		base.Serving = serving(bs)
	}
	internal := base
	internal.Scope, internal.Masquerade, internal.Key = ClusterIP, MasqueradeNonPods, base.Sticky
	if svc.InternalPolicy == model.PolicyLocal {
		internal.Inside = choice(here, len(everywhere) > 0)
	}
	internal.Outside = internal.Inside
	out := []Frontend{internal}

	external := base
	external.Outside, external.Masquerade = base.Inside, MasqueradeAll
	if svc.ExternalPolicy == model.PolicyLocal {
		external.Outside, external.Split, external.Masquerade = choice(here, len(everywhere) > 0), true, MasqueradeNode
	}
	add := func(scope Scope, addrs []netip.Addr, port uint16, sources []netip.Prefix) {
		for _, a := range addrs {
			if a = a.Unmap(); a.Is6() != ip.Is6() {
				continue
			}
			f := external
			f.Scope, f.Key, f.Sources = scope, Key{a, p.Protocol, port}, sources
			out = append(out, f)
		}
	}
	if p.NodePort != 0 {
		add(NodePort, v.Addrs, p.NodePort, nil)
	}
	add(ExternalIP, svc.ExternalIPs, p.Port, nil)
	add(LoadBalancerIP, svc.LoadBalancerIPs, p.Port, v.sources(svc, ip.Is6()))
	return out
}

// sources gives who may reach the load-balancer IPs of one family. A Service whose ranges are all of the other family admits nobody:
// the list stays non-empty. A range of length zero admits everybody. Where the node itself may come in, so may the load-balancer
// IPs: some load balancers make them local addresses, and what the node sends there then has them as its source.
func (v View) sources(svc *model.Service, ipv6 bool) []netip.Prefix {
	ranges := svc.SourceRanges
	if len(ranges) == 0 {
		return nil
	}
	out := []netip.Prefix{}
	for _, r := range ranges {
		if r.Addr().Is6() == ipv6 {
			if r.Bits() == 0 {
				return nil
			}
			out = append(out, r.Masked())
		}
	}
	for _, own := range v.Own {
		if !contains(out, own) {
			continue
		}
		for _, a := range svc.LoadBalancerIPs {
			if a = a.Unmap(); a.Is6() == ipv6 {
				out = append(out, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	if len(out) == 0 {
		// No packet has the unspecified address as its source.
		zero := netip.IPv4Unspecified()
		if ipv6 {
			zero = netip.IPv6Unspecified()
		}
		out = append(out, netip.PrefixFrom(zero, zero.BitLen()))
	}
	return out
}
