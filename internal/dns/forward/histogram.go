package forward

import (
	"sync/atomic"
	"time"
)

// Bounds are the upper bounds of a Histogram's buckets: those of CoreDNS, from a quarter of a millisecond, each twice the one before.
var Bounds = func() (out [16]time.Duration) {
	d := 250 * time.Microsecond
	for i := range out {
		out[i] = d
		d *= 2
	}
	return out
}()

// Histogram counts durations. Its zero value is empty; all methods may be called at the same time.
type Histogram struct {
	buckets [len(Bounds) + 1]atomic.Uint64
	sum     atomic.Int64
}

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) { h.ObserveN(d, 1) }

// ObserveN counts n durations that were the same.
func (h *Histogram) ObserveN(d time.Duration, n uint64) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.buckets[i].Add(n)
	h.sum.Add(int64(d) * int64(n))
}

// Read gives the number of durations, their sum in seconds, and how many were at most each bound (in seconds).
func (h *Histogram) Read() (count uint64, sum float64, upTo map[float64]uint64) {
	upTo = make(map[float64]uint64, len(Bounds))
	for i := range h.buckets {
		count += h.buckets[i].Load()
		if i < len(Bounds) {
			upTo[Bounds[i].Seconds()] = count
		}
	}
	return count, time.Duration(h.sum.Load()).Seconds(), upTo
}
