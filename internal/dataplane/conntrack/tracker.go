package conntrack

import (
	"encoding/binary"
	"net/netip"

	"fairway.dev/fairway/internal/plan"
)

// Tracker remembers which backends serve at every frontend in force, and collects those frontends where that has changed. It is pure, and belongs
// to one goroutine. Of a frontend that it hears of for the first time, also after a restart, all flows are in question.
type Tracker struct {
	known   map[plan.Key]uint64 // frontend → digest of its serving backends, which takes far less room than they do
	pending Serving
}

// NewTracker gives a Tracker that knows nothing.
func NewTracker() *Tracker {
	return &Tracker{known: map[plan.Key]uint64{}, pending: Serving{}}
}

// Put notes a frontend as the plan has it.
func (t *Tracker) Put(f *plan.Frontend) {
	if !watched(f.Protocol) {
		return
	}
	d := digest(f.Serving)
	if old, known := t.known[f.Key]; known && old == d {
		return
	}
	t.known[f.Key], t.pending[f.Key] = d, f.Serving
}

// Remove notes that a frontend is gone.
func (t *Tracker) Remove(k plan.Key) {
	if watched(k.Protocol) {
		delete(t.known, k)
		t.pending[k] = nil
	}
}

// Take gives what has changed since the last Take; empty if nothing has.
func (t *Tracker) Take() Serving {
	out := t.pending
	if len(out) > 0 {
		t.pending = Serving{}
	}
	return out
}

// digest is FNV-1a over the backends.
func digest(bs []netip.AddrPort) uint64 {
	h := uint64(14695981039346656037)
	var b [18]byte
	for _, a := range bs {
		ip := a.Addr().As16()
		copy(b[:], ip[:])
		binary.BigEndian.PutUint16(b[16:], a.Port())
		for _, c := range b {
			h = (h ^ uint64(c)) * 1099511628211
		}
	}
	return h
}
