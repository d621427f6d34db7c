package nft

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// kernel keeps the two tables equal to plans. It belongs to one goroutine.
type kernel struct {
	conn   *conn
	tables []*ruleset
	// mirror is nil when it is not known what the kernel holds.
	mirror *mirror
	// generation is the newest one that is known to be ours, and prints are the tables' rules as we wrote them.
	generation uint32
	prints     []string
	// buffer is that of the last transaction, for the next one.
	buffer []byte
	// whole gathers the one transaction that replaces tables of another layout, rules and elements, under traffic; nil at all other times.
	// inPieces is true once the kernel has refused such a one: then the rules are replaced first and the elements follow.
	whole    *batch
	inPieces bool
}

func newKernel(table string, serviceRanges, podRanges []netip.Prefix) (*kernel, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	k := &kernel{conn: c}
	for _, f := range families {
		k.tables = append(k.tables, &ruleset{
			family: f, table: table, layout: layout, serviceRanges: ofFamily(f, serviceRanges), podRanges: ofFamily(f, podRanges),
			classes: newRegistry(),
		})
	}
	return k, nil
}

func (k *kernel) close() { k.conn.close() }

// doubt makes the next apply read the sets back, and with rules also write the rules anew.
func (k *kernel) doubt(rules bool) {
	k.mirror, k.whole = nil, nil
	if rules {
		k.prints = nil
	}
}

// refresh makes the mirror true again, if it is in doubt. Only rules that are not as we wrote them are written, so that two
// instances that watch each other's transactions come to rest.
func (k *kernel) refresh() error {
	if k.mirror != nil {
		return nil
	}
	g, err := k.conn.generation()
	if err != nil {
		return err
	}
	if k.prints != nil {
		now, err := k.readPrints()
		if err != nil {
			return err
		}
		if !slices.Equal(now, k.prints) {
			k.prints = nil
		}
	}
	if k.prints == nil {
		if err := k.adopt(); err != nil {
			return err
		}
		if k.whole == nil {
			if g, err = k.conn.generation(); err != nil {
				return err
			}
		}
	}
	m := newMirror()
	for _, t := range k.tables {
		if k.whole != nil && t.empty {
			continue // it is not there yet
		}
		if err := k.conn.readBack(t.family, t.table, m); err != nil {
			return err
		}
	}
	if k.prints == nil && k.whole == nil {
		if k.prints, err = k.readPrints(); err != nil {
			return err
		}
	}
	k.mirror, k.generation = m, g
	return nil
}

// adopt takes over the tables that are there, or makes them, and writes all rules anew in one transaction. It leaves the sets alone. Where a
// table of another layout has packets coming in, nothing is written yet: finish does that, with the elements.
func (k *kernel) adopt() error {
	var b batch
	gather := false
	for _, t := range k.tables {
		old, err := k.conn.layoutOf(t.family, t.table)
		if err != nil {
			return err
		}
		t.classes, t.unwritten, t.base, t.empty = newRegistry(), nil, false, old != t.layout
		if old != "" {
			// Without base chains it is the rest of a first start that did not come to its end. With them the new ones come in
			// the same transaction even if the sets are empty: the kernel translates established flows only while there are some.
			if t.base, err = k.conn.hasChain(t.family, t.table, chainPrerouting); err != nil {
				return err
			}
		}
		switch old {
		case t.layout:
			if err := t.readClasses(k.conn); err != nil {
				return err
			}
		case "":
		default:
			t.remove(&b)
			gather = gather || t.base && !k.inPieces
		}
		t.write(&b)
	}
	if gather {
		k.whole = &b
		return nil
	}
	if err := k.conn.commit(&b); err != nil {
		return fmt.Errorf("nftables: write the rules: %w", err)
	}
	return nil
}

// setServiceRanges makes these the ranges of Services. Rules that are there are written anew in one transaction; no set is touched, so it
// costs the same with any number of Services.
func (k *kernel) setServiceRanges(ranges []netip.Prefix) error {
	var b batch
	for _, t := range k.tables {
		if now := ofFamily(t.family, ranges); !slices.Equal(now, t.serviceRanges) {
			t.serviceRanges = now
			if k.mirror == nil {
				k.prints = nil // the rules that are there may be as we wrote them and yet not what they have to be
				continue
			}
			t.unwritten = nil // with all the others
			t.write(&b)
		}
	}
	if b.empty() {
		return nil // or the next refresh writes them
	}
	if err := k.commit(&b); err != nil {
		return fmt.Errorf("nftables: write the rules for the Service ranges: %w", err)
	}
	return k.note()
}

// finish carries out what adopt has put off, when all is in it.
func (k *kernel) finish() error {
	if k.whole == nil {
		return nil
	}
	b := k.whole
	k.whole = nil
	if err := k.conn.commit(b); err != nil {
		k.inPieces = true
		return fmt.Errorf("nftables: replace tables of another layout: %w", err)
	}
	k.generation++
	return k.note()
}

func (k *kernel) readPrints() ([]string, error) {
	var out []string
	for _, t := range k.tables {
		p, err := k.conn.fingerprint(t.family, t.table)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// foreign is true when somebody else has changed nftables since the last look; not necessarily our tables.
func (k *kernel) foreign() (bool, error) {
	g, err := k.conn.generation()
	return g != k.generation, err
}

// commit carries out a batch and keeps count of the generations, so that a change by somebody else shows.
func (k *kernel) commit(b *batch) error {
	if b.empty() {
		return nil
	}
	if k.whole != nil {
		k.whole.join(b)
		return nil
	}
	if err := k.conn.commit(b); err != nil {
		return err
	}
	k.generation++
	return nil
}

// openBase writes the base chains, unless they are there: from then on packets meet the rules.
func (k *kernel) openBase() error {
	var b batch
	for _, t := range k.tables {
		if !t.base {
			t.writeBase(&b)
		}
	}
	if b.empty() {
		return nil
	}
	if err := k.commit(&b); err != nil {
		return fmt.Errorf("nftables: write the base chains: %w", err)
	}
	for _, t := range k.tables {
		t.base = true
	}
	return k.note()
}

// note takes the rules as they are for ours. It leaves the generation: should somebody else have been at it meanwhile, the next look
// finds out.
func (k *kernel) note() (err error) {
	if k.whole != nil {
		return nil // they are not written yet
	}
	k.prints, err = k.readPrints()
	return err
}

// apply brings the kernel to the plans, each of another Service. After an error it is not known what the kernel holds. An error of type *blame names the
// Services at fault.
func (k *kernel) apply(plans iter.Seq[*plan.Service]) error {
	var changes []change
	size := 0
	flush := func() error {
		if len(changes) == 0 {
			return nil
		}
		defer func() { changes, size = nil, 0 }()
		return k.write(changes)
	}
	for p := range plans {
		c := k.diff(p)
		if len(c.ops) == 0 {
			continue
		}
		if len(c.ops) > large {
			if err := flush(); err != nil {
				return err
			}
			for _, stage := range c.stages(large) {
				if err := k.write([]change{stage}); err != nil {
					return err
				}
			}
			continue
		}
		changes = append(changes, c)
		if size += len(c.ops) * typical; size >= bulk {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// diff gives what is to be written for one Service and notes it in the mirror as written.
func (k *kernel) diff(p *plan.Service) change {
	m := k.mirror
	c := change{service: p.Name}
	for key, those := range m.waiting { // rarely anything
		m.waiting[key] = slices.DeleteFunc(those, func(o plan.Service) bool { return o.Name == p.Name })
	}
	old := m.claims[p.Name]
	if old == nil {
		old = &claim{}
	}
	now := &claim{created: p.Created, clusterIPs: p.ClusterIPs, hairpins: p.Hairpin}
	was, groups := m.groupNumbers(old), m.groupsOf(p)
	for i := range p.Frontends {
		f := &p.Frontends[i]
		if !m.has(p, f.Key) {
			m.waiting[f.Key] = append(m.waiting[f.Key], plan.Service{Name: p.Name, Created: p.Created})
			continue
		}
		h := m.frontends[f.Key]
		if h != nil && h.owner != p.Name && h.owner != (model.Name{}) {
			m.unclaim(f.Key, h)
			c.remove(f.Key, h)
			h = nil
		}
		if h == nil {
			h = &held{}
			m.frontends[f.Key] = h
		}
		h.owner = p.Name
		c.frontend(h, f, k.classNumber(f), groups[f.Key])
		now.frontends = append(now.frontends, f.Key)
	}
	for _, key := range old.frontends {
		if !slices.Contains(now.frontends, key) {
			c.remove(key, m.frontends[key])
			delete(m.frontends, key)
		}
	}
	m.forgetGroups(p.Name, was, groups)
	c.share(&m.clusterIPs, clusterIPs, old.clusterIPs, now.clusterIPs, clusterIPKey)
	c.share(&m.hairpins, hairpins, old.hairpins, now.hairpins, hairpinKey)
	if len(now.frontends)+len(now.clusterIPs)+len(now.hairpins) == 0 {
		delete(m.claims, p.Name)
	} else {
		m.claims[p.Name] = now
	}
	return c
}

// keep claims what is held of a Service without changing it: for Services that could not be written, which must not be pruned.
func (k *kernel) keep(p *plan.Service) {
	m := k.mirror
	now := &claim{created: p.Created, clusterIPs: m.clusterIPs.keep(p.ClusterIPs), hairpins: m.hairpins.keep(p.Hairpin)}
	for i := range p.Frontends {
		if h := m.frontends[p.Frontends[i].Key]; h != nil && h.owner == (model.Name{}) {
			h.owner = p.Name
			now.frontends = append(now.frontends, p.Frontends[i].Key)
		}
	}
	m.claims[p.Name] = now
}

// contested gives, for every frontend that a Service wants and another one has, both.
func (k *kernel) contested() map[model.Name]error {
	out := map[model.Name]error{}
	for key, those := range k.mirror.waiting {
		h := k.mirror.frontends[key]
		for _, o := range those {
			out[o.Name] = fmt.Errorf("service %s: %s belongs to service %s", o.Name, key, h.owner)
		}
	}
	return out
}

// released gives the Services that wait for frontends that they may have now: nobody has them any more, or somebody younger, having
// been deleted and made again.
func (k *kernel) released() []model.Name {
	var out []model.Name
	for key, those := range k.mirror.waiting {
		for i := range those {
			if k.mirror.has(&those[i], key) {
				out = append(out, those[i].Name)
			}
		}
		if len(those) == 0 {
			delete(k.mirror.waiting, key)
		}
	}
	return out
}

// unclaimed yields the frontends that are held and that no Service has claimed.
func (k *kernel) unclaimed() iter.Seq[plan.Key] {
	return func(yield func(plan.Key) bool) {
		for key, h := range k.mirror.frontends {
			if h.owner == (model.Name{}) && !yield(key) {
				return
			}
		}
	}
}

// prune deletes all that no Service has claimed. It may be called only when every Service has been applied to the mirror.
func (k *kernel) prune() error {
	m := k.mirror
	c := change{ops: m.stray}
	for key := range k.unclaimed() {
		c.remove(key, m.frontends[key])
		delete(m.frontends, key)
	}
	for set, s := range map[setID]shared{clusterIPs: m.clusterIPs, hairpins: m.hairpins} {
		for a := range s.present {
			if s.wanted[a] == 0 {
				delete(s.present, a)
				key := clusterIPKey(a)
				if set == hairpins {
					key = hairpinKey(a)
				}
				c.del(set, a, element{key: key})
			}
		}
	}
	m.stray = nil
	for ops := range slices.Chunk(c.ops, bulk/64) {
		if err := k.write([]change{{ops: ops}}); err != nil {
			return fmt.Errorf("nftables: prune: %w", err)
		}
	}
	return nil
}

// classNumber gives the number of a frontend's class, a new one where it has none yet.
func (k *kernel) classNumber(f *plan.Frontend) uint32 {
	t := k.tableOf(familyOf(f.Addr))
	c := classOf(f)
	n, known := t.classes.number[c]
	if !known {
		n = t.classes.free(c)
		t.classes.put(c, n)
		t.unwritten = append(t.unwritten, c)
	}
	return n
}

func (k *kernel) tableOf(f *family) *ruleset {
	if f.v6 {
		return k.tables[1]
	}
	return k.tables[0]
}
