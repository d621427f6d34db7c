package metrics

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/store"
)

// stale is how old a change may be that is not in force, before the line counts as unhealthy: twice kube-proxy's default period between
// synchronisations, as there.
const stale = time.Minute

// mostPending bounds what is remembered of changes that are not in force.
const mostPending = 4096

// Config says what a Line tells about.
type Config struct {
	// Store is what the line follows, and Kernel the consumer that puts it in force.
	Store  *store.Store
	Kernel string
	// Node and NodePortCIDRs are those of the data plane.
	Node          string
	NodePortCIDRs []netip.Prefix
	// Version is the program's.
	Version string
}

// Line measures one data line. Use New.
type Line struct {
	cfg     Config
	started time.Time

	mu      sync.Mutex
	pending []change  // not in force, oldest first
	synced  time.Time // when the first full state was seen; zero before
	recent  recent
	inForce time.Time // when the kernel last reported success

	vectors
}

// change is one revision that is on its way.
type change struct {
	rev              store.Revision
	seen             time.Time
	services, slices int
	triggered        []time.Time
}

// New gives a Line; Run starts it.
func New(cfg Config) *Line {
	l := &Line{cfg: cfg, started: time.Now()}
	l.vectors.init()
	return l
}

// Changed says that a revision was published: when the oldest of its changes came from the API, how many Services and EndpointSlices it has, and
// their last-change-trigger-times.
func (l *Line) Changed(rev store.Revision, seen time.Time, services, slices int, triggered []time.Time) {
	l.serviceChanges.Add(float64(services))
	l.endpointChanges.Add(float64(slices))
	for _, f := range families {
		l.lastQueued.WithLabelValues(f).Set(seconds(seen))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.pending); n >= mostPending { // the kernel has not followed for long: the oldest of them is what counts
		last := &l.pending[n-1]
		last.rev, last.services, last.slices = rev, last.services+services, last.slices+slices
		return
	}
	l.pending = append(l.pending, change{rev, seen, services, slices, triggered})
}

// Round says how one attempt of the kernel's consumer went; whole is one that compared everything.
func (l *Line) Round(whole bool, took time.Duration, err error) {
	for _, f := range families {
		if err != nil {
			l.syncFailures.WithLabelValues(f).Inc()
			continue
		}
		l.sync.WithLabelValues(f).Observe(took.Seconds())
		if whole {
			l.syncFull.WithLabelValues(f).Observe(took.Seconds())
		} else {
			l.syncPartial.WithLabelValues(f).Observe(took.Seconds())
		}
		l.lastSync.WithLabelValues(f).Set(seconds(time.Now()))
	}
}

// Run follows what is in force until ctx ends, and returns its error.
func (l *Line) Run(ctx context.Context) error {
	for {
		statuses, changed := l.cfg.Store.FollowStatuses()
		for _, s := range statuses {
			if s.Consumer == l.cfg.Kernel && s.Err == nil && s.Revision > 0 {
				l.applied(s.Revision, s.At)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// applied takes what is in force from what is pending.
func (l *Line) applied(rev store.Revision, at time.Time) {
	l.mu.Lock()
	n := 0
	for n < len(l.pending) && l.pending[n].rev <= rev {
		n++
	}
	done := l.pending[:n:n]
	if l.pending = l.pending[n:]; len(l.pending) == 0 {
		l.pending = nil // a start has many
	}
	l.inForce = at
	for _, c := range done {
		l.recent.add(max(0, at.Sub(c.seen)))
	}
	l.mu.Unlock()
	for _, c := range done {
		l.programming.Observe(max(0, at.Sub(c.seen).Seconds()))
		for _, t := range c.triggered {
			if t.After(l.started) { // what happened before nobody here could have put in force
				for _, f := range families {
					l.network.WithLabelValues(f).Observe(max(0, at.Sub(t).Seconds()))
				}
			}
		}
	}
}

// Collectors are what to register: the line's own, and itself for what is read when asked.
func (l *Line) Collectors() []prometheus.Collector { return append(l.vectors.all(), (*reading)(l)) }
