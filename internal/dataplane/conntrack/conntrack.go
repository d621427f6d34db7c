package conntrack

import (
	"net/netip"
	"slices"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// Serving tells for each frontend in question which backends may keep their flows, sorted. A frontend that is gone has none. It is read-only
// once it is made.
type Serving map[plan.Key][]netip.AddrPort

// Of gives the Serving of whole plans. Of two frontends with one key the last one counts.
func Of(plans ...*plan.Service) Serving {
	s := Serving{}
	for _, p := range plans {
		for i := range p.Frontends {
			if f := &p.Frontends[i]; watched(f.Protocol) {
				s[f.Key] = f.Serving
			}
		}
	}
	return s
}

// watched tells whether flows of a protocol can ever be stale.
func watched(p model.Protocol) bool { return p == model.UDP || p == model.TCP }

// Flow is what a dump of the kernel's table says of one connection.
type Flow struct {
	Protocol model.Protocol
	// To is the destination of the first packet. From is where replies come from: the backend, or To itself when the flow began
	// before the frontend was there.
	To, From netip.AddrPort
	// HalfOpen is true for TCP whose SYN nobody has answered yet.
	HalfOpen bool
}

// lasting tells whether a flow is of a kind that nothing else would end.
func lasting(f Flow) bool { return f.Protocol == model.UDP || f.Protocol == model.TCP && f.HalfOpen }

// Stale tells whether a flow must go: it was sent to one of the frontends, what answers is not one of its serving backends, and it is of a
// kind that would not end by itself.
func (s Serving) Stale(f Flow) bool {
	if !lasting(f) {
		return false
	}
	backends, ours := s[plan.Key{Addr: f.To.Addr().Unmap(), Protocol: f.Protocol, Port: f.To.Port()}]
	if !ours {
		return false
	}
	from := netip.AddrPortFrom(f.From.Addr().Unmap(), f.From.Port())
	_, serves := slices.BinarySearchFunc(backends, from, netip.AddrPort.Compare)
	return !serves
}
