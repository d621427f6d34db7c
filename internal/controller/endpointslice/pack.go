package endpointslice

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// managedBy is the value of the label by which Kubernetes tells whose a slice is. Ours are to be taken for its own controller's.
	managedBy = "endpointslice-controller.k8s.io"
	// maxEndpoints is how full a slice gets, as in Kubernetes: a bigger slice makes every change dearer for all who watch.
	maxEndpoints = 100
)

// stock is what a Service has and is packed into. None of it is changed.
type stock struct {
	// opened are the slices to be made as desired; settled are the Service's others, which are right as they are.
	opened, settled []*discoveryv1.EndpointSlice
	shares          shares
}

// changes are the writes that make the API as desired. The order to do them in is creates, updates, deletes, so that
// an endpoint that moves between slices is never in none.
type changes struct {
	create, update, remove []*discoveryv1.EndpointSlice
	// topology is what became of the topology hints of each family, for a Service that wants them: "" or why there are none.
	topology map[discoveryv1.AddressType]string
}

// pack says what to write so that the opened slices of a Service hold exactly the endpoints of groups, leaving alone what is right. Endpoints stay in the
// slice where they are. New ones go where a write is due anyway, the fullest slice first; then all into one other slice with room, the one that they
// fill best; then into new slices. A slice that is written and has become thin takes in another thin one. Each slice
// that is written tells what triggered it, unless that is zero.
func pack(s *service, groups []*group, in stock, triggered time.Time) changes {
	c := changes{}
	keep := func(sl *discoveryv1.EndpointSlice) bool {
		return ownedBy(sl, s) && slices.Contains(s.families, sl.AddressType)
	}
	for _, sl := range in.opened {
		if !keep(sl) {
			c.remove = append(c.remove, sl)
		}
	}
	for _, family := range s.families {
		mine := stock{shares: in.shares}
		for _, sl := range in.opened {
			if sl.AddressType == family && keep(sl) {
				mine.opened = append(mine.opened, sl)
			}
		}
		for _, sl := range in.settled {
			switch {
			case sl.AddressType != family:
			case len(sl.Endpoints) == 0: // it may be of use
				mine.opened = append(mine.opened, sl)
			default:
				mine.settled = append(mine.settled, sl)
			}
		}
		packFamily(&c, s, family, groups, mine)
	}
	for _, sl := range slices.Concat(c.create, c.update) {
		setTrigger(sl, triggered)
	}
	if s.deleting {
		c.create = nil // the garbage collector is deleting them; see kubernetes/kubernetes#91287
	}
	return c
}

func packFamily(c *changes, s *service, family discoveryv1.AddressType, groups []*group, in stock) {
	byPorts := map[string][]*discoveryv1.EndpointSlice{}
	for _, sl := range in.opened {
		key := portsKey(sl.Ports)
		byPorts[key] = append(byPorts[key], sl)
	}
	groups = slices.DeleteFunc(slices.Clone(groups), func(g *group) bool { return g.family != family })
	var quotas map[string]quota
	if s.hints == topologyHints {
		var why string
		quotas, why = in.shares.quotas(groups)
		if c.topology == nil {
			c.topology = map[discoveryv1.AddressType]string{}
		}
		c.topology[family] = why
	}
	var mine packed
	for _, g := range groups {
		packGroup(&mine, s, g, byPorts[g.key], in.settled, quotas != nil)
		delete(byPorts, g.key)
	}
	for _, key := range slices.Sorted(maps.Keys(byPorts)) {
		mine.remove = append(mine.remove, byPorts[key]...)
	}
	// A Service without endpoints has one empty slice, which says that it was looked at.
	if len(mine.create) == 0 && len(mine.remove) == len(in.opened) && len(in.settled) == 0 {
		placeholder := newSlice(s, family, []discoveryv1.EndpointPort{})
		if i := slices.IndexFunc(mine.remove, func(sl *discoveryv1.EndpointSlice) bool {
			return len(sl.Endpoints) == 0 && len(sl.Ports) == 0 && maps.Equal(sl.Labels, placeholder.Labels)
		}); i >= 0 {
			mine.remove = slices.Delete(mine.remove, i, i+1)
		} else {
			mine.create = append(mine.create, placeholder)
		}
	}
	// One write instead of two: what would be deleted takes in what would be created.
	for len(mine.create) > 0 && len(mine.remove) > 0 {
		sl := takeOver(mine.remove[0], s)
		sl.Ports, sl.Endpoints = mine.create[0].Ports, mine.create[0].Endpoints
		mine.update = append(mine.update, sl)
		mine.create, mine.remove = mine.create[1:], mine.remove[1:]
	}
	if quotas != nil {
		mine.update = append(mine.update, hintByZone(s, quotas, slices.Concat(mine.create, mine.update), mine.unchanged)...)
	}
	c.create = append(c.create, mine.create...)
	c.update = append(c.update, mine.update...)
	c.remove = slices.Concat(c.remove, mine.remove, mine.folded)
}

// packed is what becomes of the opened slices of one family: the writes, and the slices that need none.
type packed struct {
	create, update, remove, unchanged []*discoveryv1.EndpointSlice
	// folded are to be deleted, after those that took their endpoints in have been written.
	folded []*discoveryv1.EndpointSlice
}

// packGroup spreads one group over the slices that have its ports.
func packGroup(p *packed, s *service, g *group, opened, settled []*discoveryv1.EndpointSlice, anyHints bool) {
	changed, unchanged, gone, rest := match(s, g, opened, anyHints)
	fill := func(sl *discoveryv1.EndpointSlice) {
		n := min(len(rest), max(0, maxEndpoints-len(sl.Endpoints)))
		sl.Endpoints = append(sl.Endpoints, rest[:n]...)
		rest = rest[n:]
	}
	slices.SortFunc(changed, func(a, b *discoveryv1.EndpointSlice) int { return byEndpoints(b, a) })
	for _, sl := range changed {
		fill(sl)
	}
	settled = slices.DeleteFunc(slices.Clone(settled), func(sl *discoveryv1.EndpointSlice) bool {
		return len(sl.Endpoints) >= maxEndpoints || portsKey(sl.Ports) != g.key
	})
	for len(rest) > 0 {
		var sl *discoveryv1.EndpointSlice
		if old := tightest(slices.Concat(unchanged, settled), len(rest)); old != nil {
			unchanged, settled = without(unchanged, old), without(settled, old)
			sl = takeOver(old, s)
			sl.Endpoints = slices.Clone(sl.Endpoints)
			changed = append(changed, sl)
		} else {
			sl = newSlice(s, g.family, g.ports)
			p.create = append(p.create, sl)
		}
		fill(sl)
	}
	if into, thin := foldable(changed, slices.Concat(unchanged, settled)); into != nil {
		into.Endpoints = append(into.Endpoints, thin.Endpoints...)
		changed, unchanged = without(changed, thin), without(unchanged, thin)
		p.folded = append(p.folded, thin)
	}
	p.update = append(p.update, changed...)
	p.unchanged = append(p.unchanged, unchanged...)
	p.remove = append(p.remove, gone...)
}

// match compares slices with the endpoints that they are to have: changed are copies with those that stay, gone are slices that lose all, rest
// are the endpoints that are in none.
func match(s *service, g *group, opened []*discoveryv1.EndpointSlice, anyHints bool) (changed, unchanged, gone []*discoveryv1.EndpointSlice, rest []discoveryv1.Endpoint) {
	want := make(map[string]*discoveryv1.Endpoint, len(g.endpoints))
	for i := range g.endpoints {
		want[identity(&g.endpoints[i])] = &g.endpoints[i]
	}
	for _, old := range opened {
		kept := make([]discoveryv1.Endpoint, 0, len(old.Endpoints)+1)
		same := sameLabels(s, old)
		for i := range old.Endpoints {
			id := identity(&old.Endpoints[i])
			e := want[id]
			if e == nil {
				same = false // gone, or already in another slice
				continue
			}
			delete(want, id)
			same = same && equal(e, &old.Endpoints[i]) && (anyHints || sameHints(e.Hints, old.Endpoints[i].Hints))
			kept = append(kept, *e)
		}
		switch {
		case len(kept) == 0:
			gone = append(gone, old)
		case same:
			unchanged = append(unchanged, old)
		default:
			sl := takeOver(old, s)
			sl.Endpoints = kept
			changed = append(changed, sl)
		}
	}
	rest = make([]discoveryv1.Endpoint, 0, len(want)) // in the order of the group, so that the same world makes the same slices
	for i := range g.endpoints {
		if e := &g.endpoints[i]; want[identity(e)] == e {
			rest = append(rest, *e)
		}
	}
	return changed, unchanged, gone, rest
}

// tightest gives the fullest slice that has room for n more, or nil.
func tightest(list []*discoveryv1.EndpointSlice, n int) (best *discoveryv1.EndpointSlice) {
	for _, sl := range list {
		if len(sl.Endpoints)+n <= maxEndpoints && (best == nil || byEndpoints(sl, best) > 0) {
			best = sl
		}
	}
	return best
}

func byEndpoints(a, b *discoveryv1.EndpointSlice) int {
	return cmp.Or(cmp.Compare(len(a.Endpoints), len(b.Endpoints)), strings.Compare(a.Name, b.Name))
}

// foldable gives the thinnest slice that is written anyway, and the thinnest other one, if they fill no more than half a slice together: the first can take in the
// second for the price of one delete, and there is room before the next slice is needed. So thin slices do not stay for ever after a scale-down.
func foldable(changed, others []*discoveryv1.EndpointSlice) (into, thin *discoveryv1.EndpointSlice) {
	if len(changed) == 0 || len(changed)+len(others) < 2 {
		return nil, nil
	}
	into = slices.MinFunc(changed, byEndpoints)
	thin = slices.MinFunc(slices.Concat(without(changed, into), others), byEndpoints)
	if len(into.Endpoints)+len(thin.Endpoints) > maxEndpoints/2 {
		return nil, nil
	}
	return into, thin
}

// without gives the list without one of it, and leaves the given one alone.
func without(list []*discoveryv1.EndpointSlice, sl *discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	return slices.DeleteFunc(slices.Clone(list), func(o *discoveryv1.EndpointSlice) bool { return o == sl })
}

// identity is what makes an endpoint the same one: its addresses, its name under the Service, and the Pod behind it by name. Whatever
// else changes is changed in place.
func identity(e *discoveryv1.Endpoint) string {
	addresses := e.Addresses
	if len(addresses) > 1 {
		addresses = slices.Sorted(slices.Values(addresses))
	}
	target := ""
	if t := e.TargetRef; t != nil {
		target = t.Namespace + "/" + t.Name
	}
	return strings.Join(addresses, ",") + " " + text(e.Hostname) + " " + target
}

// equal compares what identity does not, but for hints.
func equal(want, got *discoveryv1.Endpoint) bool {
	return flag(want.Conditions.Ready, got.Conditions.Ready) &&
		flag(want.Conditions.Serving, got.Conditions.Serving) &&
		flag(want.Conditions.Terminating, got.Conditions.Terminating) &&
		text(want.NodeName) == text(got.NodeName) &&
		text(want.Zone) == text(got.Zone) &&
		got.TargetRef != nil && got.TargetRef.Kind == want.TargetRef.Kind && got.TargetRef.UID == want.TargetRef.UID
}

// flag is true when both are set and the same: this controller always sets conditions, so an absent one is a foreign edit.
func flag(a, b *bool) bool { return a != nil && b != nil && *a == *b }

func ownedBy(sl *discoveryv1.EndpointSlice, s *service) bool {
	return slices.ContainsFunc(sl.OwnerReferences, func(o metav1.OwnerReference) bool {
		return o.UID == s.uid && o.Kind == "Service" && o.APIVersion == "v1"
	})
}

// newSlice makes an empty slice that the API will name after the Service.
func newSlice(s *service, family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: s.name.Name + "-", Namespace: s.name.Namespace, Labels: sliceLabels(s),
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Service", Name: s.name.Name, UID: s.uid, Controller: new(true), BlockOwnerDeletion: new(true),
			}},
		},
		AddressType: family,
		Ports:       ports,
		Endpoints:   []discoveryv1.Endpoint{},
	}
}

// takeOver copies a slice that is to be updated, down to what pack and setTrigger change: labels and annotations are new, the rest is shared.
func takeOver(old *discoveryv1.EndpointSlice, s *service) *discoveryv1.EndpointSlice {
	sl := *old
	sl.Labels = sliceLabels(s)
	sl.Annotations = maps.Clone(old.Annotations)
	return &sl
}

// sliceLabels are the Service's own, and over them the three that are reserved.
func sliceLabels(s *service) map[string]string {
	out := make(map[string]string, len(s.labels)+3)
	maps.Copy(out, s.labels)
	delete(out, corev1.IsHeadlessService)
	if s.noIP {
		out[corev1.IsHeadlessService] = ""
	}
	out[discoveryv1.LabelServiceName] = s.name.Name
	out[discoveryv1.LabelManagedBy] = managedBy
	return out
}

// sameLabels leaves out the label headless: a user may set it on a slice to take it from the proxies, and this controller
// must not undo that before it has something else to write.
func sameLabels(s *service, sl *discoveryv1.EndpointSlice) bool {
	want, got := sliceLabels(s), maps.Clone(sl.Labels)
	delete(want, corev1.IsHeadlessService)
	delete(got, corev1.IsHeadlessService)
	return maps.Equal(want, got)
}

func setTrigger(sl *discoveryv1.EndpointSlice, at time.Time) {
	if at.IsZero() {
		delete(sl.Annotations, corev1.EndpointsLastChangeTriggerTime)
		return
	}
	if sl.Annotations == nil {
		sl.Annotations = map[string]string{}
	}
	sl.Annotations[corev1.EndpointsLastChangeTriggerTime] = at.UTC().Format(time.RFC3339Nano)
}
