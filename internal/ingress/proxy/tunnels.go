package proxy

import (
	"io"
	"sync"
)

// tunnelSet knows the upgraded connections, which net/http has let go of, so that a stop can wait for them and end them.
type tunnelSet struct {
	mu    sync.Mutex
	open  map[int][2]io.Closer
	next  int
	empty chan struct{} // closed when open is empty; nil while nobody waits
}

func (t *tunnelSet) add(a, b io.Closer) (release func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = map[int][2]io.Closer{}
	}
	id := t.next
	t.next++
	t.open[id] = [2]io.Closer{a, b}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.open, id)
		if len(t.open) == 0 && t.empty != nil {
			close(t.empty)
			t.empty = nil
		}
	}
}

// drained gives a channel that is closed once no tunnel is open.
func (t *tunnelSet) drained() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) == 0 {
		c := make(chan struct{})
		close(c)
		return c
	}
	if t.empty == nil {
		t.empty = make(chan struct{})
	}
	return t.empty
}

func (t *tunnelSet) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, pair := range t.open {
		_ = pair[0].Close()
		_ = pair[1].Close()
	}
}
