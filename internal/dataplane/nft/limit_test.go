package nft

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/plan"
)

// TestLimit holds what is left of Services with more backends than slots, and that they are named.
func TestLimit(t *testing.T) {
	t.Parallel()
	const most = 10
	for _, c := range []struct {
		name                  string
		inside, outside       []netip.AddrPort
		affinity              time.Duration
		wantInside, wantOther int
		named                 string
	}{
		{"as many as there are slots", manyBackends(0, 10), manyBackends(100, 10), 0, 10, 10, ""},
		{"one more inside", manyBackends(0, 11), manyBackends(100, 10), 0, 10, 10, "has 11 endpoints, and only 10 of them"},
		{"one more outside", manyBackends(0, 3), manyBackends(100, 11), 0, 3, 10, "has 11 endpoints, and only 10 of them"},
		{"affinity, the same inside and outside", manyBackends(0, 10), manyBackends(0, 10), time.Hour, 10, 10, ""},
		{"affinity, others outside", manyBackends(0, 10), manyBackends(100, 1), time.Hour, 5, 1, "has 10 endpoints, and only 5 of them"},
		{"affinity, too many of both", manyBackends(0, 12), manyBackends(100, 12), time.Hour, 5, 5, "has 12 endpoints, and only 5 of them"},
	} {
		p := planOf("crowd", 1)
		f := &p.Frontends[0]
		f.Inside, f.Outside = plan.Choice{Backends: c.inside}, plan.Choice{Backends: c.outside}
		f.Split, f.Affinity, f.Sticky = true, c.affinity, f.Key
		whole := slices.Clone(c.inside)
		err := limit(p, most)
		if c.named == "" && err != nil || c.named != "" && (err == nil || !strings.HasPrefix(err.Error(), "service default/crowd: ") || !strings.Contains(err.Error(), c.named)) {
			t.Errorf("%s: named as %v, want %q", c.name, err, c.named)
		}
		if in, out := len(f.Inside.Backends), len(f.Outside.Backends); in != c.wantInside || out != c.wantOther {
			t.Errorf("%s: %d inside, %d outside are left, want %d, %d", c.name, in, out, c.wantInside, c.wantOther)
		}
		if !slices.Equal(c.inside, whole) {
			t.Errorf("%s: the list itself was changed", c.name)
		}
	}
}

// TestAffinityNumbersRunOut gives a Service two thirds of all numbers, and then as many other backends: each has a number of its own, of that group.
func TestAffinityNumbersRunOut(t *testing.T) {
	t.Parallel()
	m := newMirror()
	p := planOf("crowd", 1)
	f := &p.Frontends[0]
	f.Affinity, f.Sticky = time.Hour, f.Key
	for _, from := range []int{0, 30_000} {
		f.Inside = plan.Choice{Backends: manyBackends(from, 44_000)}
		f.Outside = f.Inside
		g := m.groupsOf(p)[f.Key]
		seen := map[uint32]bool{}
		for _, b := range f.Inside.Backends {
			n := g.backends[b]
			if n&groupMask != g.number || n == g.number || seen[n] {
				t.Fatalf("backends from %d: %s has number %x of group %x, which another has: %t", from, b, n, g.number, seen[n])
			}
			seen[n] = true
		}
		h := m.frontends[f.Key]
		if h == nil {
			h = &held{owner: p.Name}
			m.frontends[f.Key] = h
		}
		kept := 0
		for n, b := range h.stuck.live {
			if g.backends[b] == n {
				kept++
			}
		}
		if from > 0 && kept != 14_000 {
			t.Errorf("%d backends keep their numbers, want 14,000", kept)
		}
		h.stuck = g.stuck(f.Inside.Backends, nil)
	}
}
