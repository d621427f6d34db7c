package app

import (
	"strings"
	"testing"
)

func TestKernelAtLeast(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		release string
		refused bool
	}{
		{"5.13.0", false},
		{"5.13", false},
		{"5.13-rc1", false},
		{"6.1.0-18-amd64", false},
		{"6.6.87.2-microsoft-standard-WSL2", false},
		{"10.0.1", false},
		{"5.12.19", true},
		{"5.4.0-200-generic", true},
		{"5.9+", true}, // not 59
		{"4.18.0-553.el8_10.x86_64", true},
		{"4.99.0", true}, // the minor of an older major
		// What nobody can read is not refused.
		{"", false},
		{"next", false},
		{"x.y.z", false},
	} {
		err := kernelAtLeast(c.release, [2]int{5, 13})
		if (err != nil) != c.refused {
			t.Errorf("kernel %q: %v; want refused: %v", c.release, err, c.refused)
		}
		if err != nil && (!strings.Contains(err.Error(), c.release) || !strings.Contains(err.Error(), "5.13")) {
			t.Errorf("kernel %q: the message does not say which it is and which it should be: %v", c.release, err)
		}
	}
}
