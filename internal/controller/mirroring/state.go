package mirroring

import (
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/internal/kube"
)

// state is what the API is known to hold.
type state struct {
	changed func(types.NamespacedName) // called with the name of Endpoints to be looked at again

	mu        sync.Mutex
	endpoints map[types.NamespacedName]*corev1.Endpoints // those that want to be mirrored
	services  map[types.NamespacedName]struct{}          // those without a selector
	slices    map[types.NamespacedName]*discoveryv1.EndpointSlice
	// mirrors are the slices of some Endpoints, by the name of these and then by their own.
	mirrors map[types.NamespacedName]map[string]*discoveryv1.EndpointSlice
}

func newState(changed func(types.NamespacedName)) *state {
	return &state{
		changed: changed, endpoints: map[types.NamespacedName]*corev1.Endpoints{}, services: map[types.NamespacedName]struct{}{},
		slices: map[types.NamespacedName]*discoveryv1.EndpointSlice{}, mirrors: map[types.NamespacedName]map[string]*discoveryv1.EndpointSlice{},
	}
}

// look gives the Endpoints that are to be mirrored under that name, or nil, and the slices that there are.
func (s *state) look(name types.NamespacedName) (*corev1.Endpoints, []*discoveryv1.EndpointSlice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	existing := s.mirrors[name]
	list := make([]*discoveryv1.EndpointSlice, 0, len(existing))
	for _, key := range slices.Sorted(maps.Keys(existing)) {
		list = append(list, existing[key])
	}
	if _, ok := s.services[name]; !ok {
		return nil, list
	}
	return s.endpoints[name], list
}

// The receivers of what the watches say.
type (
	observeEndpoints struct{ *state }
	observeServices  struct{ *state }
	observeSlices    struct{ *state }
)

var (
	_ kube.Receiver[*corev1.Endpoints]          = observeEndpoints{}
	_ kube.Receiver[struct{}]                   = observeServices{}
	_ kube.Receiver[*discoveryv1.EndpointSlice] = observeSlices{}
)

func (s observeEndpoints) Put(name types.NamespacedName, e *corev1.Endpoints) {
	put(s.state, s.endpoints, name, e)
}
func (s observeEndpoints) Delete(name types.NamespacedName) { del(s.state, s.endpoints, name) }
func (s observeEndpoints) Replace(items []kube.Item[*corev1.Endpoints], _ kube.Version) {
	replace(s.state, s.endpoints, items)
}

func (s observeServices) Put(name types.NamespacedName, row struct{}) {
	s.mu.Lock()
	_, known := s.services[name]
	s.mu.Unlock()
	if !known {
		put(s.state, s.services, name, row)
	}
}
func (s observeServices) Delete(name types.NamespacedName) { del(s.state, s.services, name) }
func (s observeServices) Replace(items []kube.Item[struct{}], _ kube.Version) {
	replace(s.state, s.services, items)
}

func put[R any](s *state, into map[types.NamespacedName]R, name types.NamespacedName, row R) {
	s.mu.Lock()
	into[name] = row
	s.mu.Unlock()
	s.changed(name)
}

func del[R any](s *state, from map[types.NamespacedName]R, name types.NamespacedName) {
	s.mu.Lock()
	_, known := from[name]
	delete(from, name)
	s.mu.Unlock()
	if known {
		s.changed(name)
	}
}

func replace[R any](s *state, known map[types.NamespacedName]R, items []kube.Item[R]) {
	s.mu.Lock()
	names := slices.Collect(maps.Keys(known))
	clear(known)
	for _, i := range items {
		known[i.Name] = i.Row
		names = append(names, i.Name)
	}
	s.mu.Unlock()
	for _, n := range names {
		s.changed(n)
	}
}

func (s observeSlices) Put(name types.NamespacedName, sl *discoveryv1.EndpointSlice) {
	if s.hold(sl) {
		s.changed(mirrored(sl))
	}
}

func (s observeSlices) Delete(name types.NamespacedName) {
	s.mu.Lock()
	sl := s.slices[name]
	s.drop(name)
	s.mu.Unlock()
	if sl != nil {
		s.changed(mirrored(sl))
	}
}

func (s observeSlices) Replace(items []kube.Item[*discoveryv1.EndpointSlice], at kube.Version) {
	listed := map[types.NamespacedName]struct{}{}
	for _, i := range items {
		listed[i.Name] = struct{}{}
		s.Put(i.Name, i.Row)
	}
	s.mu.Lock()
	var gone []types.NamespacedName
	for name, sl := range s.slices {
		// One that is newer than the list was written from here meanwhile.
		if _, ok := listed[name]; !ok && !kube.Version(sl.ResourceVersion).Newer(at) {
			gone = append(gone, name)
		}
	}
	s.mu.Unlock()
	for _, name := range gone {
		s.Delete(name)
	}
}

// mirrored is the name of the Endpoints that a slice mirrors.
func mirrored(sl *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: sl.Namespace, Name: sl.Labels[discoveryv1.LabelServiceName]}
}

// hold notes a slice, as the watch or a write brought it, unless a newer one is known; that may be so, since the two do not wait for
// each other. It reports whether that is news.
func (s *state) hold(sl *discoveryv1.EndpointSlice) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := types.NamespacedName{Namespace: sl.Namespace, Name: sl.Name}
	if old := s.slices[name]; old != nil && old.UID == sl.UID && !kube.Version(sl.ResourceVersion).Newer(kube.Version(old.ResourceVersion)) {
		return false
	}
	s.drop(name)
	s.slices[name] = sl
	of := mirrored(sl)
	if s.mirrors[of] == nil {
		s.mirrors[of] = map[string]*discoveryv1.EndpointSlice{}
	}
	s.mirrors[of][sl.Name] = sl
	return true
}

// drop forgets a slice. The caller holds the lock.
func (s *state) drop(name types.NamespacedName) {
	sl := s.slices[name]
	if sl == nil {
		return
	}
	delete(s.slices, name)
	of := mirrored(sl)
	delete(s.mirrors[of], name.Name)
	if len(s.mirrors[of]) == 0 {
		delete(s.mirrors, of)
	}
}

// removed notes that a slice was deleted from here.
func (s *state) removed(sl *discoveryv1.EndpointSlice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := types.NamespacedName{Namespace: sl.Namespace, Name: sl.Name}
	if known := s.slices[name]; known != nil && known.UID == sl.UID {
		s.drop(name)
	}
}
