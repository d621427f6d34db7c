package store

import (
	"iter"

	"github.com/cilium/statedb/part"

	"fairway.dev/fairway/internal/model"
)

// Table is the read side of one kind of row, ordered by key. The zero value is empty.
type Table[R any] struct {
	tree *part.Tree[*R]
}

// Len is the number of rows.
func (t Table[R]) Len() int {
	if t.tree == nil {
		return 0
	}
	return t.tree.Len()
}

// Get gives the row of that name, or nil.
func (t Table[R]) Get(name model.Name) *R { return t.get(key(name)) }

func (t Table[R]) get(k []byte) *R {
	if t.tree == nil {
		return nil
	}
	r, _ := t.tree.Get(k)
	return r
}

// All yields every row in the order of namespace and name.
func (t Table[R]) All() iter.Seq[*R] {
	return func(yield func(*R) bool) {
		if t.tree == nil {
			return
		}
		for _, r := range t.tree.All {
			if !yield(r) {
				return
			}
		}
	}
}

// In yields the rows of one namespace, ordered by name.
func (t Table[R]) In(namespace string) iter.Seq[*R] {
	return t.prefix(key(model.Name{Namespace: namespace}))
}

func (t Table[R]) prefix(p []byte) iter.Seq[*R] {
	return func(yield func(*R) bool) {
		if t.tree == nil {
			return
		}
		it := t.tree.Prefix(p)
		for _, r, ok := it.Next(); ok; _, r, ok = it.Next() {
			if !yield(r) {
				return
			}
		}
	}
}

func newTable[R any]() Table[R] {
	t := part.New[*R](part.RootOnlyWatch)
	return Table[R]{&t}
}

// key orders rows by namespace, then name; 0 cannot occur in either.
func key(n model.Name) []byte {
	b := make([]byte, 0, len(n.Namespace)+len(n.Name)+1)
	b = append(b, n.Namespace...)
	b = append(b, 0)
	return append(b, n.Name...)
}

// sliceKey puts the slices of one Service side by side, so that they are one prefix.
func sliceKey(service, slice model.Name) []byte {
	b := append(key(service), 0)
	return append(b, slice.Name...)
}
