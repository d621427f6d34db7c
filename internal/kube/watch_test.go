package kube

import "testing"

func TestVersionNewer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v, o Version
		want bool
	}{
		{"2", "1", true}, {"1", "2", false}, {"2", "2", false},
		{"10", "9", true}, {"9", "10", false},
		{"18446744073709551616", "18446744073709551615", true}, // beyond 64 bits
		{"x", "1", true}, {"1", "", true}, {"x", "x", false}, {"01", "5", true}, // no numbers: newer unless the same
	} {
		if got := c.v.Newer(c.o); got != c.want {
			t.Errorf("%q newer than %q: %v, want %v", c.v, c.o, got, c.want)
		}
	}
}
