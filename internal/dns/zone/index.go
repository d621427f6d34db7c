package zone

import (
	"hash/maphash"
	"sync/atomic"
)

// index is a hash table with one writer and any number of readers that take no lock. Chains are immutable: the writer
// replaces the head, so a reader sees a chain as it was or as it is.
type index[V any] struct {
	seed  maphash.Seed
	heads atomic.Pointer[[]atomic.Pointer[entry[V]]]
	n     int // the writer's
}

// entry keeps the hash, so that another key in the chain is passed over without being read.
type entry[V any] struct {
	next *entry[V]
	hash uint64
	key  string
	val  V
}

const minHeads = 64

func (x *index[V]) init() {
	x.seed = maphash.MakeSeed()
	heads := make([]atomic.Pointer[entry[V]], minHeads)
	x.heads.Store(&heads)
}

func head[V any](heads []atomic.Pointer[entry[V]], hash uint64) *atomic.Pointer[entry[V]] {
	return &heads[hash&uint64(len(heads)-1)]
}

// get is the readers' side. The key is compared as bytes and not kept.
func (x *index[V]) get(key []byte) (v V, ok bool) {
	hash := maphash.Bytes(x.seed, key)
	for e := head(*x.heads.Load(), hash).Load(); e != nil; e = e.next {
		if e.hash == hash && e.key == string(key) {
			return e.val, true
		}
	}
	return v, false
}

func (x *index[V]) put(key string, v V) {
	hash := maphash.String(x.seed, key)
	h := head(*x.heads.Load(), hash)
	chain, had := without(h.Load(), key)
	h.Store(&entry[V]{chain, hash, key, v})
	if had {
		return
	}
	if x.n++; x.n > len(*x.heads.Load()) {
		x.resize(2 * len(*x.heads.Load()))
	}
}

func (x *index[V]) delete(key string) {
	h := head(*x.heads.Load(), maphash.String(x.seed, key))
	chain, had := without(h.Load(), key)
	if !had {
		return
	}
	h.Store(chain)
	if x.n--; x.n < len(*x.heads.Load())/8 && len(*x.heads.Load()) > minHeads {
		x.resize(len(*x.heads.Load()) / 2)
	}
}

// resize builds the new table aside; readers keep the old one, whose chains stay as they are.
func (x *index[V]) resize(size int) {
	heads := make([]atomic.Pointer[entry[V]], size)
	for i := range *x.heads.Load() {
		for e := (*x.heads.Load())[i].Load(); e != nil; e = e.next {
			h := head(heads, e.hash)
			h.Store(&entry[V]{h.Load(), e.hash, e.key, e.val})
		}
	}
	x.heads.Store(&heads)
}

// without gives the chain without the key, sharing what follows it.
func without[V any](e *entry[V], key string) (*entry[V], bool) {
	if e == nil {
		return nil, false
	}
	if e.key == key {
		return e.next, true
	}
	rest, had := without(e.next, key)
	if !had {
		return e, false
	}
	return &entry[V]{rest, e.hash, e.key, e.val}, true
}

// each is the writer's.
func (x *index[V]) each(f func(key string, v V)) {
	for i := range *x.heads.Load() {
		for e := (*x.heads.Load())[i].Load(); e != nil; e = e.next {
			f(e.key, e.val)
		}
	}
}
