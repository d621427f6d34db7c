package app

import (
	"slices"
	"testing"
)

// TestResolverSteps: the names that a resolver makes of one, in the order of resolv.conf(5).
func TestResolverSteps(t *testing.T) {
	t.Parallel()
	search := []string{"a.svc.c", "svc.c.", "c"}
	for _, c := range []struct {
		name  string
		ndots int
		want  []string
	}{
		{"x", 5, []string{"x.a.svc.c.", "x.svc.c.", "x.c.", "x."}},
		{"x.y.z.v.w", 5, []string{"x.y.z.v.w.a.svc.c.", "x.y.z.v.w.svc.c.", "x.y.z.v.w.c.", "x.y.z.v.w."}},
		{"x.y", 1, []string{"x.y.", "x.y.a.svc.c.", "x.y.svc.c.", "x.y.c."}},
		{"x", 0, []string{"x.", "x.a.svc.c.", "x.svc.c.", "x.c."}},
		{"x.y.", 5, []string{"x.y."}},
	} {
		if got := resolverSteps(c.name, search, c.ndots); !slices.Equal(got, c.want) {
			t.Errorf("%s ndots %d: %v, want %v", c.name, c.ndots, got, c.want)
		}
	}
	if got := resolverSteps("x", nil, 0); !slices.Equal(got, []string{"x."}) {
		t.Error(got)
	}
}

func TestDNSType(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]uint16{"a": 1, "AAAA": 28, "srv": 33, "TYPE65": 65, "type257": 257, "": 0, "TYPE": 0, "TYPE70000": 0, "TYPE1x": 0} {
		if got, ok := dnsType(s); got != want || ok != (want != 0) {
			t.Errorf("%q: %d %v", s, got, ok)
		}
	}
}
