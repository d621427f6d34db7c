package store

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"fairway.dev/fairway/internal/model"
)

// Store holds the newest snapshot, its readers and their status. Use New.
type Store struct {
	snap atomic.Pointer[Snapshot]

	mu      sync.Mutex // held by writers of the fields below, and across Update
	cursors []*Cursor
	pending map[string]struct{} // sources that have not delivered yet

	status statusTable
}

// New gives an empty store at revision 0, synced as long as no source is announced.
func New() *Store {
	s := &Store{pending: map[string]struct{}{}}
	s.status.init()
	s.snap.Store(&Snapshot{
		Synced: true, Services: newTable[model.Service](), slices: newTable[model.EndpointSlice](),
		owner: newTable[model.Name](), Nodes: newTable[model.Node](), Namespaces: newTable[model.Namespace](),
		Ingresses: newTable[model.Ingress](), Classes: newTable[model.IngressClass](),
		Certificates: newTable[model.Certificate](), Secrets: newTable[model.Secret](), ConfigMaps: newTable[model.ConfigMap](),
		ServiceCIDRs: newTable[model.ServiceCIDR](), Pods: newTable[model.Pod](),
	})
	return s
}

// Snapshot gives the newest snapshot. It never blocks and never gives nil.
func (s *Store) Snapshot() *Snapshot { return s.snap.Load() }

// Update runs fn on a transaction and publishes what it wrote as one snapshot. If fn fails nothing is published and the error is
// returned; if fn wrote nothing the revision stays.
func (s *Store) Update(fn func(*Txn) error) (Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.snap.Load()
	t := newTxn(old)
	if err := fn(t); err != nil {
		return old.Revision, err
	}
	if t.delta.Empty() {
		return old.Revision, nil
	}
	s.publish(t.commit(old), &t.delta)
	return old.Revision + 1, nil
}

// Announce says that a source of rows exists, before it has delivered. The snapshots from here on are not Synced until done is
// called, once, after the source's first full list is in the store. Announce all sources before the first consumer starts.
func (s *Store) Announce(source string) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, twice := s.pending[source]; twice {
		panic(fmt.Sprintf("store: source %q announced twice", source))
	}
	s.pending[source] = struct{}{}
	if old := s.snap.Load(); old.Synced {
		next := *old
		next.Synced = false
		s.snap.Store(&next)
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.pending, source)
		if len(s.pending) > 0 {
			return
		}
		next := *s.snap.Load()
		next.Revision++
		next.Synced = true
		s.publish(&next, &Delta{Synced: true})
	})
}

// Unsynced lists the sources that have not delivered their first full list, in order.
func (s *Store) Unsynced() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for n := range s.pending {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func (s *Store) publish(next *Snapshot, d *Delta) {
	s.snap.Store(next)
	for _, c := range s.cursors {
		c.pending.merge(d)
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// Follow adds a consumer. Its first Next returns at once, with Delta.All. Close the cursor when done. A consumer without a
// name only looks: it has no status, and nobody can wait for it.
func (s *Store) Follow(consumer string) *Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &Cursor{store: s, name: consumer, wake: make(chan struct{}, 1), pending: Delta{All: true, Synced: true}}
	c.wake <- struct{}{}
	s.cursors = append(s.cursors, c)
	if consumer != "" {
		s.status.add(consumer)
	}
	return c
}

// Cursor is one consumer's place in the sequence of snapshots. It belongs to one goroutine.
type Cursor struct {
	store   *Store
	name    string
	wake    chan struct{}
	pending Delta // guarded by store.mu
	last    Delta
}

// Next waits until something has changed since the last call and returns the newest snapshot and the merged change. The
// only errors are those of ctx.
func (c *Cursor) Next(ctx context.Context) (*Snapshot, Delta, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, Delta{}, ctx.Err()
		case <-c.wake:
		}
		c.store.mu.Lock()
		snap, d := c.store.snap.Load(), c.pending
		c.pending = Delta{}
		c.store.mu.Unlock()
		if d.Empty() {
			continue
		}
		c.last = d
		return snap, d, nil
	}
}

// Rewind makes the next Next return again what the last one returned, with whatever came since: call it after a failure
// to apply.
func (c *Cursor) Rewind() { c.again(&c.last) }

// Resync makes the next Next return everything.
func (c *Cursor) Resync() { c.again(&Delta{All: true}) }

func (c *Cursor) again(d *Delta) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.pending.merge(d)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Report says how far this consumer has come; see Store.Report.
func (c *Cursor) Report(rev Revision, err error, failed map[string]error) {
	c.store.status.report(Status{Consumer: c.name, Revision: rev, Err: err, Failed: failed})
}

// Close ends the consumer: it gets no more changes, and nobody waits for it.
func (c *Cursor) Close() {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	before := len(c.store.cursors)
	c.store.cursors = slices.DeleteFunc(c.store.cursors, func(o *Cursor) bool { return o == c })
	if c.name != "" && len(c.store.cursors) < before { // closing twice is closing once
		c.store.status.remove(c.name)
	}
}
