package nft_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
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

var v4 = connections.Families[0]

func tcp(n int) plan.Key { return plan.Key{Addr: v4.Service(n), Protocol: model.TCP, Port: 80} }

// expect asks until the answer is as wanted.
func (l *lab) expect(from connections.Place, to plan.Key, want sim.Verdict, at connections.Place) {
	l.t.Helper()
	var a answer
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		patience := 5 * time.Second
		if want == sim.Drop {
			patience = 250 * time.Millisecond
		}
		if a, err = l.ask(from, to, patience); err == nil && a.verdict == want && (at == "" || a.backend.Place == at) {
			return
		}
	}
	l.t.Fatalf("%s → %s: %s by %q, %v, want %s by %q", from, to, a.verdict, a.backend.Place, err, want, at)
}

// TestRestart stops the process, changes the rows, and starts another one; clients notice nothing but the new state.
func TestRestart(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	stop := l.start()
	stays, s1 := web(v4, 1, "stays", connections.PodA)
	goes, s2 := web(v4, 2, "goes", connections.PodA)
	changes, s3 := web(v4, 3, "changes", connections.PodA, connections.PodB)
	l.applied(connections.Put(l.store, nil, []*model.Service{stays, goes, changes}, []*model.EndpointSlice{s1, s2, s3}))

	stop()
	for n := range 3 {
		l.expect(connections.PodC, tcp(n+1), sim.Forward, "") // the ruleset works without its process
	}

	// The next process starts with an empty store and hears of the rows bit by bit.
	l.store = store.New()
	done := l.store.Announce("test")
	before := l.dump()
	l.start()
	connections.Put(l.store, nil, []*model.Service{stays}, nil)
	l.expect(connections.PodC, tcp(1), sim.Forward, connections.PodA)
	l.expect(connections.PodC, tcp(2), sim.Forward, connections.PodA)
	if now := l.dump(); now != before {
		t.Errorf("an unsynced snapshot was written to the kernel; before:\n%s\nnow:\n%s", before, now)
	}
	connections.Put(l.store, nil, []*model.Service{changes}, []*model.EndpointSlice{s1, backends(v4, changes, connections.PodB, connections.PodD)})
	done()
	l.applied(l.store.Snapshot().Revision)
	l.expect(connections.PodC, tcp(1), sim.Forward, connections.PodA)
	l.expect(connections.PodC, tcp(2), sim.Drop, "")
	for range 20 {
		if a, err := l.ask(connections.PodC, tcp(3), 5*time.Second); err != nil || a.backend.Place == connections.PodA {
			t.Fatalf("after the restart %v answered, %v", a, err)
		}
	}
}

// dump gives the IPv4 table in an order of its own: that of the elements of a set is random. Without a table it is "".
func (l *lab) dump() string {
	out, err := l.ns[connections.OnNode].Command("nft", "list", "table", "ip", "fairway").Output()
	if err != nil {
		return ""
	}
	words := strings.FieldsFunc(string(out), func(r rune) bool { return strings.ContainsRune(",\n{}", r) })
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	slices.Sort(words)
	return strings.Join(words, "\n")
}

// TestColdStartWaits checks that an unsynced first start leaves the kernel alone.
func TestColdStartWaits(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	done := l.store.Announce("test")
	l.start()
	s, slice := web(v4, 1, "web", connections.PodA)
	connections.Put(l.store, nil, []*model.Service{s}, []*model.EndpointSlice{slice})
	// Two seconds' worth of looks would be a sleep; one answer of the network is enough for a consumer that does not wait.
	_, _ = l.ask(connections.PodC, tcp(1), 250*time.Millisecond)
	if out := l.ns[connections.OnNode].Run("nft", "list", "ruleset"); out != "" {
		t.Errorf("written before the snapshot was synced:\n%s", out)
	}
	done()
	l.applied(l.store.Snapshot().Revision)
	l.expect(connections.PodC, tcp(1), sim.Forward, connections.PodA)
}

// TestForeignEdits lets somebody else break the tables in every way, and finds them repaired without any change of the rows.
func TestForeignEdits(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]string{
		"element deleted":  "delete element ip fairway slots { 10.96.0.1 . tcp . 80 . 0 }",
		"element replaced": "delete element ip fairway slots { 10.96.0.1 . tcp . 80 . 0 } ; add element ip fairway slots { 10.96.0.1 . tcp . 80 . 0 : 10.244.1.99 . 1 }",
		"map flushed":      "flush map ip fairway services",
		"element added":    "add element ip fairway cluster-ips { 10.96.0.77 }",
		"chain flushed":    "flush chain ip fairway prerouting",
		"rule added":       "insert rule ip fairway pick-1 drop",
		"table deleted":    "delete table ip fairway",
		"all deleted":      "flush ruleset",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.start()
			s, slice := web(v4, 1, "web", connections.PodA)
			l.applied(connections.Put(l.store, nil, []*model.Service{s}, []*model.EndpointSlice{slice}))
			before := l.dump()
			l.ns[connections.OnNode].Run("nft", edit)
			l.await(func() bool { return l.dump() == before })
			l.expect(connections.PodC, tcp(1), sim.Forward, connections.PodA)
		})
	}
}

// TestChurn changes the backends of a Service over and over, all of them alive, while clients connect: not one may fail.
func TestChurn(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	s, slice := web(v4, 1, "web", connections.PodA)
	l.applied(connections.Put(l.store, nil, []*model.Service{s}, []*model.EndpointSlice{slice}))
	const enough = 300
	var clients sync.WaitGroup
	var made, changes atomic.Int64
	connected := make(chan struct{})
	for _, from := range []connections.Place{connections.PodC, connections.OnNode, connections.Outside} {
		clients.Go(func() {
			for changes.Load() < enough {
				if a, err := l.ask(from, tcp(1), 5*time.Second); err != nil || a.verdict != sim.Forward {
					t.Errorf("%s: %s, %v, after %d connections", from, a.verdict, err, made.Load())
					return
				}
				made.Add(1)
				select {
				case connected <- struct{}{}:
				default:
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	sets := [][]connections.Place{
		{connections.PodA, connections.PodB}, {connections.PodA, connections.PodB, connections.PodC, connections.PodD}, {connections.PodC}, {connections.PodB, connections.PodD},
		{connections.PodA, connections.PodC, connections.PodD}, {connections.PodA},
	}
	for n := changes.Load(); n < enough; n = changes.Add(1) {
		l.applied(connections.Put(l.store, nil, nil, []*model.EndpointSlice{backends(v4, s, sets[int(n)%len(sets)]...)}))
		select {
		case <-connected: // each set is used
		case <-done:
			return
		}
	}
	<-done
	t.Logf("%d connections", made.Load())
}

// TestContested gives two Services one external address: the first keeps it, the second is named as failed and everything else of
// it works; when the first goes, the second gets it.
func TestContested(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	first, s1 := web(v4, 1, "first", connections.PodA)
	second, s2 := web(v4, 2, "second", connections.PodB)
	first.Ports, second.Ports = first.Ports[:1], second.Ports[:1]
	first.ExternalIPs, second.ExternalIPs = []netip.Addr{v4.External(5)}, []netip.Addr{v4.External(5)}
	l.applied(connections.Put(l.store, nil, []*model.Service{first}, []*model.EndpointSlice{s1}))
	rev := connections.Put(l.store, nil, []*model.Service{second}, []*model.EndpointSlice{s2})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := l.store.Applied(ctx, rev, nft.Consumer); err != nil {
		t.Fatal(err)
	}
	failed := l.store.Statuses()[0].Failed
	if err := failed["service default/second"]; len(failed) != 1 || err == nil || !strings.Contains(err.Error(), "203.0.113.5:80/TCP belongs to service default/first") {
		t.Errorf("failed: %v", failed)
	}
	external := plan.Key{Addr: v4.External(5), Protocol: model.TCP, Port: 80}
	l.expect(connections.Outside, external, sim.Forward, connections.PodA)
	l.expect(connections.Outside, tcp(2), sim.Forward, connections.PodB)

	rev, _ = l.store.Update(func(t *store.Txn) error { t.DeleteService(first.Name); return nil })
	l.applied(rev)
	l.expect(connections.Outside, external, sim.Forward, connections.PodB)
}

// TestAddressPassesOn deletes a Service and gives its address to another one in one transaction.
func TestAddressPassesOn(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	old, s1 := web(v4, 1, "z-old", connections.PodA)
	l.applied(connections.Put(l.store, nil, []*model.Service{old}, []*model.EndpointSlice{s1}))
	for _, name := range []string{"a-new", "z-newer", "m-newest"} {
		next, s2 := web(v4, 1, name, connections.PodB)
		rev, _ := l.store.Update(func(t *store.Txn) error {
			t.DeleteService(old.Name)
			t.PutService(next)
			t.PutSlice(s2)
			return nil
		})
		l.applied(rev)
		l.expect(connections.PodC, tcp(1), sim.Forward, connections.PodB)
		old = next
	}
}
