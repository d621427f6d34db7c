package endpointslice

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// overload is by how much more than its part of the traffic an endpoint may get for the sake of staying in its zone (KEP-2433).
const overload = 0.2

// shares are the parts of the cluster's CPU that are in each zone. They are nil unless there are two zones or more, and every Node that
// counts has a zone and CPU.
type shares map[string]float64

func sharesOf(nodes iter.Seq[node]) shares {
	cpu, total := map[string]int64{}, int64(0)
	for n := range nodes {
		if !n.counts {
			continue
		}
		if n.zone == "" || n.cpu == 0 {
			return nil
		}
		cpu[n.zone] += n.cpu
		total += n.cpu
	}
	if len(cpu) < 2 {
		return nil
	}
	out := shares{}
	for zone, n := range cpu {
		out[zone] = float64(n) / float64(total)
	}
	return out
}

// quota is how many endpoints are to have the hint of one zone.
type quota struct {
	min, max int
	target   float64
}

// quotas gives each zone as large a part of the ready endpoints of one family as it has of the CPU; or why that cannot be done within the limit of overload.
func (s shares) quotas(groups []*group) (map[string]quota, string) {
	n, zoneless := 0, false
	for _, g := range groups {
		for i := range g.endpoints {
			if e := &g.endpoints[i]; *e.Conditions.Ready {
				n++
				zoneless = zoneless || e.Zone == nil
			}
		}
	}
	switch {
	case s == nil:
		return nil, "it takes ready Nodes in two zones or more, each with the label topology.kubernetes.io/zone and allocatable CPU"
	case n < len(s):
		return nil, fmt.Sprintf("%d ready endpoints are too few for %d zones", n, len(s))
	case zoneless:
		return nil, "a ready endpoint has no zone"
	}
	out, least := map[string]quota{}, 0
	for zone, share := range s {
		target := share * float64(n)
		q := quota{min: int(math.Ceil(target * (1 / (1 + overload))))}
		q.target = max(target, float64(q.min))
		least += q.min
		out[zone] = q
	}
	if least > n {
		return nil, fmt.Sprintf("%d ready endpoints in %d zones would leave one of them overloaded by more than %d%%", n, len(s), int(overload*100))
	}
	for zone, q := range out {
		q.max = q.min + n - least
		out[zone] = q
	}
	return out, ""
}

// hintByZone sets the hints of the slices of one family: of those that are written anyway, and of as many settled ones as it takes. A settled slice
// keeps its hints while they are within the quotas, and while no zone is short of endpoints for that. Those that are to be written too
// are given back, copied.
func hintByZone(s *service, quotas map[string]quota, written, settled []*discoveryv1.EndpointSlice) (more []*discoveryv1.EndpointSlice) {
	var open []*discoveryv1.EndpointSlice
	have := map[string]int{}
	for _, sl := range settled {
		zones, ok := keepHints(quotas, sl, have)
		if !ok {
			open = append(open, sl)
			continue
		}
		for zone, n := range zones {
			have[zone] += n
		}
	}
	more, short := spread(s, quotas, written, open, have)
	if short && len(open) < len(settled) {
		more, _ = spread(s, quotas, written, settled, map[string]int{})
	}
	return more
}

// spread sets the hints of written and open, beside the ones in have, and gives back copies of those of open that changed by it. An endpoint serves its own
// zone, until some zones have too many and others too few. A zone may stay short of its least number.
func spread(s *service, quotas map[string]quota, written, open []*discoveryv1.EndpointSlice, have map[string]int) (changed []*discoveryv1.EndpointSlice, short bool) {
	copies := make([]*discoveryv1.EndpointSlice, len(open))
	for i, sl := range open {
		copies[i] = takeOver(sl, s)
		copies[i].Endpoints = slices.Clone(sl.Endpoints)
	}
	all := readyEndpoints(slices.Concat(written, copies))
	for _, e := range all {
		setZone(e, *e.Zone)
		have[*e.Zone]++
	}
	give, receive := transfers(quotas, have)
	for _, e := range all {
		if give[*e.Zone] > 0 {
			give[*e.Zone]--
			have[*e.Zone]--
			have[receive[0]]++
			setZone(e, receive[0])
			receive = receive[1:]
		}
	}
	for i, sl := range copies {
		if !slices.EqualFunc(sl.Endpoints, open[i].Endpoints, func(a, b discoveryv1.Endpoint) bool { return sameHints(a.Hints, b.Hints) }) {
			changed = append(changed, sl)
		}
	}
	for zone, q := range quotas {
		short = short || have[zone] < q.min
	}
	return changed, short
}

// keepHints counts the hints of a slice; ok is false if one is missing, is of a zone that has no quota, or is too many.
func keepHints(quotas map[string]quota, sl *discoveryv1.EndpointSlice, have map[string]int) (zones map[string]int, ok bool) {
	zones = map[string]int{}
	for i := range sl.Endpoints {
		e := &sl.Endpoints[i]
		switch {
		case !*e.Conditions.Ready && e.Hints == nil:
			continue
		case !*e.Conditions.Ready || e.Hints == nil || len(e.Hints.ForZones) == 0 || len(e.Hints.ForNodes) > 0:
			return nil, false
		}
		for _, z := range e.Hints.ForZones {
			zones[z.Name]++
		}
	}
	for zone, n := range zones {
		if q, ok := quotas[zone]; !ok || have[zone]+n > q.max {
			return nil, false
		}
	}
	return zones, true
}

// transfers says how many endpoints each zone gives away, and to which zones they go, always from the zone with most too many to the one with most too few.
// It ends where moving another would help nobody.
func transfers(quotas map[string]quota, have map[string]int) (give map[string]int, receive []string) {
	over, under := map[string]float64{}, map[string]float64{}
	for zone, q := range quotas {
		if d := float64(have[zone]) - q.target; d > 0 {
			over[zone] = d
		} else {
			under[zone] = -d
		}
	}
	give = map[string]int{}
	for len(over) > 0 && len(under) > 0 {
		from, to := most(over), most(under)
		if over[from] < 0.5 || under[to] < 0.5 || over[from] < 1 && under[to] < 1 {
			break
		}
		over[from]--
		under[to]--
		give[from]++
		receive = append(receive, to)
	}
	return give, receive
}

// most gives the zone with the highest number, the first by name among equals.
func most(zones map[string]float64) string {
	return slices.MinFunc(slices.Collect(maps.Keys(zones)), func(a, b string) int {
		return cmp.Or(cmp.Compare(zones[b], zones[a]), cmp.Compare(a, b))
	})
}

// readyEndpoints are in the order of their addresses, whatever slices they are in: so who is lent to another zone does not depend on that.
func readyEndpoints(list []*discoveryv1.EndpointSlice) (out []*discoveryv1.Endpoint) {
	for _, sl := range list {
		for i := range sl.Endpoints {
			if *sl.Endpoints[i].Conditions.Ready {
				out = append(out, &sl.Endpoints[i])
			}
		}
	}
	slices.SortFunc(out, func(a, b *discoveryv1.Endpoint) int { return cmp.Compare(a.Addresses[0], b.Addresses[0]) })
	return out
}

func setZone(e *discoveryv1.Endpoint, zone string) {
	e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
}

func sameHints(a, b *discoveryv1.EndpointHints) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.ForZones, b.ForZones) && slices.Equal(a.ForNodes, b.ForNodes)
}
