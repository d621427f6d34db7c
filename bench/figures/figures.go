// Package figures is what the benchmarks share: statistics of what was measured, and the lines in which results are told.
package figures

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// None is a figure that could not be measured, or a peer that is not at hand: it is written as "-".
var None = math.NaN()

// Result is one line of a benchmark's end: RESULT <figure> ours=<number> peer=<number> unit=<unit>.
type Result struct {
	Figure     string
	Ours, Peer float64
	Unit       string
}

// String is the line.
func (r Result) String() string {
	return fmt.Sprintf("RESULT %s ours=%s peer=%s unit=%s", r.Figure, number(r.Ours), number(r.Peer), r.Unit)
}

func number(x float64) string {
	if math.IsNaN(x) {
		return "-"
	}
	if math.Abs(x) >= 1000 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'g', 4, 64)
}

// Median is the middle one, None of nothing.
func Median(xs []float64) float64 { return Percentile(xs, 50) }

// Percentile is the smallest value that p percent of all do not exceed, None of nothing.
func Percentile(xs []float64, p int) float64 {
	if len(xs) == 0 {
		return None
	}
	s := slices.Sorted(slices.Values(xs))
	return s[max(0, (len(s)*p+99)/100-1)]
}
