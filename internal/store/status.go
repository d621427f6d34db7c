package store

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// Status is what one consumer has done.
type Status struct {
	// Consumer is the name given to Follow: "nft", "dns", "ingress".
	Consumer string
	// Revision is the newest one that is in force, as a whole but for the objects in Failed.
	Revision Revision
	// Err is why the newest attempt failed as a whole, or nil.
	Err error
	// Failed holds the objects that could not be put in force, by "kind namespace/name"; the others are in force.
	Failed map[string]error
	// At is when the consumer reported; zero if it never did.
	At time.Time
}

type statusTable struct {
	mu      sync.Mutex
	rows    map[string]Status
	holders map[string]int // how many keep a row: the consumer's cursor, and who expects it
	change  chan struct{}  // closed and replaced at every change
}

func (t *statusTable) init() {
	t.rows, t.holders, t.change = map[string]Status{}, map[string]int{}, make(chan struct{})
}

func (t *statusTable) changed() {
	close(t.change)
	t.change = make(chan struct{})
}

func (t *statusTable) add(consumer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holders[consumer]++; t.holders[consumer] == 1 {
		t.rows[consumer] = Status{Consumer: consumer}
		t.changed()
	}
}

func (t *statusTable) remove(consumer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holders[consumer]--; t.holders[consumer] <= 0 {
		delete(t.holders, consumer)
		delete(t.rows, consumer)
		t.changed()
	}
}

func (t *statusTable) report(s Status) {
	s.At = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.rows[s.Consumer]; !ok {
		return // closed meanwhile
	} else if s.Err != nil {
		s.Revision = old.Revision // a failed attempt puts nothing newer in force
	}
	t.rows[s.Consumer] = s
	t.changed()
}

// Expect says that a consumer will follow, so that Applied waits for it from now on. The row is there until withdraw is called and
// the consumer's cursor is closed, too: a consumer may be replaced by another of its name in between.
func (s *Store) Expect(consumer string) (withdraw func()) {
	s.status.add(consumer)
	return sync.OnceFunc(func() { s.status.remove(consumer) })
}

// Statuses gives every consumer's status, ordered by name.
func (s *Store) Statuses() []Status {
	s.status.mu.Lock()
	defer s.status.mu.Unlock()
	out := make([]Status, 0, len(s.status.rows))
	for _, r := range s.status.rows {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Consumer, b.Consumer) })
	return out
}

// FollowStatuses gives every consumer's status as Statuses does, and a channel that is closed at the next change of any.
func (s *Store) FollowStatuses() ([]Status, <-chan struct{}) {
	s.status.mu.Lock()
	changed := s.status.change
	s.status.mu.Unlock()
	return s.Statuses(), changed // the channel is the older: a change in between wakes once too often
}

// Applied waits until each of the named consumers has reported rev or a later revision in force. Consumers that do not exist (neither
// expected nor following) are not waited for. The only errors are those of ctx.
func (s *Store) Applied(ctx context.Context, rev Revision, consumers ...string) error {
	for {
		s.status.mu.Lock()
		behind := false
		for _, c := range consumers {
			if r, ok := s.status.rows[c]; ok && r.Revision < rev {
				behind = true
			}
		}
		change := s.status.change
		s.status.mu.Unlock()
		if !behind {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-change:
		}
	}
}
