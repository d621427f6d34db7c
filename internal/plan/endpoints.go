package plan

import (
	"net/netip"
	"slices"

	"fairway.dev/fairway/internal/model"
)

// backend is one endpoint as one Service port sees it.
type backend struct {
	at                          netip.AddrPort
	ready, serving, terminating bool
	ep                          *model.Endpoint
}

// gather merges the slices of one Service for one port and family, sorted by address and port, each at most once. Slices
// made for headless Services are not for proxies. Slice ports match by name and protocol.
func gather(eps []*model.EndpointSlice, p model.Port, ipv6 bool) []backend {
	var out []backend
	for _, s := range eps {
		if s.Headless || s.IPv6 != ipv6 {
			continue
		}
		for _, sp := range s.Ports {
			if sp.Name != p.Name || sp.Protocol != p.Protocol || sp.Port == 0 {
				continue
			}
			for i := range s.Endpoints {
				e := &s.Endpoints[i]
				addr := e.Addr.Unmap()
				if !addr.IsValid() || addr.Is6() != ipv6 {
					continue
				}
				out = append(out, backend{netip.AddrPortFrom(addr, sp.Port), e.Ready, e.Serving, e.Terminating, e})
			}
		}
	}
	slices.SortFunc(out, func(a, b backend) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		// The same address twice: an endpoint that moves between slices, or an address used anew while the Pod that had it
		// lingers. What lives counts, so it comes first.
		return rank(b) - rank(a)
	})
	return slices.CompactFunc(out, func(a, b backend) bool { return a.at == b.at })
}

// rank orders entries of one address: not terminating before terminating, then ready, then serving.
func rank(b backend) (r int) {
	if !b.terminating {
		r += 4
	}
	if b.ready {
		r += 2
	}
	if b.serving {
		r++
	}
	return r
}

// everywhere is what policy Cluster may use: the ready ones that topology hints leave, else, so that a rollout does not cut a
// Service off, all that still serve while they terminate (KEP-1669).
func (v View) everywhere(bs []backend) []netip.AddrPort {
	if out := pick(bs, v.hinted(bs)); len(out) > 0 {
		return out
	}
	return pick(bs, leaving)
}

// here is what policy Local may use, by the same rule, on this node only.
func (v View) here(bs []backend) []netip.AddrPort {
	local := func(b backend) bool { return v.Node != "" && b.ep.Node == v.Node }
	if out := pick(bs, func(b backend) bool { return b.ready && local(b) }); len(out) > 0 {
		return out
	}
	return pick(bs, func(b backend) bool { return leaving(b) && local(b) })
}

func leaving(b backend) bool { return b.serving && b.terminating }

// hinted gives the filter that the topology hints ask for. Hints count only if every ready endpoint has them and at least one of
// them names this node or zone; else a part of the traffic would meet an overloaded or empty part of the endpoints.
func (v View) hinted(bs []backend) func(backend) bool {
	forNode := func(b backend) bool { return b.ready && slices.Contains(b.ep.ForNodes, v.Node) }
	forZone := func(b backend) bool { return b.ready && slices.Contains(b.ep.ForZones, v.Zone) }
	allNodes, allZones, node, zone := true, true, false, false
	for _, b := range bs {
		if !b.ready {
			continue
		}
		allNodes = allNodes && len(b.ep.ForNodes) > 0
		allZones = allZones && len(b.ep.ForZones) > 0
		node = node || forNode(b)
		zone = zone || forZone(b)
	}
	switch {
	case v.Node != "" && allNodes && node:
		return forNode
	case v.Zone != "" && allZones && zone:
		return forZone
	}
	return func(b backend) bool { return b.ready }
}

// serving are all that may keep the flows that they have.
func serving(bs []backend) []netip.AddrPort {
	return pick(bs, func(b backend) bool { return b.ready || b.serving })
}

func pick(bs []backend, use func(backend) bool) []netip.AddrPort {
	var out []netip.AddrPort
	for _, b := range bs {
		if use(b) {
			if out == nil {
				out = make([]netip.AddrPort, 0, len(bs))
			}
			out = append(out, b.at)
		}
	}
	return out
}

// choice is forward where there are backends, else drop where another node has some, else reject.
func choice(bs []netip.AddrPort, elsewhere bool) Choice {
	switch {
	case len(bs) > 0:
		return Choice{Backends: bs}
	case elsewhere:
		return Choice{Verdict: Drop}
	}
	return Choice{Verdict: Reject}
}

// local are the addresses of one family with an endpoint on this node. An endpoint that no longer serves stays in: its own flows
// may go on.
func (v View) local(eps []*model.EndpointSlice, ipv6 bool) []netip.Addr {
	var out []netip.Addr
	for _, s := range eps {
		if s.Headless || s.IPv6 != ipv6 {
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if a := e.Addr.Unmap(); v.Node != "" && e.Node == v.Node && a.IsValid() && a.Is6() == ipv6 {
				out = append(out, a)
			}
		}
	}
	return out
}

// ready are the addresses of a Service's ready backends on this node, whatever their port, sorted.
func (v View) ready(svc *model.Service, eps []*model.EndpointSlice, clusterIPs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, ip := range clusterIPs {
		for _, p := range svc.Ports {
			for _, b := range gather(eps, p, ip.Is6()) {
				if b.ready && v.Node != "" && b.ep.Node == v.Node {
					out = append(out, b.at.Addr())
				}
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
