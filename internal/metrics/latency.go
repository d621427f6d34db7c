package metrics

import (
	"slices"
	"time"
)

// Latency is how long the newest changes took from their arrival from the API to their commit in the kernel, for people:
// fairway_programming_duration_seconds has all of them, for machines.
type Latency struct {
	// Commits counts all there were; the others are of the newest 1024 at most, in seconds.
	Commits uint64  `json:"commits"`
	P50     float64 `json:"p50Seconds"`
	P99     float64 `json:"p99Seconds"`
}

// recent keeps the newest durations. Line.mu guards it.
type recent struct {
	count uint64
	ring  []time.Duration
}

const mostRecent = 1024

func (r *recent) add(d time.Duration) {
	if len(r.ring) < mostRecent {
		r.ring = append(r.ring, d)
	} else {
		r.ring[r.count%mostRecent] = d
	}
	r.count++
}

// Latency gives the latency so far.
func (l *Line) Latency() Latency {
	l.mu.Lock()
	sorted, count := slices.Sorted(slices.Values(l.recent.ring)), l.recent.count
	l.mu.Unlock()
	out := Latency{Commits: count}
	if n := len(sorted); n > 0 {
		out.P50, out.P99 = sorted[n/2].Seconds(), sorted[n*99/100].Seconds()
	}
	return out
}
