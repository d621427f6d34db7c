package endpointslice

import (
	"maps"
	"reflect"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/internal/kube"
)

// The four receivers of what the watches say. Each one changes the world and touches the Services that it concerns.
type (
	observePods     struct{ *world }
	observeServices struct{ *world }
	observeNodes    struct{ *world }
	observeSlices   struct{ *world }
)

var (
	_ kube.Receiver[*pod]                       = observePods{}
	_ kube.Receiver[*service]                   = observeServices{}
	_ kube.Receiver[node]                       = observeNodes{}
	_ kube.Receiver[*discoveryv1.EndpointSlice] = observeSlices{}
)

// replace turns a list into puts and deletes.
func replace[R any](items []kube.Item[R], known []types.NamespacedName, put func(types.NamespacedName, R), del func(types.NamespacedName)) {
	listed := make(map[types.NamespacedName]struct{}, len(items))
	for _, i := range items {
		listed[i.Name] = struct{}{}
		put(i.Name, i.Row)
	}
	for _, n := range known {
		if _, ok := listed[n]; !ok {
			del(n)
		}
	}
}

func (w observePods) Put(name types.NamespacedName, p *pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(name, p)
}

func (w observePods) Delete(name types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.del(name)
}

func (w observePods) Replace(items []kube.Item[*pod], _ kube.Version) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var known []types.NamespacedName
	for ns, n := range w.namespaces {
		for p := range n.pods {
			known = append(known, types.NamespacedName{Namespace: ns, Name: p})
		}
	}
	replace(items, known, w.put, w.del)
}

func (w observePods) put(name types.NamespacedName, p *pod) {
	n := w.namespace(name.Namespace)
	old := n.pods[name.Name]
	if old != nil && reflect.DeepEqual(old, p) {
		return // most of what happens to a Pod's status is of no concern here
	}
	n.pods[name.Name] = p
	if w.waiting > 0 {
		return
	}
	same := old != nil && p.sameEndpoints(old)
	for e := range n.selecting(p.labels) {
		s := e.seat(name.Name)
		if s.pod == nil || !same {
			w.touchPod(e, name.Name)
		}
		s.pod = p
	}
	if old != nil && !maps.Equal(old.labels, p.labels) {
		for e := range n.selecting(old.labels) {
			if !e.row.selects(p.labels) {
				e.vacate(name.Name)
				w.touchPod(e, name.Name)
			}
		}
	}
}

// sameEndpoints is true when nothing but labels differs.
func (p *pod) sameEndpoints(o *pod) bool {
	q := *o
	q.labels = p.labels
	return reflect.DeepEqual(p, &q)
}

func (w observePods) del(name types.NamespacedName) {
	n := w.namespaces[name.Namespace]
	if n == nil || n.pods[name.Name] == nil {
		return
	}
	for e := range n.selecting(n.pods[name.Name].labels) {
		e.vacate(name.Name)
		w.touchPod(e, name.Name)
	}
	delete(n.pods, name.Name)
	w.forgetNamespace(name.Namespace)
}

func (w observeServices) Put(name types.NamespacedName, s *service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(name, s)
}

func (w observeServices) Delete(name types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.del(name)
}

func (w observeServices) Replace(items []kube.Item[*service], _ kube.Version) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var known []types.NamespacedName
	for ns, n := range w.namespaces {
		for s, e := range n.services {
			if e.row != nil {
				known = append(known, types.NamespacedName{Namespace: ns, Name: s})
			}
		}
	}
	replace(items, known, w.put, w.del)
}

func (w observeServices) put(name types.NamespacedName, s *service) {
	n := w.namespace(name.Namespace)
	e := n.entry(name)
	old := e.row
	if old != nil && reflect.DeepEqual(old, s) {
		return
	}
	if old != nil && old.uid != s.uid {
		e.forget()
	}
	if s.hints == topologyHints {
		w.topology[e] = struct{}{}
	} else {
		delete(w.topology, e)
	}
	if old != nil && maps.Equal(old.selector, s.selector) {
		e.row = s
	} else {
		if old != nil {
			n.unfile(e)
		}
		e.row = s
		n.file(e)
		if w.waiting > 0 {
			return
		}
		for pn, p := range n.pods {
			if s.selects(p.labels) {
				e.seat(pn).pod = p
			} else {
				e.vacate(pn)
			}
		}
	}
	w.touch(e)
}

// del leaves the slices of the Service alone: if it is gone they are the garbage collector's, and if it lost its selector they are now the user's.
func (w observeServices) del(name types.NamespacedName) {
	n := w.namespaces[name.Namespace]
	if n == nil || n.services[name.Name] == nil || n.services[name.Name].row == nil {
		return
	}
	e := n.services[name.Name]
	n.unfile(e)
	delete(w.topology, e)
	e.row = nil
	e.forget()
	e.vacateAll()
	if e.retry != nil {
		e.retry.Stop()
		e.retry = nil
	}
	if !e.dirty { // else it is in ready, and take will meet it
		w.forget(e)
	}
}

func (w observeNodes) Put(name types.NamespacedName, n node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(name, n)
}

func (w observeNodes) Delete(name types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.del(name)
}

func (w observeNodes) Replace(items []kube.Item[node], _ kube.Version) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var known []types.NamespacedName
	for n := range w.nodes {
		known = append(known, types.NamespacedName{Name: n})
	}
	replace(items, known, w.put, w.del)
}

func (w observeNodes) put(name types.NamespacedName, n node) {
	old, known := w.nodes[name.Name]
	w.nodes[name.Name] = n
	if !known || old != n {
		w.changed(name.Name, !known || old.zone != n.zone)
	}
}

// del takes the Pods of a Node that is gone out of the slices: nobody says any more that they run.
func (w observeNodes) del(name types.NamespacedName) {
	if _, known := w.nodes[name.Name]; known {
		delete(w.nodes, name.Name)
		w.changed(name.Name, true)
	}
}

// changed touches what hangs on a Node: the Services with topology hints, and if need be those with Pods there.
func (w observeNodes) changed(name string, pods bool) {
	w.sharesKnown = false
	for e := range w.topology {
		w.touch(e)
	}
	if !pods || w.waiting > 0 {
		return
	}
	for _, n := range w.namespaces {
		for _, p := range n.pods {
			if p.node == name {
				for e := range n.selecting(p.labels) {
					w.touchPod(e, p.name.Name)
				}
			}
		}
	}
}

func (w observeSlices) Put(name types.NamespacedName, sl *discoveryv1.EndpointSlice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(name, sl)
}

func (w observeSlices) Delete(name types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.del(name)
}

func (w observeSlices) Replace(items []kube.Item[*discoveryv1.EndpointSlice], at kube.Version) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var known []types.NamespacedName
	for n, h := range w.slices {
		// What was written after the list was made cannot be in it.
		if !kube.Version(h.slice.ResourceVersion).Newer(at) {
			known = append(known, n)
		}
	}
	listed := make(map[types.NamespacedName]struct{}, len(items))
	for _, i := range items {
		listed[i.Name] = struct{}{}
	}
	maps.DeleteFunc(w.gone, func(n types.NamespacedName, _ types.UID) bool { _, ok := listed[n]; return !ok })
	replace(items, known, w.put, w.del)
}

func (w observeSlices) put(name types.NamespacedName, sl *discoveryv1.EndpointSlice) {
	h := w.slices[name]
	if h != nil && h.slice.UID == sl.UID && !kube.Version(sl.ResourceVersion).Newer(kube.Version(h.slice.ResourceVersion)) {
		return // the echo of a write from here
	}
	if w.gone[name] == sl.UID {
		return
	}
	if sl.DeletionTimestamp != nil { // a finalizer holds it; it must not hold up the Service (kubernetes/kubernetes#108267)
		w.del(name)
		return
	}
	owner := w.namespace(name.Namespace).entry(types.NamespacedName{Namespace: name.Namespace, Name: sl.Labels[discoveryv1.LabelServiceName]})
	if h != nil && h.owner != owner {
		w.del(name)
	}
	w.hold(owner, name, sl)
	w.touch(owner)
}

func (w observeSlices) del(name types.NamespacedName) {
	delete(w.gone, name)
	if h := w.slices[name]; h != nil {
		if h.owner.busy {
			if h.owner.lost == nil {
				h.owner.lost = map[string]struct{}{}
			}
			h.owner.lost[name.Name] = struct{}{}
		}
		w.drop(name, h)
		w.touch(h.owner)
		w.forget(h.owner)
	}
}
