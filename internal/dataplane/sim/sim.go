// Package sim carries out plans in Go for one packet: what would become of it. It is the reference for tests of real data planes, and
// answers "where would this go?" for people.
//
// Contract. It is written from the rules that package plan states, not from any data plane; it is pure and reads nothing but its
// arguments. A World may be asked from several goroutines.
//
// To debug a real data plane, ask both and compare: the answer says which Service and which rule decided. To test, see the table in
// testkit/packets.
package sim

import (
	"iter"
	"net/netip"
	"slices"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// World is all that one node knows.
type World struct {
	frontends    map[plan.Key]owned
	clusterIPs   map[netip.Addr]model.Name
	hairpin      map[netip.Addr]struct{}
	node         []netip.Addr
	serviceCIDRs []netip.Prefix
	podCIDRs     []netip.Prefix
}

type owned struct {
	service *plan.Service
	plan.Frontend
}

// New gives the world of a node with these addresses, from the plans of all Services. Of two Services that claim one frontend the one that
// precedes the other has it.
func New(plans iter.Seq[plan.Service], node []netip.Addr, serviceCIDRs, podCIDRs []netip.Prefix) *World {
	w := &World{
		frontends: map[plan.Key]owned{}, clusterIPs: map[netip.Addr]model.Name{}, hairpin: map[netip.Addr]struct{}{},
		node: node, serviceCIDRs: serviceCIDRs, podCIDRs: podCIDRs,
	}
	for p := range plans {
		for _, f := range p.Frontends {
			if o, taken := w.frontends[f.Key]; !taken || p.Precedes(o.service) {
				w.frontends[f.Key] = owned{&p, f}
			}
		}
		for _, a := range p.ClusterIPs {
			w.clusterIPs[a] = p.Name
		}
		for _, a := range p.Hairpin {
			w.hairpin[a] = struct{}{}
		}
	}
	return w
}

// Verdict is what becomes of a new flow.
type Verdict uint8

// The verdicts.
const (
	// Pass means that no Service is concerned: the packet goes where the routes lead.
	Pass Verdict = iota
	Forward
	Reject
	Drop
)

// String names the verdict.
func (v Verdict) String() string { return [...]string{"pass", "forward", "reject", "drop"}[v] }

// Way is one backend that the flow may get, all with equal chance, and whether the backend will see the node as the source.
type Way struct {
	Backend    netip.AddrPort
	Masquerade bool
}

// Answer is what becomes of a new flow, and why.
type Answer struct {
	Verdict Verdict
	Ways    []Way // for Forward
	// Service is whose frontend or ClusterIP was addressed, or the zero name.
	Service model.Name
	Why     string
}

// Flow says what becomes of a new flow from that source to that destination.
func (w *World) Flow(source netip.Addr, to plan.Key) Answer {
	f, ok := w.frontends[to]
	if !ok {
		return w.noFrontend(to.Addr)
	}
	a := Answer{Service: f.service.Name}
	if len(f.Sources) > 0 && !contains(f.Sources, source) {
		a.Verdict, a.Why = Drop, "the source is not in loadBalancerSourceRanges"
		return a
	}
	onNode, pod := slices.Contains(w.node, source), contains(w.podCIDRs, source)
	choice := f.Inside
	if f.Split && !onNode && !pod {
		choice = f.Outside
	}
	switch choice.Verdict {
	case plan.Reject:
		a.Verdict, a.Why = Reject, "the Service has no usable endpoint"
		return a
	case plan.Drop:
		a.Verdict, a.Why = Drop, "the Service has no usable endpoint on this node, and its traffic policy is Local"
		return a
	}
	a.Verdict, a.Why = Forward, "any of the backends"
	for _, b := range choice.Backends {
		way := Way{Backend: b}
		switch f.Masquerade {
		case plan.MasqueradeAll:
			way.Masquerade = true
		case plan.MasqueradeNonPods:
			way.Masquerade = !pod
		case plan.MasqueradeNode:
			way.Masquerade = onNode
		}
		if _, local := w.hairpin[source]; local && b.Addr() == source {
			way.Masquerade = true
		}
		a.Ways = append(a.Ways, way)
	}
	return a
}

func (w *World) noFrontend(to netip.Addr) Answer {
	if s, ok := w.clusterIPs[to]; ok {
		return Answer{Verdict: Reject, Service: s, Why: "the Service has no such port"}
	}
	if contains(w.serviceCIDRs, to) {
		return Answer{Verdict: Drop, Why: "no Service has that address"}
	}
	return Answer{Verdict: Pass, Why: "not an address of a Service"}
}

func contains(ps []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
}
