package nft

import (
	"maps"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// TestGroups holds which numbers clients are remembered by: they stay as long as the backend is there, through reading back too, and no
// two groups have one.
func TestGroups(t *testing.T) {
	t.Parallel()
	sticky := func(name string, n byte, backends ...string) *plan.Service {
		p := planOf(name, n, backends...)
		f := &p.Frontends[0]
		f.Affinity, f.Sticky = time.Minute, f.Key
		second := *f
		second.Port = 8080
		p.Frontends = append(p.Frontends, second)
		return p
	}
	k := &kernel{mirror: newMirror(), tables: []*ruleset{{family: ipv4, classes: newRegistry()}}}
	numbers := func(p *plan.Service) map[string]uint32 {
		t.Helper()
		k.diff(p)
		out := map[string]uint32{}
		for i := range p.Frontends {
			h := k.mirror.frontends[p.Frontends[i].Key]
			for slot, b := range h.in {
				n := h.stuck.draws[slot]
				if h.stuck.live[n] != b || n&groupMask != h.stuck.group || n == h.stuck.group {
					t.Errorf("%s: slot %d is %s, number %#x of group %#x, which is %s", p.Name, slot, b, n, h.stuck.group, h.stuck.live[n])
				}
				if old, ok := out[b.String()]; ok && old != n {
					t.Errorf("%s: %s has the numbers %#x and %#x", p.Name, b, old, n)
				}
				out[b.String()] = n
			}
		}
		return out
	}
	one := numbers(sticky("one", 1, "10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"))
	two := numbers(sticky("two", 2, "10.1.0.1:80"))
	if a, b := one["10.1.0.1:80"]&groupMask, two["10.1.0.1:80"]&groupMask; a == b {
		t.Errorf("two Services are in group %#x", a)
	}
	less := numbers(sticky("one", 1, "10.1.0.2:80", "10.1.0.3:80"))
	if less["10.1.0.2:80"] != one["10.1.0.2:80"] || less["10.1.0.3:80"] != one["10.1.0.3:80"] {
		t.Errorf("numbers changed from %v to %v", one, less)
	}
	// A process that starts reads the rows back, and does not know yet whose they are.
	read := newMirror()
	for key, h := range k.mirror.frontends {
		read.frontends[key] = &held{in: h.in, class: h.class, stuck: h.stuck}
		read.lastGroup = max(read.lastGroup, h.stuck.group)
	}
	k.mirror = read
	fresh := numbers(sticky("newer", 3, "10.1.0.9:80"))
	if n := fresh["10.1.0.9:80"] & groupMask; n == one["10.1.0.1:80"]&groupMask || n == two["10.1.0.1:80"]&groupMask {
		t.Errorf("the group %#x is given twice", n)
	}
	if again := numbers(sticky("one", 1, "10.1.0.2:80", "10.1.0.3:80")); !maps.Equal(again, less) {
		t.Errorf("after a restart %v, want %v", again, less)
	}
	if again := numbers(sticky("two", 2, "10.1.0.1:80")); !maps.Equal(again, two) {
		t.Errorf("after a restart %v, want %v", again, two)
	}
	k.diff(&plan.Service{Name: model.Name{Namespace: "default", Name: "one"}})
	if _, there := k.mirror.groups[one["10.1.0.1:80"]&groupMask]; there || len(k.mirror.groups) != 2 {
		t.Errorf("a Service that is gone keeps its group: %v", k.mirror.groups)
	}
}

// TestNoGroupLeft gives out all numbers of groups, and one more.
func TestNoGroupLeft(t *testing.T) {
	t.Parallel()
	m := newMirror()
	for range groupStep - 1 {
		n := m.freeGroup()
		if _, taken := m.groups[n]; taken || n == 0 || n&^groupMask != 0 {
			t.Fatalf("number %#x", n)
		}
		m.groups[n] = model.Name{Namespace: "default", Name: "another"}
	}
	if n := m.freeGroup(); n == 0 || n&^groupMask != 0 {
		t.Errorf("number %#x", n)
	}
	delete(m.groups, 0x00070000)
	if n := m.freeGroup(); n != 0x00070000 {
		t.Errorf("number %#x, want the one that is free", n)
	}
}
