package nft_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/dataplane/sim"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit/connections"
)

// TestUpgrade replaces the rules of a version with another layout, and those of a newer one, among many Services and under clients that open TCP and UDP
// flows all the time, each of which has one packet to lose: none is lost. FAIRWAY_SERVICES says how many Services, otherwise than 1000.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	crowd := 1000
	if v := os.Getenv("FAIRWAY_SERVICES"); v != "" {
		var err error
		if crowd, err = strconv.Atoi(v); err != nil {
			t.Fatalf("FAIRWAY_SERVICES: %v", err)
		}
	}
	l := newLab(t)
	s, slice := web(v4, 1, "web", connections.PodA, connections.PodB)
	connections.Put(l.store, nil, []*model.Service{s}, []*model.EndpointSlice{slice})
	_, _ = l.store.Update(func(txn *store.Txn) error {
		for i := range crowd {
			name := model.Name{Namespace: "crowd", Name: fmt.Sprintf("s%d", i)}
			txn.PutService(&model.Service{
				Name: name, Type: model.ClusterIP, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 100 + byte(i>>8), byte(i)})},
				Ports: []model.Port{{Protocol: model.TCP, Port: 80}},
			})
			sl := backends(v4, s, connections.Pods...)
			sl.Name, sl.Service = name, name
			txn.PutSlice(sl)
		}
		return nil
	})
	is := func(want string) {
		t.Helper()
		l.ns[connections.OnNode].Do(func() {
			if now, err := nft.Layout("fairway"); now != want || err != nil {
				t.Errorf("layout %q, %v; want %q", now, err, want)
			}
		})
	}
	stop := l.startLayout("1")
	l.applied(l.store.Snapshot().Revision)
	is("fairway, layout 1")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	counts := make([]atomic.Int64, 4)
	for i, from := range []connections.Place{connections.PodC, connections.OnNode, connections.PodC, connections.OnNode} {
		to := tcp(1)
		if i < 2 {
			to = plan.Key{Addr: v4.Service(1), Protocol: model.UDP, Port: 80}
		}
		clients.Go(func() {
			for ctx.Err() == nil {
				if a, err := l.ask(from, to, 20*time.Second); err != nil || a.verdict != sim.Forward {
					t.Errorf("%s → %s: %s, %v, after %d answers", from, to, a.verdict, err, counts[i].Load())
					return
				}
				counts[i].Add(1)
			}
		})
	}
	more := func() {
		t.Helper()
		var before [4]int64
		for i := range counts {
			before[i] = counts[i].Load()
		}
		l.await(func() bool {
			for i := range counts {
				if counts[i].Load() < before[i]+10 && !t.Failed() {
					return false
				}
			}
			return true
		})
	}
	more()
	for _, next := range []string{"", "7", ""} { // this version, a newer one, and back
		stop()
		more()
		start := time.Now()
		stop = l.startLayout(next)
		l.applied(l.store.Snapshot().Revision)
		t.Logf("in force after %v", time.Since(start))
		if next == "" {
			is(nft.ThisLayout)
		} else {
			is("fairway, layout " + next)
		}
		more()
	}
	cancel()
	clients.Wait()
	t.Logf("answers: UDP %d and %d, TCP %d and %d", counts[0].Load(), counts[1].Load(), counts[2].Load(), counts[3].Load())
}
