package endpointslice

import (
	"iter"

	"k8s.io/apimachinery/pkg/types"
)

// namespace holds the Pods and Services that can meet.
type namespace struct {
	pods     map[string]*pod
	services map[string]*entry
	// bySelector files each Service under one label of its selector, so that a Pod finds those that may select it by its own labels; under
	// the zero label are those that select everything.
	bySelector map[label]map[*entry]struct{}
}

type label struct{ key, value string }

func (n *namespace) entry(name types.NamespacedName) *entry {
	e := n.services[name.Name]
	if e == nil {
		e = newEntry(name)
		n.services[name.Name] = e
	}
	return e
}

func (s *service) selects(labels map[string]string) bool {
	for k, v := range s.selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// selecting yields the Services that select those labels.
func (n *namespace) selecting(labels map[string]string) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for e := range n.bySelector[label{}] {
			if !yield(e) {
				return
			}
		}
		for k, v := range labels {
			for e := range n.bySelector[label{k, v}] {
				if e.row.selects(labels) && !yield(e) {
					return
				}
			}
		}
	}
}

// file puts a Service in its place in bySelector: under that label of its selector which has the fewest there so far, for a label that every
// Service selects by tells nothing.
func (n *namespace) file(e *entry) {
	best, size := label{}, -1
	for k, v := range e.row.selector {
		l := label{k, v}
		if c := len(n.bySelector[l]); size < 0 || c < size || c == size && l.less(best) {
			best, size = l, c
		}
	}
	e.filed = best
	if n.bySelector[best] == nil {
		n.bySelector[best] = map[*entry]struct{}{}
	}
	n.bySelector[best][e] = struct{}{}
}

func (l label) less(o label) bool {
	return l.key < o.key || l.key == o.key && l.value < o.value
}

func (n *namespace) unfile(e *entry) {
	delete(n.bySelector[e.filed], e)
	if len(n.bySelector[e.filed]) == 0 {
		delete(n.bySelector, e.filed)
	}
}
