package nft_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit"
	"fairway.dev/fairway/internal/testkit/packets"
)

// TestPackets sends every packet of the table through our rules in a kernel.
func TestPackets(t *testing.T) {
	t.Parallel()
	world, views := packets.Table()
	for _, v := range views {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			st := store.New()
			lab := packets.NewLab(t, &v)
			stop := runIn(t, lab.Node(), st, nft.Config{Node: v.Node, ServiceCIDRs: packets.ServiceCIDRs, PodCIDRs: v.PodCIDRs})
			defer stop()
			settled(t, st, world.Put(st), "service default/contested-1")
			lab.Run(t, &v, false)
		})
	}
}

// runIn runs a Dataplane in a namespace until stop is called.
func runIn(t *testing.T, ns *testkit.NetNS, st *store.Store, cfg nft.Config) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	withdraw := st.Expect(nft.Consumer)
	go ns.Do(func() { _ = nft.New(st, cfg).Run(ctx); close(done) })
	return func() { cancel(); <-done; withdraw() }
}

// settled waits until a revision is in force, but for the objects named.
func settled(t *testing.T, st *store.Store, rev store.Revision, but ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := st.Applied(ctx, rev, nft.Consumer); err != nil {
		t.Fatalf("revision %d is not in force: %v; %+v", rev, err, st.Statuses())
	}
	for name, err := range st.Statuses()[0].Failed {
		if !strings.Contains(strings.Join(but, " "), name) {
			t.Errorf("%s is not in force: %v", name, err)
		}
	}
}
