package store

import (
	"maps"

	"fairway.dev/fairway/internal/model"
)

// Delta names what changed between two snapshots of one cursor: added, replaced and removed rows alike. Whether a name
// is gone is for the snapshot to tell.
type Delta struct {
	// All means that nothing is known about what changed: the first Next of a cursor, and the first after Resync.
	All bool
	// Synced is true in the one delta in which the snapshot becomes Synced, and together with All.
	Synced bool
	// Services holds each Service whose row or any of whose slices changed.
	Services     map[model.Name]struct{}
	Nodes        map[string]struct{}
	Namespaces   map[string]struct{}
	Ingresses    map[model.Name]struct{}
	Classes      map[string]struct{}
	Certificates map[model.Name]struct{}
	Secrets      map[model.Name]struct{}
	ConfigMaps   map[model.Name]struct{}
	ServiceCIDRs map[string]struct{}
	Pods         map[model.Name]struct{}
}

// Empty is true when nothing changed.
func (d *Delta) Empty() bool {
	return !d.All && !d.Synced && len(d.Services) == 0 && len(d.Nodes) == 0 && len(d.Namespaces) == 0 &&
		len(d.Ingresses) == 0 && len(d.Classes) == 0 && len(d.Certificates) == 0 && len(d.Secrets) == 0 && len(d.ConfigMaps) == 0 &&
		len(d.ServiceCIDRs) == 0 && len(d.Pods) == 0
}

func (d *Delta) merge(o *Delta) {
	d.All = d.All || o.All
	d.Synced = d.Synced || o.Synced
	union(&d.Services, o.Services)
	union(&d.Nodes, o.Nodes)
	union(&d.Namespaces, o.Namespaces)
	union(&d.Ingresses, o.Ingresses)
	union(&d.Classes, o.Classes)
	union(&d.Certificates, o.Certificates)
	union(&d.Secrets, o.Secrets)
	union(&d.ConfigMaps, o.ConfigMaps)
	union(&d.ServiceCIDRs, o.ServiceCIDRs)
	union(&d.Pods, o.Pods)
}

func union[K comparable](dst *map[K]struct{}, src map[K]struct{}) {
	if len(src) == 0 {
		return
	}
	if *dst == nil {
		*dst = make(map[K]struct{}, len(src))
	}
	maps.Copy(*dst, src)
}

func mark[K comparable](set *map[K]struct{}, k K) {
	if *set == nil {
		*set = map[K]struct{}{}
	}
	(*set)[k] = struct{}{}
}
