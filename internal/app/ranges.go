package app

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"fairway.dev/fairway/internal/node/network"
)

// followRanges keeps this machine's routes equal to the Service ranges that it was started with and those of the API's ServiceCIDR objects,
// so that programs on it reach a Service of a new range at once. Ranges of a family that Pods do not have are left out.
func (s *standalone) followRanges(ctx context.Context) error {
	cur := s.line.store.Follow("")
	defer cur.Close()
	var routed []netip.Prefix
	for {
		snap, _, err := cur.Next(ctx)
		if err != nil {
			return err
		}
		if !snap.Synced { // what an earlier run routed stays until it is known that it is none any more
			continue
		}
		ranges := slices.DeleteFunc(snap.ServiceRanges(s.ServiceCIDRs...), func(r netip.Prefix) bool {
			return !slices.ContainsFunc(s.PodCIDRs, func(p netip.Prefix) bool { return p.Addr().Is6() == r.Addr().Is6() })
		})
		if slices.Equal(ranges, routed) {
			continue
		}
		c := s.network()
		c.ServiceCIDRs = ranges
		if err := network.Reroute(c); err == nil {
			routed = ranges
			continue
		} else {
			s.Logger.Error("Service ranges are not routed", "ranges", ranges, "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
			cur.Resync()
		}
	}
}
