package endpointslice

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// entry is one Service: what the API says about it, and how far the work on it is.
type entry struct {
	name   types.NamespacedName
	row    *service // nil: there is no such Service, or its endpoints are not ours; its slices may still be known
	filed  label    // its place in bySelector
	seats  map[string]*seat
	slices map[string]*discoveryv1.EndpointSlice

	// What the next look is at: all of it, or only what these Pods change.
	whole   bool
	changed map[string]struct{}

	told        bool // the slices have been written once
	topology    map[discoveryv1.AddressType]string
	dirty, busy bool
	lost        map[string]struct{} // slices that the watch has reported deleted while busy, so that a late answer does not bring them back
	failures    int
	retry       *time.Timer // pending after a failure, or nil
}

// seat is one Pod's place in a Service. There is one for each Pod that is selected or that some slice names.
type seat struct {
	pod  *pod                         // nil: not selected any more
	in   []*discoveryv1.EndpointSlice // the slices that name it, mostly one of each family
	told time.Time                    // the Pod's readyAt when the slices were last written
}

func newEntry(name types.NamespacedName) *entry {
	return &entry{name: name, seats: map[string]*seat{}, slices: map[string]*discoveryv1.EndpointSlice{}, changed: map[string]struct{}{}}
}

func (e *entry) seat(pod string) *seat {
	s := e.seats[pod]
	if s == nil {
		s = &seat{}
		e.seats[pod] = s
	}
	return s
}

// vacate takes the Pod from its seat; the seat stays while slices name it.
func (e *entry) vacate(pod string) {
	if s := e.seats[pod]; s != nil {
		s.pod = nil
		e.sweep(pod, s)
	}
}

// forget makes the entry one of which nothing has been told yet.
func (e *entry) forget() {
	e.told, e.topology, e.failures = false, nil, 0
	for _, s := range e.seats {
		s.told = time.Time{}
	}
}

func (e *entry) vacateAll() {
	for pod := range e.seats {
		e.vacate(pod)
	}
}

func (e *entry) sweep(pod string, s *seat) {
	if s.pod == nil && len(s.in) == 0 {
		delete(e.seats, pod)
	}
}

// add notes a slice, which replaces the one of its name.
func (e *entry) add(sl *discoveryv1.EndpointSlice) {
	e.remove(sl.Name)
	e.slices[sl.Name] = sl
	for pod := range podsOf(sl) {
		s := e.seat(pod)
		s.in = append(s.in, sl)
	}
}

func (e *entry) remove(name string) {
	old := e.slices[name]
	if old == nil {
		return
	}
	delete(e.slices, name)
	for pod := range podsOf(old) {
		if s := e.seats[pod]; s != nil {
			s.in = slices.DeleteFunc(s.in, func(sl *discoveryv1.EndpointSlice) bool { return sl == old })
			e.sweep(pod, s)
		}
	}
}

// podsOf yields the name of each endpoint's Pod.
func podsOf(sl *discoveryv1.EndpointSlice) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range sl.Endpoints {
			if t := sl.Endpoints[i].TargetRef; t != nil && !yield(t.Name) {
				return
			}
		}
	}
}

// task is what one look at a Service starts from.
type task struct {
	entry   *entry
	service *service
	members []member
	stock   stock
	first   bool
	// topology is what was said last about topology hints.
	topology map[discoveryv1.AddressType]string
}

// look makes a task of what is to be looked at. If only Pods have changed, that is those Pods, the slices that name them, and the other Pods of these
// slices: what a change costs does not depend on how many Pods the Service has.
func (e *entry) look(nodes map[string]node) task {
	t := task{entry: e, service: e.row, first: !e.told, topology: e.topology}
	if e.whole {
		for _, s := range e.seats {
			if s.pod != nil {
				t.members = append(t.members, s.member(nodes, ""))
			}
		}
		t.stock.opened = slices.Collect(maps.Values(e.slices))
	} else {
		e.lookAtChanged(&t, nodes)
	}
	slices.SortFunc(t.members, func(a, b member) int { return strings.Compare(a.name.Name, b.name.Name) })
	slices.SortFunc(t.stock.opened, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	e.whole, e.changed = false, map[string]struct{}{}
	return t
}

func (e *entry) lookAtChanged(t *task, nodes map[string]node) {
	opened := map[*discoveryv1.EndpointSlice]struct{}{}
	asked := make(map[string]discoveryv1.AddressType, len(e.changed)) // by Pod; "" is both families
	for pod := range e.changed {
		asked[pod] = ""
		if s := e.seats[pod]; s != nil {
			for _, sl := range s.in {
				opened[sl] = struct{}{}
			}
		}
	}
	for sl := range opened {
		for pod := range podsOf(sl) {
			if family, ok := asked[pod]; !ok {
				asked[pod] = sl.AddressType
			} else if family != sl.AddressType {
				asked[pod] = ""
			}
		}
	}
	for pod, family := range asked {
		if s := e.seats[pod]; s != nil && s.pod != nil {
			t.members = append(t.members, s.member(nodes, family))
		}
	}
	for _, sl := range e.slices {
		if _, ok := opened[sl]; ok {
			t.stock.opened = append(t.stock.opened, sl)
		} else {
			t.stock.settled = append(t.stock.settled, sl)
		}
	}
}

func (s *seat) member(nodes map[string]node, only discoveryv1.AddressType) member {
	n, known := nodes[s.pod.node]
	return member{pod: s.pod, nodeKnown: known, zone: n.zone, told: s.told, only: only}
}

// wrote notes that the API holds what a task came to.
func (e *entry) wrote(t task, topology map[discoveryv1.AddressType]string) {
	e.told, e.topology = true, topology
	for _, m := range t.members {
		if s := e.seats[m.name.Name]; s != nil {
			s.told = m.readyAt
		}
	}
}
