package conntrack

import (
	"net/netip"
	"slices"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// Serving tells for each UDP frontend in question which backends may keep their flows, sorted. A frontend that is gone has none.
type Serving map[plan.Key][]netip.AddrPort

// Stale tells whether a flow must go: it was sent to one of the frontends, and what answers is not one of its serving backends.
// to is the destination of the flow's first packet; from is where its replies come from, which is to itself when the flow began
// before the frontend was there.
func (s Serving) Stale(p model.Protocol, to, from netip.AddrPort) bool {
	if p != model.UDP {
		return false
	}
	backends, ours := s[plan.Key{Addr: to.Addr().Unmap(), Protocol: p, Port: to.Port()}]
	if !ours {
		return false
	}
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	_, serves := slices.BinarySearchFunc(backends, from, netip.AddrPort.Compare)
	return !serves
}
