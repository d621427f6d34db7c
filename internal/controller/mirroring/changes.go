package mirroring

import (
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
)

// changes are what has to be written.
type changes struct{ create, update, remove []*discoveryv1.EndpointSlice }

// change turns the existing slices, sorted by name, into the wanted ones. A wanted slice takes the place of one with the same ports, else of one that would be removed: an update
// is seen as one step, where something created and something deleted may be seen one after the other.
func change(existing, wanted []*discoveryv1.EndpointSlice) (c changes) {
	byKey := map[string][]*discoveryv1.EndpointSlice{}
	for _, sl := range existing {
		byKey[sliceKey(sl)] = append(byKey[sliceKey(sl)], sl)
	}
	var unplaced []*discoveryv1.EndpointSlice
	for _, w := range wanted {
		same := byKey[sliceKey(w)]
		if len(same) == 0 {
			unplaced = append(unplaced, w)
			continue
		}
		byKey[sliceKey(w)] = same[1:]
		if !mirrors(same[0], w) {
			c.update = append(c.update, inPlaceOf(same[0], w))
		}
	}
	for _, sl := range existing { // in the order of their names
		if slices.Contains(byKey[sliceKey(sl)], sl) {
			c.remove = append(c.remove, sl)
		}
	}
	for _, w := range unplaced {
		i := slices.IndexFunc(c.remove, func(sl *discoveryv1.EndpointSlice) bool {
			return sl.AddressType == w.AddressType && sl.DeletionTimestamp == nil
		})
		if i < 0 {
			c.create = append(c.create, w)
			continue
		}
		c.update = append(c.update, inPlaceOf(c.remove[i], w))
		c.remove = slices.Delete(c.remove, i, i+1)
	}
	return c
}

// mirrors tells whether a slice says already what it should.
func mirrors(have, want *discoveryv1.EndpointSlice) bool {
	return apiequality.Semantic.DeepEqual(have.Labels, want.Labels) &&
		apiequality.Semantic.DeepEqual(have.Annotations, want.Annotations) &&
		apiequality.Semantic.DeepEqual(have.OwnerReferences, want.OwnerReferences) &&
		apiequality.Semantic.DeepEqual(have.Endpoints, want.Endpoints)
}

// inPlaceOf gives the wanted slice the name, and the rest of the metadata, of one that there is.
func inPlaceOf(have, want *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := *want
	out.ObjectMeta = *have.ObjectMeta.DeepCopy()
	out.Labels, out.Annotations, out.OwnerReferences = want.Labels, want.Annotations, slices.Clone(want.OwnerReferences)
	return &out
}

// sliceKey is the same for slices of the same family and ports.
func sliceKey(sl *discoveryv1.EndpointSlice) string {
	ports := make([]string, 0, len(sl.Ports))
	for _, p := range sl.Ports {
		q := noPorts
		if p.Name != nil {
			q.Name = *p.Name
		}
		if p.Protocol != nil {
			q.Protocol = *p.Protocol
		}
		if p.Port != nil {
			q.Port = *p.Port
		}
		q.AppProtocol = p.AppProtocol
		ports = append(ports, portKey(q))
	}
	slices.Sort(ports)
	return string(sl.AddressType) + " " + strings.Join(ports, " ")
}

// owned tells whether a slice was made here.
func owned(labels map[string]string) bool {
	return labels[discoveryv1.LabelManagedBy] == managedBy && labels[discoveryv1.LabelServiceName] != ""
}
