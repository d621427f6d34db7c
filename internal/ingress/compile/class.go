package compile

import (
	"cmp"
	"slices"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// Controller is the value of IngressClass spec.controller that makes a class ours.
const Controller = "fairway.dev/ingress"

// Options say which Ingresses are served and how.
type Options struct {
	// WithoutClass takes Ingresses that name no class even when no class of ours is the default: right where
	// Fairway is the only controller.
	WithoutClass bool
	// LoopbackEndpoints admits endpoint addresses in 127.0.0.0/8 and ::1. The API refuses them in EndpointSlices, and so does
	// Resolve, since an endpoint there would reach what listens on this machine for itself. For development and tests.
	LoopbackEndpoints bool
}

// Owns tells whether an Ingress is ours: its class is one of our controller, or it names none and a class of ours is the
// default. An Ingress that is not ours must be left alone, its status too.
func Owns(snap *store.Snapshot, opts Options, ing *model.Ingress) bool {
	if ing.Class != "" {
		c := snap.Classes.Get(model.Name{Name: ing.Class})
		return c != nil && c.Controller == Controller
	}
	return opts.WithoutClass || defaultIsOurs(snap)
}

func defaultIsOurs(snap *store.Snapshot) bool {
	for c := range snap.Classes.All() {
		if c.Default && c.Controller == Controller {
			return true
		}
	}
	return false
}

// owned lists our Ingresses, the oldest first.
func owned(snap *store.Snapshot, opts Options) []*model.Ingress {
	classless := opts.WithoutClass || defaultIsOurs(snap)
	out := make([]*model.Ingress, 0, snap.Ingresses.Len())
	for ing := range snap.Ingresses.All() {
		if ing.Class == "" && classless || ing.Class != "" && Owns(snap, opts, ing) {
			out = append(out, ing)
		}
	}
	slices.SortFunc(out, func(a, b *model.Ingress) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Name.Compare(b.Name))
	})
	return out
}
