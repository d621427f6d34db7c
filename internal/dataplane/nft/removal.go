package nft

import (
	"net/netip"
	"slices"
	"time"

	"fairway.dev/fairway/internal/store"
)

// removalWait is how long those who tell clients of an address may take to stop before it goes. It is far more than they need, and little for
// one that does not come.
const removalWait = 50 * time.Millisecond

// takesAway tells whether anything that clients were told of between two snapshots is no more: a Service, an address of it, an endpoint. Slices
// that have not changed are the same rows and are not looked into.
func takesAway(before, now *store.Snapshot, delta *store.Delta) bool {
	if before == nil {
		return false
	}
	for n := range delta.Services {
		old := before.Services.Get(n)
		if old == nil {
			continue
		}
		row := now.Services.Get(n)
		if row == nil || slices.ContainsFunc(old.ClusterIPs, func(a netip.Addr) bool { return !slices.Contains(row.ClusterIPs, a) }) {
			return true
		}
		ready := map[netip.Addr]bool{}
		for sl := range now.Slices(n) {
			for i := range sl.Endpoints {
				if e := &sl.Endpoints[i]; e.Ready {
					ready[e.Addr] = true
				}
			}
		}
		same := map[any]bool{}
		for sl := range now.Slices(n) {
			same[sl] = true
		}
		for sl := range before.Slices(n) {
			for i := range sl.Endpoints {
				if e := &sl.Endpoints[i]; !same[sl] && e.Ready && !ready[e.Addr] {
					return true
				}
			}
		}
	}
	return false
}
