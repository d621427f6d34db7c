package memory

import "testing"

func TestParseRange(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		start, end uintptr
		ok         bool
	}{
		"00400000-03859000": {0x400000, 0x3859000, true},
		"03859000-00400000": {0x3859000, 0x400000, false}, // unmapping that would unmap nothing of ours
		"00400000":          {},
		"zz-03859000":       {0, 0x3859000, false},
	} {
		start, end, ok := parseRange(in)
		if ok != want.ok || ok && (start != want.start || end != want.end) {
			t.Errorf("%q: %#x-%#x %v, want %+v", in, start, end, ok, want)
		}
	}
}
