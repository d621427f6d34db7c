package nft_test

import (
	"context"
	"testing"

	"fairway.dev/fairway/internal/dataplane/sim"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit/connections"
)

// TestBeforeRemoval: whoever tells clients of addresses hears of a removal before the kernel does, and of nothing else.
func TestBeforeRemoval(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	type call struct {
		rev  store.Revision
		dump string // the kernel at that time
	}
	var calls []call
	l.beforeRemoval = func(_ context.Context, rev store.Revision) { calls = append(calls, call{rev, l.dump()}) }
	stop := l.start()
	one, s1 := web(v4, 1, "one", connections.PodA)
	l.applied(connections.Put(l.store, nil, []*model.Service{one}, []*model.EndpointSlice{s1}))
	two, s2 := web(v4, 2, "two", connections.PodA)
	l.applied(connections.Put(l.store, nil, []*model.Service{two}, []*model.EndpointSlice{s2}))
	l.applied(connections.Put(l.store, nil, nil, []*model.EndpointSlice{backends(v4, two, connections.PodA, connections.PodB)}))
	var want []call
	before := l.dump()
	rev := connections.Put(l.store, nil, nil, []*model.EndpointSlice{backends(v4, two, connections.PodB)})
	l.applied(rev)
	want = append(want, call{rev, before})
	before = l.dump()
	rev, _ = l.store.Update(func(tx *store.Txn) error { tx.DeleteService(one.Name); return nil })
	l.applied(rev)
	want = append(want, call{rev, before})
	l.expect(connections.PodC, tcp(1), sim.Drop, "")
	stop()
	if len(calls) != len(want) {
		t.Fatalf("%d calls, want %d", len(calls), len(want))
	}
	for i := range want {
		if calls[i].rev != want[i].rev {
			t.Errorf("call %d is of revision %d, want %d", i, calls[i].rev, want[i].rev)
		}
		if calls[i].dump != want[i].dump {
			t.Errorf("call %d came after the kernel had changed:\n%s\nbefore:\n%s", i, calls[i].dump, want[i].dump)
		}
	}
}
