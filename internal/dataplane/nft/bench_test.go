package nft_test

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit"
	"fairway.dev/fairway/internal/testkit/connections"
)

// crowd fills a store with n Services of 10 endpoints each.
func crowd(n int) *store.Store {
	st := store.New()
	_, _ = st.Update(func(t *store.Txn) error {
		for i := range n {
			t.PutService(&model.Service{
				Name: crowdName(i), Type: model.ClusterIP, Ports: []model.Port{{Protocol: model.TCP, Port: 80}},
				ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
			})
			t.PutSlice(crowdSlice(i, 10, 0))
		}
		return nil
	})
	return st
}

func crowdName(i int) model.Name {
	return model.Name{Namespace: "bench", Name: fmt.Sprintf("service-%d", i)}
}

// crowdSlice gives the slice of the i-th Service with k endpoints; the last one has the address of that round.
func crowdSlice(i, k, round int) *model.EndpointSlice {
	s := &model.EndpointSlice{
		Name: crowdName(i), Service: crowdName(i), Ports: []model.EndpointPort{{Protocol: model.TCP, Port: 8080}},
	}
	for e := range k {
		n := i*10 + e
		a := netip.AddrFrom4([4]byte{10, 128 + byte(n>>16), byte(n >> 8), byte(n)})
		if e == k-1 && round > 0 {
			a = netip.AddrFrom4([4]byte{11, byte(round >> 16), byte(round >> 8), byte(round)})
		}
		s.Endpoints = append(s.Endpoints, model.Endpoint{Addr: a, Ready: true, Serving: true})
	}
	return s
}

// follow runs a Dataplane in ns until the function returned is called.
func follow(b *testing.B, ns *testkit.NetNS, st *store.Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	d := nft.New(st, nft.Config{Node: "n", ServiceCIDRs: connections.ServiceCIDRs, PodCIDRs: connections.PodCIDRs})
	go func() {
		defer close(done)
		ns.Do(func() { _ = d.Run(ctx) })
	}()
	for len(st.Statuses()) == 0 {
		runtime.Gosched()
	}
	return func() { cancel(); <-done }
}

func inForce(b *testing.B, st *store.Store, rev store.Revision) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := st.Applied(ctx, rev, nft.Consumer); err != nil {
		b.Fatalf("%v; %+v", err, st.Statuses())
	}
}

// BenchmarkEndpointChange is the time from a write to the store to the commit in the kernel.
func BenchmarkEndpointChange(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		for _, kind := range []string{"replaced", "added-or-removed"} {
			b.Run(fmt.Sprintf("services=%d/%s", n, kind), func(b *testing.B) {
				ns := testkit.NewNetNS(b)
				st := crowd(n)
				defer follow(b, ns, st)()
				inForce(b, st, st.Snapshot().Revision)
				round := 0
				for b.Loop() {
					round++
					k, address := 10, round
					if kind != "replaced" {
						k, address = 9+round/n%2, 0
					}
					i := round % n
					rev, _ := st.Update(func(t *store.Txn) error {
						t.PutSlice(crowdSlice(i, k, address))
						return nil
					})
					inForce(b, st, rev)
				}
			})
		}
	}
}

// BenchmarkColdStart is the time from an empty kernel to everything in force.
func BenchmarkColdStart(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			st := crowd(n)
			for b.Loop() {
				b.StopTimer()
				ns := testkit.NewNetNS(b)
				b.StartTimer()
				stop := follow(b, ns, st)
				inForce(b, st, st.Snapshot().Revision)
				b.StopTimer()
				stop()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkWarmStart is the time of a restart that finds everything as it should be.
func BenchmarkWarmStart(b *testing.B) {
	const n = 10000
	st, ns := crowd(n), testkit.NewNetNS(b)
	stop := follow(b, ns, st)
	inForce(b, st, st.Snapshot().Revision)
	stop()
	for b.Loop() {
		stop := follow(b, ns, st)
		inForce(b, st, st.Snapshot().Revision)
		b.StopTimer()
		stop()
		b.StartTimer()
	}
}
