package source

import (
	"context"
	"iter"
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// batch gathers what the watches say while a transaction is being committed, and commits it as the next one.
type batch struct {
	store     *store.Store
	committed func(store.Revision, Change) // may be nil
	wake      chan struct{}                // holds one token while something waits

	mu     sync.Mutex // guards what waits in the tables
	tables []pending
	seen   time.Time // when the first of it came; zero while nothing waits
}

// pending is one kind's part of the batch.
type pending interface {
	// take empties it; write is nil if it was empty. Called with batch.mu held.
	take() (write func(*store.Snapshot, *store.Txn, *Change), after func())
}

func newBatch(st *store.Store, committed func(store.Revision, Change)) *batch {
	return &batch{store: st, committed: committed, wake: make(chan struct{}, 1)}
}

func (b *batch) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		}
		b.commit()
	}
}

func (b *batch) commit() {
	var writes []func(*store.Snapshot, *store.Txn, *Change)
	var afters []func()
	b.mu.Lock()
	for _, t := range b.tables {
		if write, after := t.take(); write != nil {
			writes, afters = append(writes, write), append(afters, after)
		}
	}
	change := Change{Seen: b.seen}
	b.seen = time.Time{}
	b.mu.Unlock()
	before := b.store.Snapshot().Revision // nobody else makes revisions but the source's own first lists, which come after this
	rev, _ := b.store.Update(func(tx *store.Txn) error {
		snap := b.store.Snapshot() // what tx starts from: Update lets nobody else in, and these kinds have no other writer
		for _, w := range writes {
			w(snap, tx, &change)
		}
		return nil
	})
	if b.committed != nil && rev != before {
		b.committed(rev, change)
	}
	for _, after := range afters {
		after()
	}
}

// access says how the store holds one kind of row.
type access[R any] struct {
	name func(*R) model.Name
	get  func(*store.Snapshot, *R) *R // the row that this one would replace, or nil
	all  func(*store.Snapshot) iter.Seq[*R]
	put  func(*store.Txn, *R)
	del  func(*store.Txn, model.Name)
	note func(*Change, *R) // counts a row that was put, or nil for one that was removed; may be nil
}

// table is what waits to be committed of one kind: the last word on each name.
type table[R any] struct {
	access[R]
	batch *batch
	// synced tells the store that the first full list is in it.
	synced func()

	rows map[model.Name]*R // nil: delete
	full bool              // rows are all there is; what else the store has is to go
}

var (
	_ kube.Receiver[*int] = (*table[int])(nil)
	_ kube.Optional       = (*table[int])(nil)
)

func addTable[R any](b *batch, a access[R], synced func()) *table[R] {
	t := &table[R]{access: a, batch: b, synced: synced, rows: map[model.Name]*R{}}
	b.tables = append(b.tables, t)
	return t
}

func (t *table[R]) Put(name types.NamespacedName, row *R) {
	t.change(func() { t.rows[model.Name(name)] = row })
}

func (t *table[R]) Delete(name types.NamespacedName) {
	t.change(func() { t.rows[model.Name(name)] = nil })
}

func (t *table[R]) Replace(items []kube.Item[*R], _ kube.Version) {
	rows := make(map[model.Name]*R, len(items))
	for _, i := range items {
		rows[model.Name(i.Name)] = i.Row
	}
	t.change(func() { t.rows, t.full = rows, true })
}

// Unserved says that the API does not know the kind, which is as if there were no object of it.
func (t *table[R]) Unserved() { t.Replace(nil, "") }

func (t *table[R]) change(f func()) {
	t.batch.mu.Lock()
	if t.batch.seen.IsZero() {
		t.batch.seen = time.Now()
	}
	f()
	t.batch.mu.Unlock()
	select {
	case t.batch.wake <- struct{}{}:
	default:
	}
}

func (t *table[R]) take() (write func(*store.Snapshot, *store.Txn, *Change), after func()) {
	if len(t.rows) == 0 && !t.full {
		return nil, nil
	}
	rows, full := t.rows, t.full
	t.rows, t.full = map[model.Name]*R{}, false
	write = func(snap *store.Snapshot, tx *store.Txn, c *Change) { t.write(snap, tx, c, rows, full) }
	after = func() {
		if full {
			t.synced()
		}
	}
	return write, after
}

func (t *table[R]) write(snap *store.Snapshot, tx *store.Txn, c *Change, rows map[model.Name]*R, full bool) {
	if full {
		for old := range t.all(snap) {
			if name := t.name(old); rows[name] == nil {
				t.del(tx, name)
				t.count(c, nil)
			}
		}
	}
	for name, row := range rows {
		if row == nil {
			t.del(tx, name)
			t.count(c, nil)
			continue
		}
		// Nodes report themselves every few seconds, and a list after an outage repeats all: most of it says nothing new.
		if old := t.get(snap, row); old == nil || !reflect.DeepEqual(old, row) {
			t.put(tx, row)
			t.count(c, row)
		}
	}
}

func (t *table[R]) count(c *Change, row *R) {
	if t.note != nil {
		t.note(c, row)
	}
}
