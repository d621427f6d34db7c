package app

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

func putNode(t *testing.T, st *store.Store, name string, ranges ...netip.Prefix) {
	t.Helper()
	if _, err := st.Update(func(txn *store.Txn) error {
		txn.PutNode(&model.Node{Name: name, PodCIDRs: ranges})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestNodePodCIDRs waits for the node's row, and says so once it is clear that the API has none.
func TestNodePodCIDRs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := store.New()
		synced := st.Announce("nodes")
		var log strings.Builder
		d := &dataline{node: "b", store: st, log: slog.New(slog.NewTextHandler(&log, nil))}
		var got []netip.Prefix
		done := make(chan error, 1)
		go func() {
			var err error
			got, err = d.nodePodCIDRs(t.Context())
			done <- err
		}()
		putNode(t, st, "a")
		synctest.Wait()
		if s := st.Statuses(); len(s) != 1 || s[0].Consumer != nft.Consumer || s[0].Err != nil {
			t.Errorf("while the API is away the status is %+v; want the data plane without an error", s)
		}
		synced()
		synctest.Wait()
		if s := st.Statuses(); len(s) != 1 || s[0].Err == nil || !strings.Contains(s[0].Err.Error(), "no node b") || s[0].Revision != 0 {
			t.Errorf("without the node the status is %+v; want an error that names it", s)
		}
		putNode(t, st, "c")
		synctest.Wait()
		if n := strings.Count(log.String(), "no node b"); n != 1 {
			t.Errorf("that is logged %d times:\n%s", n, &log)
		}
		want := []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")}
		putNode(t, st, "b", want...)
		if err := <-done; err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
		if s := st.Statuses(); len(s) != 0 {
			t.Errorf("the data plane's place is still taken: %+v", s)
		}
	})
}

// TestOtherPodCIDRs returns for other ranges, and for nothing else that happens to nodes.
func TestOtherPodCIDRs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := store.New()
		d := &dataline{node: "b", store: st}
		had := netip.MustParsePrefix("10.244.7.0/24")
		putNode(t, st, "b", had)
		done := make(chan error, 1)
		go func() { done <- d.otherPodCIDRs(t.Context(), []netip.Prefix{had}) }()
		waits := func(why string) {
			t.Helper()
			synctest.Wait()
			if len(done) > 0 {
				t.Fatalf("it returned %v: %s", <-done, why)
			}
		}
		waits("the ranges are the same")
		putNode(t, st, "a", netip.MustParsePrefix("10.244.8.0/24"))
		waits("another node's ranges")
		if _, err := st.Update(func(txn *store.Txn) error { txn.DeleteNode("b"); return nil }); err != nil {
			t.Fatal(err)
		}
		waits("the node is gone, and keeps what it had")
		putNode(t, st, "b", had)
		waits("it is back with the same")
		putNode(t, st, "b", had, netip.MustParsePrefix("fd66:244:7::/64"))
		if err := <-done; !errors.Is(err, errOtherPodCIDRs) {
			t.Errorf("with another range it returned %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- d.otherPodCIDRs(ctx, st.Snapshot().Node("b").PodCIDRs) }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("at the end of its context it returned %v", err)
		}
	})
}
