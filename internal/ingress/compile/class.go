package compile

import (
	"cmp"
	"fmt"
	"slices"

	"fairway.dev/fairway/internal/ingress/policy"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// Controller is the value of IngressClass spec.controller that makes a class ours.
const Controller = model.IngressController

// Options say which Ingresses are served and how.
type Options struct {
	// WithoutClass takes Ingresses that name no class even when no class of ours is the default: right where
	// Fairway is the only controller.
	WithoutClass bool
	// LoopbackEndpoints admits endpoint addresses in 127.0.0.0/8 and ::1. The API refuses them in EndpointSlices, and so does
	// Resolve, since an endpoint there would reach what listens on this machine for itself. For development and tests.
	LoopbackEndpoints bool
}

// Owns tells whether an Ingress is ours: its class is one of our controller, or it names none and the default class is
// ours. An Ingress that is not ours must be left alone, its status too.
func Owns(snap *store.Snapshot, opts Options, ing *model.Ingress) bool {
	if ing.Class != "" {
		c := snap.Classes.Get(model.Name{Name: ing.Class})
		return c != nil && c.Controller == Controller
	}
	return opts.WithoutClass || defaultClass(snap) != ""
}

// defaultClass gives the name of the default class if it is ours, else "". Of several defaults it is the newest, then the one with the smaller
// name, as for the API's admission.
func defaultClass(snap *store.Snapshot) string {
	var best *model.IngressClass
	for c := range snap.Classes.All() {
		if c.Default && (best == nil || cmp.Or(best.Created.Compare(c.Created), cmp.Compare(c.Name, best.Name)) < 0) {
			best = c
		}
	}
	if best == nil || best.Controller != Controller {
		return ""
	}
	return best.Name
}

// owned lists our Ingresses, the oldest first.
func owned(snap *store.Snapshot, opts Options) []*model.Ingress {
	classless := opts.WithoutClass || defaultClass(snap) != ""
	ours := map[string]bool{"": classless}
	out := make([]*model.Ingress, 0, snap.Ingresses.Len())
	for ing := range snap.Ingresses.All() {
		own, known := ours[ing.Class]
		if !known {
			own = Owns(snap, opts, ing)
			ours[ing.Class] = own
		}
		if own {
			out = append(out, ing)
		}
	}
	slices.SortFunc(out, func(a, b *model.Ingress) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Name.Compare(b.Name))
	})
	return out
}

// class is one class with its parameters.
type class struct {
	row        *model.IngressClass
	configMap  *model.ConfigMap
	parameters *policy.Class // never nil
	problem    string        // why its Ingresses cannot be served, or ""
}

// noParameters are those of a class that has none; one object, so that entries made with it can be told to be the same.
var noParameters = func() *policy.Class {
	c, err := policy.ParseClass(nil)
	if err != nil {
		panic(err)
	}
	return c
}()

// class gives the parameters of a class by name; "" is for Ingresses without one.
func (b *builder) class(name string) *class {
	if c := b.t.build.classes[name]; c != nil {
		return c
	}
	c := &class{parameters: noParameters, row: b.snap.Classes.Get(model.Name{Name: name})}
	b.t.build.classes[name] = c
	if c.row == nil || c.row.Parameters == nil {
		return c
	}
	p := c.row.Parameters
	if p.Group != "" || p.Kind != "ConfigMap" || p.Name.Namespace == "" {
		c.problem = fmt.Sprintf("the parameters of class %s are a %s: they must be a ConfigMap, with scope Namespace and a namespace", name, p.Kind)
		return c
	}
	if c.configMap = b.snap.ConfigMaps.Get(p.Name); c.configMap == nil {
		c.problem = fmt.Sprintf("the parameters of class %s are not there: create ConfigMap %s", name, p.Name)
		return c
	}
	if old := b.prev.build.classes[name]; old != nil && old.row == c.row && old.configMap == c.configMap {
		*c = *old
		return c
	}
	parsed, err := policy.ParseClass(c.configMap.Data)
	if err != nil {
		c.problem = fmt.Sprintf("the parameters of class %s, ConfigMap %s: %v", name, p.Name, err)
		return c
	}
	c.parameters = parsed
	return c
}
