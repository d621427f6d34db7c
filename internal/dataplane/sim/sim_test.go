package sim_test

import (
	"net/netip"
	"slices"
	"testing"

	"fairway.dev/fairway/internal/dataplane/sim"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit/packets"
)

// TestPackets asks what becomes of every packet of the table.
func TestPackets(t *testing.T) {
	t.Parallel()
	world, views := packets.Table()
	st := store.New()
	world.Put(st)
	snap := st.Snapshot()
	n := 0
	for _, v := range views {
		view := plan.Look(snap, v.Node)
		w := sim.New(func(yield func(plan.Service) bool) {
			for s := range snap.Services.All() {
				if !yield(view.Service(snap, s.Name)) {
					return
				}
			}
		}, snap.Node(v.Node).Addresses, packets.ServiceCIDRs, v.PodCIDRs)
		n += len(v.Packets)
		for _, p := range v.Packets {
			t.Run(v.Name+"/"+p.Name, func(t *testing.T) {
				a := w.Flow(p.From.Addr(packets.Family{IPv6: p.To.Addr.Is6()}), p.To)
				if a.Verdict.String() != p.Want.Verdict.String() {
					t.Fatalf("%s → %s: %s (%s), want %s", p.From, p.To, a.Verdict, a.Why, p.Want)
				}
				got := packets.Outcome{Verdict: p.Want.Verdict}
				for i, way := range a.Ways {
					got.Backends = append(got.Backends, way.Backend)
					if kept := !way.Masquerade; i == 0 {
						got.Kept = kept
					} else if kept != got.Kept {
						t.Errorf("some ways are masqueraded, others are not: %+v", a.Ways)
					}
				}
				slices.SortFunc(got.Backends, netip.AddrPort.Compare)
				if got.Kept != p.Want.Kept || !slices.Equal(got.Backends, p.Want.Backends) {
					t.Errorf("%s → %s: %s (%s), want %s", p.From, p.To, got, a.Why, p.Want)
				}
			})
		}
	}
	if n < 5000 {
		t.Errorf("only %d packets", n)
	}
}
