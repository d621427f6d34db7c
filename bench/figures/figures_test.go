package figures

import "testing"

func TestResult(t *testing.T) {
	for want, r := range map[string]Result{
		"RESULT a ours=0.5123 peer=1025 unit=ms": {"a", 0.51234, 1025.2, "ms"},
		"RESULT b ours=12 peer=- unit=MiB":       {"b", 12, None, "MiB"},
	} {
		if got := r.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPercentile(t *testing.T) {
	xs := []float64{5, 1, 4, 2, 3}
	for p, want := range map[int]float64{50: 3, 99: 5, 100: 5, 20: 1, 21: 2, 0: 1} {
		if got := Percentile(xs, p); got != want {
			t.Errorf("percentile %d is %v, want %v", p, got, want)
		}
	}
	if got := Percentile(nil, 50); got == got {
		t.Errorf("of nothing: %v", got)
	}
}
