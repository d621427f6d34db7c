package dns

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// lingerLimit is how long a ready endpoint of a headless Service is still answered after it has vanished from its slice, unless it turns up
// in another. A controller that moves an endpoint from one slice to another writes two objects, and may write the one without it first; in
// between the endpoint is as ready as ever. An endpoint that ends is said to be terminating, or not ready, before it vanishes, and is not
// answered from then on; so this delays nothing that anybody waits for.
const lingerLimit = 100 * time.Millisecond

// linger is what still stands for vanished endpoints of one Service: slices with the ports that they had.
type linger struct {
	slice *model.EndpointSlice
	until time.Time
}

// slices are those of the newest snapshot, and those that linger.
func (p *publisher) slices(n model.Name) iter.Seq[*model.EndpointSlice] {
	lingering := p.lingering[n]
	if len(lingering) == 0 {
		return p.snap.Slices(n)
	}
	return func(yield func(*model.EndpointSlice) bool) {
		for sl := range p.snap.Slices(n) {
			if !yield(sl) {
				return
			}
		}
		for _, l := range lingering {
			if !yield(l.slice) {
				return
			}
		}
	}
}

// vanished finds which endpoints a headless Service had ready and now has no more, in no slice and in no state, and lets them linger.
// It looks at the slices that have changed; at the others only if something has vanished from those. A slice that is no shorter has had one
// endpoint replaced by another, and nothing has moved away.
func (p *publisher) vanished(n model.Name, before *store.Snapshot, now time.Time) {
	old, row := before.Services.Get(n), p.snap.Services.Get(n)
	if old == nil || row == nil || !old.Headless || !row.Headless {
		delete(p.lingering, n)
		return
	}
	same := map[*model.EndpointSlice]bool{} // true: in both
	for sl := range before.Slices(n) {
		same[sl] = false
	}
	there := map[netip.Addr]bool{}
	size := map[model.Name]int{}
	for sl := range p.snap.Slices(n) {
		if _, had := same[sl]; had {
			same[sl] = true
			continue
		}
		size[sl.Name] = len(sl.Endpoints)
		for i := range sl.Endpoints {
			there[sl.Endpoints[i].Addr] = true
		}
	}
	lost := slices.Clone(p.lingering[n])
	for sl, both := range same {
		if !both && size[sl.Name] < len(sl.Endpoints) {
			lost = append(lost, linger{sl, now.Add(lingerLimit)})
		}
	}
	if lost = without(lost, there); len(lost) > 0 {
		for sl, both := range same {
			if both {
				for i := range sl.Endpoints {
					there[sl.Endpoints[i].Addr] = true
				}
			}
		}
		lost = without(lost, there)
	}
	if len(lost) == 0 {
		delete(p.lingering, n)
		return
	}
	p.lingering[n] = lost
}

// without leaves of slices the ready endpoints whose address is not there.
func without(all []linger, there map[netip.Addr]bool) (out []linger) {
	for _, l := range all {
		gone := func(e model.Endpoint) bool { return e.Ready && !there[e.Addr] }
		switch {
		case !slices.ContainsFunc(l.slice.Endpoints, gone):
			continue
		case slices.ContainsFunc(l.slice.Endpoints, func(e model.Endpoint) bool { return !gone(e) }):
			part := *l.slice
			part.Endpoints = slices.DeleteFunc(slices.Clone(part.Endpoints), func(e model.Endpoint) bool { return !gone(e) })
			l.slice = &part
		}
		out = append(out, l)
	}
	return out
}

// letGo ends the lingering that has lasted long enough, and tells whether there was any.
func (p *publisher) letGo(now time.Time) (any bool) {
	for n, all := range p.lingering {
		left := slices.DeleteFunc(slices.Clone(all), func(l linger) bool { return !now.Before(l.until) })
		if len(left) == len(all) {
			continue
		}
		any = true
		if p.lingering[n] = left; len(left) == 0 {
			delete(p.lingering, n)
		}
		if row := p.snap.Services.Get(n); row != nil {
			p.zone.PutService(row, p.slices(n))
		}
	}
	return any
}

// firstEnd is when the first lingering ends.
func (p *publisher) firstEnd() (end time.Time, any bool) {
	for _, all := range p.lingering {
		for _, l := range all {
			if !any || l.until.Before(end) {
				end = l.until
			}
			any = true
		}
	}
	return end, any
}
