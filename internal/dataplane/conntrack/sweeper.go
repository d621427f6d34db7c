package conntrack

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"
)

// Sweeper sweeps a Table in the background, so that whoever changes rules does not wait for the kernel to walk its flows. What is added
// while it walks or rests is swept in one go afterwards.
type Sweeper struct {
	table *Table
	log   *slog.Logger

	mu      sync.Mutex
	pending Serving
	wake    chan struct{}
}

// NewSweeper gives a Sweeper that has not started.
func NewSweeper(t *Table, log *slog.Logger) *Sweeper {
	return &Sweeper{table: t, log: log, pending: Serving{}, wake: make(chan struct{}, 1)}
}

// Add asks for the flows to these frontends to be checked. Call it when the new rules are in force, or the next packet would bring a
// forgotten flow back. It does not wait.
func (s *Sweeper) Add(what Serving) {
	s.mu.Lock()
	maps.Copy(s.pending, what)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// After a sweep the Sweeper rests for this many times as long as it took, so that it costs a tenth of one CPU at most whatever the
// size of the table and the number of changes; but never longer than that, for a client may be waiting.
const (
	restAfterSweep = 9
	longestRest    = 2 * time.Second
)

// Run sweeps whatever is added until ctx ends, and returns its error. After a failure it tries again.
func (s *Sweeper) Run(ctx context.Context) error {
	const retry = time.Second
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		case <-again:
		}
		s.mu.Lock()
		now := s.pending
		s.pending = Serving{}
		s.mu.Unlock()
		again = nil
		start := time.Now()
		n, err := s.table.Sweep(now)
		if err != nil {
			s.log.Error("cannot check for stale flows", "error", err)
			s.mu.Lock()
			maps.Copy(now, s.pending) // what came meanwhile is newer
			s.pending = now
			s.mu.Unlock()
			again = time.After(retry)
		}
		if n > 0 {
			s.log.Debug("deleted stale flows", "flows", n)
		}
		rest := time.NewTimer(min(restAfterSweep*time.Since(start), longestRest))
		select {
		case <-ctx.Done():
			rest.Stop()
			return ctx.Err()
		case <-rest.C:
		}
	}
}
