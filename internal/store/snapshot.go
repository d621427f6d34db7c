package store

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	"fairway.dev/fairway/internal/model"
)

// Revision numbers snapshots; each commit that changes something is one more.
type Revision uint64

// Snapshot is the state at one revision.
type Snapshot struct {
	Revision Revision
	// Synced is true once every source has delivered its first full list.
	Synced bool

	Services     Table[model.Service]
	Nodes        Table[model.Node]
	Namespaces   Table[model.Namespace]
	Ingresses    Table[model.Ingress]
	Classes      Table[model.IngressClass]
	Certificates Table[model.Certificate]
	// Secrets and ConfigMaps are only those that Ingresses and IngressClasses name.
	Secrets      Table[model.Secret]
	ConfigMaps   Table[model.ConfigMap]
	ServiceCIDRs Table[model.ServiceCIDR]
	// Pods is empty unless a source was told to follow them.
	Pods Table[model.Pod]

	slices Table[model.EndpointSlice]
	// owner gives the Service that a slice was filed under, by the slice's name.
	owner Table[model.Name]
}

// Slices yields the EndpointSlices of a Service, ordered by name.
func (s *Snapshot) Slices(service model.Name) iter.Seq[*model.EndpointSlice] {
	return s.slices.prefix(append(key(service), 0))
}

// AllSlices yields every EndpointSlice, ordered by Service, then by name.
func (s *Snapshot) AllSlices() iter.Seq[*model.EndpointSlice] { return s.slices.All() }

// SliceCount is the number of EndpointSlices.
func (s *Snapshot) SliceCount() int { return s.slices.Len() }

// ServiceRanges gives the ranges of all ServiceCIDRs and those of more, each once, in order.
func (s *Snapshot) ServiceRanges(more ...netip.Prefix) []netip.Prefix {
	out := slices.Clone(more)
	for c := range s.ServiceCIDRs.All() {
		out = append(out, c.CIDRs...)
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return slices.Compact(out)
}

// Node gives the node of that name, or nil.
func (s *Snapshot) Node(name string) *model.Node { return s.Nodes.Get(model.Name{Name: name}) }
