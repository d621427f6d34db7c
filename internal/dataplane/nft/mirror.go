package nft

import (
	"net/netip"
	"slices"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// mirror is what the kernel holds, as far as this process knows: read back at the start, changed with every transaction, and read
// back again whenever there is doubt. Differences are taken against it, so that only what changed is written.
type mirror struct {
	frontends  map[plan.Key]*held
	clusterIPs shared
	hairpins   shared
	claims     map[model.Name]*claim
	waiting    map[plan.Key][]plan.Service // names and ages of Services that want a frontend that another one has
	groups     map[uint32]model.Name       // numbers of the Service ports with affinity
	lastGroup  uint32
	stray      []op // deletions of what belongs to no frontend
}

// held is what the kernel holds of one frontend.
type held struct {
	owner model.Name // the zero name as long as nobody has claimed what was read back
	class uint32
	// in and out are the backends by slot. An invalid address is a slot that is missing.
	in, out []netip.AddrPort
	stuck   stuck
	sources []netip.Prefix
}

// claim is what one Service has of the kernel.
type claim struct {
	created    time.Time
	frontends  []plan.Key
	clusterIPs []netip.Addr
	hairpins   []netip.Addr
}

// shared is a set of addresses that several Services may want.
type shared struct {
	present map[netip.Addr]struct{}
	wanted  map[netip.Addr]int // address → number of Services that want it
}

func newShared() shared {
	return shared{map[netip.Addr]struct{}{}, map[netip.Addr]int{}}
}

// keep wants those addresses that are there, for a Service that is not written, and gives them.
func (s *shared) keep(as []netip.Addr) (kept []netip.Addr) {
	for _, a := range as {
		if _, there := s.present[a]; there {
			s.wanted[a]++
			kept = append(kept, a)
		}
	}
	return kept
}

func newMirror() *mirror {
	return &mirror{
		frontends: map[plan.Key]*held{}, clusterIPs: newShared(), hairpins: newShared(), claims: map[model.Name]*claim{},
		waiting: map[plan.Key][]plan.Service{}, groups: map[uint32]model.Name{},
	}
}

// has tells whether a frontend that a Service wants is its own, or would be if it asked.
func (m *mirror) has(p *plan.Service, k plan.Key) bool {
	h := m.frontends[k]
	if h == nil || h.owner == p.Name || h.owner == (model.Name{}) {
		return true
	}
	return p.Precedes(&plan.Service{Name: h.owner, Created: m.claims[h.owner].created})
}

// unclaim takes a frontend, as it was held, away from its owner, who waits for it from now on.
func (m *mirror) unclaim(k plan.Key, h *held) {
	c := m.claims[h.owner]
	c.frontends = slices.DeleteFunc(c.frontends, func(o plan.Key) bool { return o == k })
	if g := h.stuck.group; m.groups[g] == h.owner && !slices.Contains(m.groupNumbers(c), g) {
		delete(m.groups, g)
	}
	delete(m.frontends, k)
	m.waiting[k] = append(m.waiting[k], plan.Service{Name: h.owner, Created: c.created})
}

// op is one element to add or to delete.
type op struct {
	family *family
	set    setID
	add    bool
	element
}

// change is all that one Service needs: it comes into force whole or not at all.
type change struct {
	service model.Name
	ops     []op
}

func (c *change) put(set setID, a netip.Addr, e element) {
	c.ops = append(c.ops, op{familyOf(a), set, true, e})
}

func (c *change) del(set setID, a netip.Addr, e element) {
	c.ops = append(c.ops, op{familyOf(a), set, false, e})
}

// share brings the addresses that one Service wants of a shared set from old to now.
func (c *change) share(s *shared, set setID, old, now []netip.Addr, key func(netip.Addr) []byte) {
	for _, a := range now {
		if slices.Contains(old, a) {
			continue
		}
		s.wanted[a]++
		if _, there := s.present[a]; !there {
			s.present[a] = struct{}{}
			c.put(set, a, element{key: key(a)})
		}
	}
	for _, a := range old {
		if slices.Contains(now, a) {
			continue
		}
		if s.wanted[a]--; s.wanted[a] == 0 {
			delete(s.wanted, a)
			delete(s.present, a)
			c.del(set, a, element{key: key(a)})
		}
	}
}

func clusterIPKey(a netip.Addr) []byte { return a.AsSlice() }
func hairpinKey(a netip.Addr) []byte   { return append(a.AsSlice(), a.AsSlice()...) }

// frontend brings one frontend from what is held to what the plan says. number is the number of its class; g is nil without affinity.
func (c *change) frontend(h *held, f *plan.Frontend, number uint32, g *group) {
	k := f.Key
	in, out := f.Inside.Backends, []netip.AddrPort(nil)
	if f.Split {
		out = f.Outside.Backends
	}
	h.in = c.slots(k, 0, h.in, in)
	h.out = c.slots(k, outsideSlots, h.out, out)

	c.stick(k, &h.stuck, g.stuck(h.in, h.out))
	c.admit(k, h, f.Sources)

	if h.class != number {
		if h.class != 0 {
			c.del(services, k.Addr, element{key: appendKey(nil, k)})
		}
		label := c.service.String()
		if f.PortName != "" {
			label += ":" + f.PortName
		}
		c.put(services, k.Addr, element{key: appendKey(nil, k), value: native(number), comment: label})
		h.class = number
	}
}

// remove takes one frontend away.
func (c *change) remove(k plan.Key, h *held) {
	if h.class != 0 {
		c.del(services, k.Addr, element{key: appendKey(nil, k)})
	}
	c.slots(k, 0, h.in, nil)
	c.slots(k, outsideSlots, h.out, nil)
	c.stick(k, &h.stuck, stuck{})
	c.admit(k, h, nil)
}

// slots moves a frontend's backends from their old slots to new ones and gives those. want is sorted. A backend keeps its slot if
// that still exists; slots that have become free go to the backends behind the new end and to new ones.
func (c *change) slots(k plan.Key, base uint32, old, want []netip.AddrPort) []netip.AddrPort {
	if len(old) == 0 && len(want) == 0 {
		return nil
	}
	now := make([]netip.AddrPort, len(want))
	placed := make([]bool, len(want))
	for i, b := range old {
		if j, ok := slices.BinarySearchFunc(want, b, netip.AddrPort.Compare); ok && i < len(want) && !placed[j] {
			now[i], placed[j] = b, true
		}
	}
	next := 0
	for i := range now {
		if now[i].IsValid() {
			continue
		}
		for placed[next] {
			next++
		}
		now[i], placed[next] = want[next], true
	}
	for i := range max(len(old), len(now)) {
		var was, is netip.AddrPort
		if i < len(old) {
			was = old[i]
		}
		if i < len(now) {
			is = now[i]
		}
		if was == is {
			continue
		}
		if was.IsValid() {
			c.del(slots, k.Addr, element{key: numberedKey(k, base+uint32(i))})
		}
		if is.IsValid() {
			c.put(slots, k.Addr, element{key: numberedKey(k, base+uint32(i)), value: appendBackend(nil, is)})
		}
	}
	return now
}

// admit brings the source ranges that may come in from what is held to now. Ranges that lie within others go: the kernel
// refuses overlaps.
func (c *change) admit(k plan.Key, h *held, now []netip.Prefix) {
	if len(h.sources) == 0 && len(now) == 0 {
		return
	}
	now = outermost(now)
	if slices.Equal(h.sources, now) {
		return
	}
	for _, p := range h.sources {
		if !slices.Contains(now, p) {
			c.del(sources, k.Addr, sourceElement(k, p))
		}
	}
	for _, p := range now {
		if !slices.Contains(h.sources, p) {
			c.put(sources, k.Addr, sourceElement(k, p))
		}
	}
	h.sources = now
}

// outermost sorts prefixes and leaves out those that lie within another.
func outermost(ps []netip.Prefix) []netip.Prefix {
	ps = slices.Clone(ps)
	slices.SortFunc(ps, netip.Prefix.Compare)
	var out []netip.Prefix
	for _, p := range ps {
		if len(out) == 0 || !out[len(out)-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}

func sourceElement(k plan.Key, p netip.Prefix) element {
	end := p.Addr().AsSlice()
	for i := p.Bits(); i < len(end)*8; i++ {
		end[i/8] |= 0x80 >> (i % 8)
	}
	return element{key: append(appendKey(nil, k), p.Addr().AsSlice()...), keyEnd: append(appendKey(nil, k), end...)}
}
