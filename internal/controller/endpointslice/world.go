package endpointslice

import (
	"maps"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/internal/kube"
)

// maxPause is the longest wait before a failed write is tried again. It is also how late a Service can be after the API was away.
const maxPause = 10 * time.Second

// world is what the API is known to hold, and which Services are to be looked at again.
type world struct {
	mu   sync.Mutex
	work *sync.Cond // signalled when ready grows, and at the end

	waiting    int // first lists still to come; until then nothing is written
	namespaces map[string]*namespace
	nodes      map[string]node
	slices     map[types.NamespacedName]*held
	// gone are the slices that were deleted here and that the watch has not reported as deleted: what it still says of them is old.
	gone map[types.NamespacedName]types.UID

	shares      shares // of nodes, if sharesKnown
	sharesKnown bool
	topology    map[*entry]struct{} // the Services with topology hints: the nodes decide about all of their endpoints

	ready  []*entry // to be looked at, none of them busy
	closed bool
}

// held is a slice as last seen or written.
type held struct {
	slice *discoveryv1.EndpointSlice
	owner *entry
}

func newWorld() *world {
	w := &world{
		waiting: 4, namespaces: map[string]*namespace{}, nodes: map[string]node{}, topology: map[*entry]struct{}{},
		slices: map[types.NamespacedName]*held{}, gone: map[types.NamespacedName]types.UID{},
	}
	w.work = sync.NewCond(&w.mu)
	return w
}

func (w *world) namespace(name string) *namespace {
	n := w.namespaces[name]
	if n == nil {
		n = &namespace{pods: map[string]*pod{}, services: map[string]*entry{}, bySelector: map[label]map[*entry]struct{}{}}
		w.namespaces[name] = n
	}
	return n
}

// forget drops an entry of which nothing is left.
func (w *world) forget(e *entry) {
	if n := w.namespaces[e.name.Namespace]; n != nil && e.row == nil && len(e.slices) == 0 && !e.busy && n.services[e.name.Name] == e {
		delete(n.services, e.name.Name)
		w.forgetNamespace(e.name.Namespace)
	}
}

func (w *world) forgetNamespace(name string) {
	if n := w.namespaces[name]; n != nil && len(n.pods) == 0 && len(n.services) == 0 {
		delete(w.namespaces, name)
	}
}

// touch says that the Service is to be looked at, all of it.
func (w *world) touch(e *entry) {
	e.whole = true
	w.queue(e)
}

// touchPod says that the Service is to be looked at for that Pod's sake.
func (w *world) touchPod(e *entry, pod string) {
	if _, all := w.topology[e]; all {
		e.whole = true
	}
	if !e.whole {
		e.changed[pod] = struct{}{}
	}
	w.queue(e)
}

func (w *world) queue(e *entry) {
	if e.dirty || e.row == nil {
		return
	}
	e.dirty = true
	if !e.busy && w.waiting == 0 {
		w.push(e)
	}
}

func (w *world) push(e *entry) {
	if e.retry != nil {
		e.retry.Stop()
		e.retry = nil
	}
	w.ready = append(w.ready, e)
	w.work.Signal()
}

// listed counts the first lists; with the last one the work begins, on everything. Pods and Services meet only now: through the index,
// whichever list came first.
func (w *world) listed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting--; w.waiting > 0 {
		return
	}
	for _, n := range w.namespaces {
		for name, p := range n.pods {
			for e := range n.selecting(p.labels) {
				e.seat(name).pod = p
			}
		}
		for _, e := range n.services {
			e.dirty = false
			w.touch(e)
		}
	}
}

// take waits for a Service to look at; ok is false when the world has closed. The caller must call done.
func (w *world) take() (t task, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.closed {
		if t, ok = w.next(); ok {
			return t, true
		}
		w.work.Wait()
	}
	return task{}, false
}

// next gives what take waits for, if it is there.
func (w *world) next() (t task, ok bool) {
	for len(w.ready) > 0 {
		e := w.ready[0]
		w.ready = w.ready[1:]
		e.dirty = false
		if e.row == nil { // deleted while it waited
			w.forget(e)
			continue
		}
		e.busy = true
		t = e.look(w.nodes)
		if e.row.hints == topologyHints {
			t.stock.shares = w.zoneShares()
		}
		return t, true
	}
	return task{}, false
}

func (w *world) zoneShares() shares {
	if !w.sharesKnown {
		w.shares, w.sharesKnown = sharesOf(maps.Values(w.nodes)), true
	}
	return w.shares
}

// done ends a look. After a failure the next one comes after a pause, or with the next change.
// It says how long the pause is, and how many failures there have been in a row.
func (w *world) done(t task, topology map[discoveryv1.AddressType]string, failed bool) (pause time.Duration, failures int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := t.entry
	e.busy, e.lost = false, nil
	if failed {
		e.whole = true
	} else {
		e.failures = 0
		if e.row != nil && e.row.uid == t.service.uid {
			e.wrote(t, topology)
		}
	}
	switch {
	case e.row == nil:
		e.dirty = false
		w.forget(e)
	case e.dirty:
		w.push(e)
	case failed && !w.closed:
		pause = min(5*time.Millisecond<<min(e.failures, 11), maxPause)
		e.failures++
		e.retry = time.AfterFunc(pause, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if e.retry != nil && !e.busy && !w.closed {
				w.touch(e)
			}
		})
	}
	return pause, e.failures
}

// close wakes all who wait in take.
func (w *world) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, n := range w.namespaces {
		for _, e := range n.services {
			if e.retry != nil {
				e.retry.Stop()
			}
		}
	}
	w.work.Broadcast()
}

// wrote notes what a write returned, unless the watch has brought something newer already.
func (w *world) wrote(e *entry, sl *discoveryv1.EndpointSlice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := types.NamespacedName{Namespace: sl.Namespace, Name: sl.Name}
	if h := w.slices[name]; h != nil && h.slice.UID == sl.UID && !kube.Version(sl.ResourceVersion).Newer(kube.Version(h.slice.ResourceVersion)) {
		return
	}
	if _, lost := e.lost[sl.Name]; lost {
		return
	}
	w.hold(e, name, sl)
}

// deleted notes that a slice is gone, or about to go, by a write from here.
func (w *world) deleted(sl *discoveryv1.EndpointSlice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := types.NamespacedName{Namespace: sl.Namespace, Name: sl.Name}
	if h := w.slices[name]; h != nil && h.slice.UID == sl.UID {
		w.drop(name, h)
		w.gone[name] = sl.UID
	}
}

func (w *world) hold(e *entry, name types.NamespacedName, sl *discoveryv1.EndpointSlice) {
	w.slices[name] = &held{sl, e}
	e.add(sl)
}

func (w *world) drop(name types.NamespacedName, h *held) {
	delete(w.slices, name)
	h.owner.remove(name.Name)
}
