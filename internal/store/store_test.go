package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
)

func name(s string) model.Name { return model.Name{Namespace: "default", Name: s} }

func service(s string) *model.Service { return &model.Service{Name: name(s)} }

func slice(s, svc string) *model.EndpointSlice {
	return &model.EndpointSlice{Name: name(s), Service: name(svc)}
}

func update(t testing.TB, s *Store, fn func(*Txn)) Revision {
	t.Helper()
	r, err := s.Update(func(x *Txn) error { fn(x); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sliceNames(s *Snapshot, svc string) (out []string) {
	for e := range s.Slices(name(svc)) {
		out = append(out, e.Name.Name)
	}
	return out
}

func TestSnapshotsAreAtomicAndUnchanging(t *testing.T) {
	t.Parallel()
	s := New()
	before := s.Snapshot()
	r := update(t, s, func(x *Txn) { x.PutService(service("a")); x.PutSlice(slice("a-1", "a")) })
	if r != 1 || before.Services.Len() != 0 || s.Snapshot().Services.Len() != 1 {
		t.Fatalf("revision %d, before %d, after %d rows", r, before.Services.Len(), s.Snapshot().Services.Len())
	}
	boom := errors.New("boom")
	if _, err := s.Update(func(x *Txn) error { x.DeleteService(name("a")); return boom }); !errors.Is(err, boom) {
		t.Fatalf("error %v", err)
	}
	if got := s.Snapshot(); got.Revision != 1 || got.Services.Get(name("a")) == nil {
		t.Fatal("a failed update was published")
	}
	if r := update(t, s, func(x *Txn) { x.DeleteService(name("absent")) }); r != 1 {
		t.Fatalf("an update that wrote nothing made revision %d", r)
	}
}

func TestSlicesAreFiledByService(t *testing.T) {
	t.Parallel()
	s := New()
	update(t, s, func(x *Txn) {
		x.PutSlice(slice("x-2", "x"))
		x.PutSlice(slice("x-1", "x"))
		x.PutSlice(slice("xx-1", "xx")) // a name that begins with another's is not its slice
	})
	if got := sliceNames(s.Snapshot(), "x"); !slices.Equal(got, []string{"x-1", "x-2"}) {
		t.Fatalf("slices of x: %v", got)
	}
	c := s.Follow("test")
	next(t, c)
	update(t, s, func(x *Txn) { x.PutSlice(slice("x-1", "y")) })
	_, d := next(t, c)
	if _, x := d.Services[name("x")]; !x || len(d.Services) != 2 {
		t.Fatalf("moving a slice from x to y changed %v", d.Services)
	}
	if x, y := sliceNames(s.Snapshot(), "x"), sliceNames(s.Snapshot(), "y"); len(x) != 1 || len(y) != 1 {
		t.Fatalf("after the move x has %v and y has %v", x, y)
	}
	update(t, s, func(x *Txn) { x.DeleteSlice(name("x-1")); x.DeleteSlice(name("x-2")); x.DeleteSlice(name("xx-1")) })
	if n := s.Snapshot().SliceCount(); n != 0 {
		t.Fatalf("%d slices left", n)
	}
}

func next(t testing.TB, c *Cursor) (*Snapshot, Delta) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, d, err := c.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

func TestCursorMergesRewindsAndResyncs(t *testing.T) {
	t.Parallel()
	s := New()
	c := s.Follow("test")
	if _, d := next(t, c); !d.All {
		t.Fatal("the first delta is not All")
	}
	update(t, s, func(x *Txn) { x.PutService(service("a")) })
	update(t, s, func(x *Txn) { x.PutNode(&model.Node{Name: "n"}) })
	snap, d := next(t, c)
	if snap.Revision != 2 || len(d.Services) != 1 || len(d.Nodes) != 1 || d.All {
		t.Fatalf("merged delta %+v at %d", d, snap.Revision)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := c.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Next with nothing new: %v", err)
	}
	c.Rewind()
	update(t, s, func(x *Txn) { x.PutService(service("b")) })
	if _, d = next(t, c); len(d.Services) != 2 || len(d.Nodes) != 1 {
		t.Fatalf("after Rewind %+v", d)
	}
	c.Resync()
	if _, d = next(t, c); !d.All {
		t.Fatal("after Resync the delta is not All")
	}
}

func TestSyncedWaitsForEverySource(t *testing.T) {
	t.Parallel()
	s := New()
	a, b := s.Announce("a"), s.Announce("b")
	c := s.Follow("test")
	if snap, _ := next(t, c); snap.Synced {
		t.Fatal("synced before any source delivered")
	}
	a()
	a() // saying it twice is harmless
	if s.Snapshot().Synced || !slices.Equal(s.Unsynced(), []string{"b"}) {
		t.Fatalf("synced with %v outstanding", s.Unsynced())
	}
	b()
	if snap, d := next(t, c); !snap.Synced || !d.Synced {
		t.Fatalf("not synced after the last source: %+v", d)
	}
}

func TestAppliedWaitsForConsumers(t *testing.T) {
	t.Parallel()
	s := New()
	c := s.Follow("nft")
	r := update(t, s, func(x *Txn) { x.PutService(service("a")) })
	done := make(chan error, 1)
	go func() { done <- s.Applied(context.Background(), r, "nft", "not-there") }()
	c.Report(r, errors.New("no"), nil) // a failed attempt puts nothing in force
	select {
	case <-done:
		t.Fatal("Applied returned after a failure")
	default:
	}
	if st := s.Statuses(); len(st) != 1 || st[0].Revision != 0 || st[0].Err == nil {
		t.Fatalf("status %+v", st)
	}
	c.Report(r, nil, map[string]error{"service default/b": errors.New("bad")})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := s.Applied(context.Background(), r+100, "nft"); err != nil || len(s.Statuses()) != 0 {
		t.Fatal("a closed consumer is waited for")
	}
}

func TestExpectedConsumersAreWaitedFor(t *testing.T) {
	t.Parallel()
	s := New()
	r := update(t, s, func(x *Txn) { x.PutService(service("a")) })
	withdraw := s.Expect("nft")
	done := make(chan error, 1)
	go func() { done <- s.Applied(context.Background(), r, "nft") }()
	first := s.Follow("nft")
	first.Close()
	first.Close()
	select {
	case <-done:
		t.Fatal("an expected consumer is not waited for once its first cursor is closed")
	default:
	}
	second := s.Follow("nft")
	second.Report(r, nil, nil)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	withdraw()
	if len(s.Statuses()) != 1 {
		t.Fatal("the row went before its cursor was closed")
	}
	second.Close()
	if got := s.Statuses(); len(got) != 0 {
		t.Fatalf("left: %+v", got)
	}
}

// TestAgainstAMap runs random histories and compares every snapshot with plain maps, while readers read.
func TestAgainstAMap(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	s := New()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				snap := s.Snapshot()
				n := 0
				for range snap.Services.All() {
					n++
				}
				if n != snap.Services.Len() {
					panic("a snapshot changed while it was read")
				}
			}
		}
	})
	want := map[string]string{} // slice → service
	for range 3000 {
		n, svc := fmt.Sprint("s", rnd.IntN(40)), fmt.Sprint("svc", rnd.IntN(8))
		update(t, s, func(x *Txn) {
			if rnd.IntN(3) == 0 {
				x.DeleteSlice(name(n))
				delete(want, n)
			} else {
				x.PutSlice(slice(n, svc))
				x.PutService(service(svc))
				want[n] = svc
			}
		})
		got := map[string]string{}
		for e := range s.Snapshot().AllSlices() {
			got[e.Name.Name] = e.Service.Name
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("store %v, map %v", got, want)
		}
	}
	close(stop)
	readers.Wait()
}

// BenchmarkUpdate publishes one changed slice among 10,000 Services; the design's budget is about 8 µs.
func BenchmarkUpdate(b *testing.B) {
	s := New()
	update(b, s, func(x *Txn) {
		for i := range 10000 {
			n := fmt.Sprintf("svc-%05d", i)
			x.PutService(service(n))
			x.PutSlice(slice(n+"-1", n))
		}
	})
	c := s.Follow("bench")
	next(b, c)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		n := fmt.Sprintf("svc-%05d", i%10000)
		update(b, s, func(x *Txn) { x.PutSlice(slice(n+"-1", n)) })
		next(b, c)
		i++
	}
}
