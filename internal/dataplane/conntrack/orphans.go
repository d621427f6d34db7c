package conntrack

import (
	"net/netip"
	"slices"

	"github.com/ti-mo/netfilter"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// Orphans tells which flows were sent to frontends that are gone without this process having seen them go. A process that dies after it has taken a
// Service out of the rules and before it has deleted the flows leaves such ones, and nothing in the kernel says any more whose they were. They
// are known by their destination: nobody but a Service proxy translates what is sent to the ranges of Services. Flows to gone NodePorts, external IPs and
// load-balancer IPs cannot be told from those that somebody else translates, so they are left to end by themselves.
type Orphans struct {
	// Ranges are those that ClusterIPs come from.
	Ranges []netip.Prefix
	// Known has all frontends in force; their flows are no orphans.
	Known Serving
	// Others are addresses within the ranges about which nothing is known: another proxy's, or of a Service that is not in force.
	Others map[netip.Addr]struct{}
}

// Stale tells whether a flow is an orphan that would not end by itself.
func (o Orphans) Stale(f Flow) bool {
	to := f.To.Addr().Unmap()
	if !lasting(f) || f.To == f.From || !slices.ContainsFunc(o.Ranges, func(p netip.Prefix) bool { return p.Contains(to) }) {
		return false
	}
	if _, other := o.Others[to]; other {
		return false
	}
	_, known := o.Known[plan.Key{Addr: to, Protocol: f.Protocol, Port: f.To.Port()}]
	return !known
}

// SweepOrphans deletes all orphans and gives their number. Nothing may change the rules meanwhile: a Service that comes would not be in Known.
func (t *Table) SweepOrphans(o Orphans) (deleted int, err error) {
	var questions []ask
	for _, family := range []netfilter.ProtoFamily{netfilter.ProtoIPv4, netfilter.ProtoIPv6} {
		if slices.ContainsFunc(o.Ranges, func(p netip.Prefix) bool { return p.Addr().Is6() == (family == netfilter.ProtoIPv6) }) {
			questions = append(questions, ask{family: family, protocol: model.UDP}, ask{family: family, protocol: model.TCP})
		}
	}
	return t.sweep(questions, o.Stale)
}
