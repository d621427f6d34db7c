package nft

import (
	"net/netip"
	"slices"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// ClientIP affinity. What a client had is remembered by numbers: affinity maps client . group to the number of a backend, where a group
// is a Service port in one family, whose frontends share the affinity. A backend keeps its number as long as it is there, whichever
// slot it moves to.

// A backend's number is that of its group with something in the lower half, so that the rules need to carry one number only.
const (
	groupMask = 0xffff0000
	groupStep = 1 << 16
)

// group is one Service port in one family.
type group struct {
	number   uint32
	backends map[netip.AddrPort]uint32
}

// alive are the backends in use, by number.
type alive map[uint32]netip.AddrPort

func (a *alive) put(n uint32, b netip.AddrPort) {
	if *a == nil {
		*a = alive{}
	}
	(*a)[n] = b
}

// stuck is what the kernel holds of one frontend's affinity; the zero value if it has none.
type stuck struct {
	group uint32
	// draws and drawsOutside give the number of the backend in each slot. 0 is a slot that is missing.
	draws, drawsOutside []uint32
	live, liveOutside   alive
}

// stuck gives what a frontend with those slots must hold.
func (g *group) stuck(in, out []netip.AddrPort) stuck {
	if g == nil {
		return stuck{}
	}
	s := stuck{group: g.number}
	s.draws, s.live = g.numbers(in)
	s.drawsOutside, s.liveOutside = g.numbers(out)
	return s
}

func (g *group) numbers(slots []netip.AddrPort) (ns []uint32, live alive) {
	for _, b := range slots {
		n := g.backends[b]
		ns = append(ns, n)
		live.put(n, b)
	}
	return ns, live
}

// groupsOf gives for each frontend with affinity its group. Numbers that the kernel holds already are kept.
func (m *mirror) groupsOf(p *plan.Service) map[plan.Key]*group {
	var of map[plan.Key]*group    // frontend → group
	var named map[plan.Key]*group // by the Service port
	for i := range p.Frontends {
		f := &p.Frontends[i]
		if f.Affinity == 0 || len(f.Inside.Backends)+len(f.Outside.Backends) == 0 {
			continue
		}
		if of == nil {
			of, named = map[plan.Key]*group{}, map[plan.Key]*group{}
		}
		g := named[f.Sticky]
		if g == nil {
			g = m.group(p, f.Sticky, named)
			named[f.Sticky] = g
		}
		of[f.Key] = g
	}
	return of
}

// group numbers one Service port and its backends; others are the groups of the Service's other ports. A number that was read back may have
// become another Service's meanwhile, with a frontend that both want.
func (m *mirror) group(p *plan.Service, port plan.Key, others map[plan.Key]*group) *group {
	g := &group{backends: map[netip.AddrPort]uint32{}}
	var want []netip.AddrPort
	var have []stuck
	for i := range p.Frontends {
		f := &p.Frontends[i]
		if f.Sticky != port {
			continue
		}
		want = append(append(want, f.Inside.Backends...), f.Outside.Backends...)
		h := m.frontends[f.Key]
		if h == nil || h.stuck.group == 0 || h.owner != p.Name && h.owner != (model.Name{}) {
			continue
		}
		have = append(have, h.stuck)
		n := h.stuck.group & groupMask
		owner, taken := m.groups[n]
		usable := n != 0 && (!taken || owner == p.Name)
		for _, o := range others {
			usable = usable && o.number != n
		}
		if g.number == 0 && usable {
			g.number = n
		}
	}
	if g.number == 0 {
		g.number = m.freeGroup()
	}
	m.groups[g.number] = p.Name

	taken := map[uint32]bool{g.number: true}
	for _, s := range have {
		for _, a := range []alive{s.live, s.liveOutside} {
			for n, b := range a {
				if g.backends[b] == 0 && !taken[n] && n&groupMask == g.number {
					g.backends[b], taken[n] = n, true
				}
			}
		}
	}
	next, last := g.number, g.number+(groupStep-1)
	for _, b := range want {
		if g.backends[b] != 0 {
			continue
		}
		for taken[next] && next < last {
			next++
		}
		if taken[next] { // all are, also by backends that are gone: theirs are given anew
			g.forget(want, taken)
			for next = g.number; taken[next]; {
				next++
			}
		}
		g.backends[b], taken[next] = next, true
	}
	return g
}

// forget takes the numbers of all backends but these away, where they are in taken too.
func (g *group) forget(but []netip.AddrPort, taken map[uint32]bool) {
	wanted := map[netip.AddrPort]bool{}
	for _, b := range but {
		wanted[b] = true
	}
	for b, n := range g.backends {
		if !wanted[b] {
			delete(g.backends, b)
			delete(taken, n)
		}
	}
}

// freeGroup gives a number that no group has. Should there be 65,535 groups, some get to share one: a client of two such Services is then
// sometimes forgotten by one of them.
func (m *mirror) freeGroup() uint32 {
	for range groupStep {
		m.lastGroup += groupStep // and after the last the first
		if _, taken := m.groups[m.lastGroup]; !taken && m.lastGroup != 0 {
			return m.lastGroup
		}
	}
	return max(m.lastGroup, groupStep)
}

// groupNumbers gives the groups that a Service's frontends are in.
func (m *mirror) groupNumbers(c *claim) (ns []uint32) {
	for _, k := range c.frontends {
		if h := m.frontends[k]; h != nil && h.stuck.group != 0 {
			ns = append(ns, h.stuck.group)
		}
	}
	return ns
}

// forgetGroups drops those groups of a Service that it no longer has.
func (m *mirror) forgetGroups(service model.Name, was []uint32, now map[plan.Key]*group) {
	for _, n := range was {
		kept := m.groups[n] != service
		for _, g := range now {
			kept = kept || g.number == n
		}
		if !kept {
			delete(m.groups, n)
		}
	}
}

// stick brings the affinity of one frontend from what is held to now.
func (c *change) stick(k plan.Key, held *stuck, now stuck) {
	if was := held.group; was != now.group {
		if was != 0 {
			c.del(sticky, k.Addr, element{key: appendKey(nil, k)})
		}
		if now.group != 0 {
			c.put(sticky, k.Addr, element{key: appendKey(nil, k), value: native(now.group)})
		}
	}
	c.draws(k, 0, held.draws, now.draws)
	c.draws(k, outsideSlots, held.drawsOutside, now.drawsOutside)
	c.alive(k, live, held.live, now.live)
	c.alive(k, liveOutside, held.liveOutside, now.liveOutside)
	*held = now
}

func (c *change) draws(k plan.Key, base uint32, old, now []uint32) {
	for i := range max(len(old), len(now)) {
		var was, is uint32
		if i < len(old) {
			was = old[i]
		}
		if i < len(now) {
			is = now[i]
		}
		if was == is {
			continue
		}
		key := numberedKey(k, base+uint32(i))
		if was != 0 {
			c.del(draws, k.Addr, element{key: key})
		}
		if is != 0 {
			c.put(draws, k.Addr, element{key: key, value: native(is)})
		}
	}
}

func (c *change) alive(k plan.Key, set setID, old, now alive) {
	for n, b := range old {
		if now[n] != b {
			c.del(set, k.Addr, element{key: numberedKey(k, n)})
		}
	}
	for n, b := range now {
		if old[n] != b {
			c.put(set, k.Addr, element{key: numberedKey(k, n), value: appendBackend(nil, b)})
		}
	}
}

// stick writes the rules that come before those of pick where clients keep their backend. What is looked up is carried from rule to rule
// in the packet's priority: first the number of the group, then that of the backend.
func (r *ruleset) stick(b *batch, chain string, n pool, base uint32, alive setID, seconds uint32) {
	w := r.words()
	after := w + 3 // the first register behind a frontend with a number
	client, value := after, after+w+1
	source := payload(network, r.saddr, r.addrLen, client)
	// The key and the value of the affinity, once a backend's number is carried.
	remembered := []expr{source, carried(client + w), mask(client+w, native(groupMask)), carried(value)}
	keep := append(remembered, rememberValue(setSpecs[affinity].name, client, value, uint64(seconds)*1000))
	recall := []expr{find(setSpecs[affinity].name, client, value), carry(value)}
	chosen := slices.Concat(r.frontend(0), []expr{carried(w + 2), find(setSpecs[alive].name, 0, 0)})
	send := append(putDown(value), dnat(uint32(r.proto), 0, w))

	r.add(b, chain, "whose affinity it is", slices.Concat(
		r.frontend(0), []expr{find(setSpecs[sticky].name, 0, value), carry(value)})...)
	r.add(b, chain, "the backend that the client had", slices.Concat([]expr{source, carried(client + w)}, recall)...)
	r.add(b, chain, "from now on for the whole time again", slices.Concat(chosen, keep, send)...)
	r.add(b, chain, "it had none, or that is gone", append(remembered, forget(setSpecs[affinity].name, client, value))...)
	r.add(b, chain, "a new one", slices.Concat(r.frontend(0), []expr{
		random(uint32(n), base, w+2), find(setSpecs[draws].name, 0, value), carry(value)}, keep)...)
	r.add(b, chain, "or what its other flow has just got", slices.Concat(remembered, recall)...)
	r.add(b, chain, "", slices.Concat(chosen, send)...)
	r.add(b, chain, "a transaction came between: as without affinity", putDown(value)...)
}
