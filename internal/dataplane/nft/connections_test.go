package nft_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/dataplane/sim"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit/connections"
)

// TestConnections opens every connection of the small world, with the rows written in both orders, and at last finds the
// kernel empty.
func TestConnections(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	node, services, eps := connections.World()

	l.applied(connections.Put(l.store, &node, services, nil))
	l.applied(connections.Put(l.store, nil, nil, eps))
	t.Run("services first", l.cases)
	l.empty()
	l.applied(connections.Put(l.store, nil, nil, eps))
	l.applied(connections.Put(l.store, nil, services, nil))
	t.Run("slices first", l.cases)
	l.empty()

	l.ns[connections.OnNode].Do(func() {
		for range 2 {
			if err := nft.Cleanup(""); err != nil {
				t.Error(err)
			}
		}
	})
	if out := l.ns[connections.OnNode].Run("nft", "list", "ruleset"); out != "" {
		t.Errorf("Cleanup left:\n%s", out)
	}
}

func (l *lab) cases(t *testing.T) {
	for _, f := range connections.Families {
		for _, c := range f.Cases() {
			t.Run(f.String()+"/"+c.Name+" from "+string(c.From), func(t *testing.T) { l.run(t, f, c) })
		}
	}
}

func (l *lab) run(t *testing.T, f connections.Family, c connections.Case) {
	if c.Want != sim.Forward {
		patience := 5 * time.Second
		if c.Want == sim.Drop {
			patience = 250 * time.Millisecond
		}
		want := c.Want
		if want == sim.Pass {
			want = sim.Reject // nobody listens on the node
		}
		a, err := l.ask(c.From, c.To, patience)
		if err != nil || a.verdict != want {
			t.Errorf("%s → %s: %s from %v, %v, want %s", c.From, c.To, a.verdict, a.backend, err, want)
		}
		return
	}
	source := f.Addr(connections.OnNode)
	if c.Kept {
		source = f.Addr(c.From)
	}
	seen := map[connections.Backend]int{}
	// With two backends one stays unseen in 60 tries once in 10^17 runs.
	for range 60 {
		a, err := l.ask(c.From, c.To, 5*time.Second)
		if err != nil || a.verdict != sim.Forward {
			t.Fatalf("%s → %s: %s, %v", c.From, c.To, a.verdict, err)
		}
		if !slices.Contains(c.Backends, a.backend) {
			t.Fatalf("%s → %s: answered by %v, want one of %v", c.From, c.To, a.backend, c.Backends)
		}
		if a.source != source {
			t.Fatalf("%s → %s: %v saw %s as the source, want %s", c.From, c.To, a.backend, a.source, source)
		}
		seen[a.backend]++
		if len(seen) == len(c.Backends) && !c.Sticky {
			return
		}
	}
	if c.Sticky && len(seen) != 1 {
		t.Errorf("%s → %s: answered by %v, want one for all", c.From, c.To, seen)
	}
	if !c.Sticky {
		t.Errorf("%s → %s: answered by %v only, want %v", c.From, c.To, slices.Collect(maps.Keys(seen)), c.Backends)
	}
}

// empty deletes all rows and checks that no Service has left an element.
func (l *lab) empty() {
	l.t.Helper()
	rev, _ := l.store.Update(func(t *store.Txn) error {
		for s := range l.store.Snapshot().AllSlices() {
			t.DeleteSlice(s.Name)
		}
		for s := range l.store.Snapshot().Services.All() {
			t.DeleteService(s.Name)
		}
		return nil
	})
	l.applied(rev)
	for _, family := range []string{"ip", "ip6"} {
		for _, s := range []string{"services", "slots", "cluster-ips", "hairpins", "sources", "sticky", "draws", "live", "live-outside"} {
			kind := "map"
			if slices.Contains([]string{"cluster-ips", "hairpins", "sources"}, s) {
				kind = "set"
			}
			out := l.ns[connections.OnNode].Run("nft", "list", kind, family, "fairway", s)
			if strings.Contains(out, "elements") {
				l.t.Errorf("after everything was deleted: %s", out)
			}
		}
	}
}
