package nft

import (
	"fmt"
	"net/netip"

	"fairway.dev/fairway/internal/plan"
)

// mostBackends is how many backends a frontend can have for each kind of client: their slots are numbered from 0 and from outsideSlots on. With
// affinity it is how many all frontends of a Service port can have together, for their numbers have sixteen bits and are not 0.
const mostBackends = outsideSlots - 1

// limit leaves of each frontend no more backends than there are slots for, the first ones in the order of addresses, and notes the Service for the
// status, or that it is not too large any more. The others get no connections; those that they have stay.
func (d *Dataplane) limit(p *plan.Service) {
	if err := limit(p, d.most); err != nil {
		d.crowded[p.Name] = err
	} else {
		delete(d.crowded, p.Name)
	}
}

func limit(p *plan.Service, most int) (err error) {
	for i := range p.Frontends {
		f := &p.Frontends[i]
		most := most
		if f.Affinity > 0 && together(p, f.Sticky, most) > most {
			most /= 2 // the backends for inside clients and those for outside clients, where they are others
		}
		n := max(len(f.Inside.Backends), len(f.Outside.Backends))
		if n <= most {
			continue
		}
		f.Inside.Backends = f.Inside.Backends[:min(most, len(f.Inside.Backends))]
		f.Outside.Backends = f.Outside.Backends[:min(most, len(f.Outside.Backends))]
		if err == nil {
			err = fmt.Errorf("service %s: %s has %d endpoints, and only %d of them get connections: share them out to several Services", p.Name, f.Key, n, most)
		}
	}
	return err
}

// together gives how many backends the frontends with that affinity have, each counted once; no more than an estimate where that is enough for most.
func together(p *plan.Service, sticky plan.Key, most int) int {
	var lists [][]netip.AddrPort
	sum := 0
	for i := range p.Frontends {
		if f := &p.Frontends[i]; f.Sticky == sticky {
			lists = append(lists, f.Inside.Backends, f.Outside.Backends)
			sum += len(f.Inside.Backends) + len(f.Outside.Backends)
		}
	}
	if sum <= most {
		return sum
	}
	all := map[netip.AddrPort]struct{}{}
	for _, l := range lists {
		for _, b := range l {
			all[b] = struct{}{}
		}
	}
	return len(all)
}
