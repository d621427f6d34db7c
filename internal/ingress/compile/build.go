package compile

import (
	"maps"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/ingress/policy"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// state is what a table keeps for the next one.
type state struct {
	entries []*entry // the oldest first
	byName  map[model.Name]*entry
	hosts   map[string][]*entry // who has rules for a host, the oldest first
	refs    map[Ref]int
	classes map[string]*class
	special []string // hosts that stand for others: aliases and www
}

// Build compiles the Ingresses of a snapshot that are ours. prev, which may be nil, is the table before, whose parts are used again where
// the rows are the same: the cost is that of what has changed, and of looking at the rest.
func Build(snap *store.Snapshot, opts Options, prev *Table) *Table {
	if prev == nil || prev.build.byName == nil {
		prev = &Table{}
	}
	b := builder{snap: snap, prev: prev, t: &Table{
		Backends: slices.Clone(prev.Backends), exact: cloned(prev.exact), wild: cloned(prev.wild), every: prev.every,
		build: state{refs: cloned(prev.build.refs), hosts: cloned(prev.build.hosts), classes: map[string]*class{}},
	}}
	for i := range b.t.Backends {
		if b.t.Backends[i].Ref == (Ref{}) {
			b.free = append(b.free, i)
		}
		b.t.Backends[i].Ingresses = nil
	}
	b.entries(opts)
	b.hosts()
	b.defaults()
	b.serverNames()
	b.users()
	b.findings()
	if opts.WithoutClass {
		b.unknownClasses()
	}
	slices.SortStableFunc(b.t.Findings, func(x, y Finding) int { return x.Ingress.Compare(y.Ingress) })
	return b.t
}

func cloned[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return maps.Clone(m)
}

type builder struct {
	t, prev *Table
	snap    *store.Snapshot
	free    []int               // backends that nobody leads to
	dirty   map[string]struct{} // hosts whose rules have changed
}

// entries compiles the Ingresses that are new or have changed, and notes whose hosts are concerned.
func (b *builder) entries(opts Options) {
	ings := owned(b.snap, opts)
	st := &b.t.build
	st.entries, st.byName = make([]*entry, 0, len(ings)), make(map[model.Name]*entry, len(ings))
	b.dirty = map[string]struct{}{}
	fallback := defaultClass(b.snap)
	for _, ing := range ings {
		name := ing.Class
		if name == "" {
			name = fallback
		}
		c := b.class(name)
		old := b.prev.build.byName[ing.Name]
		e := old
		if old == nil || !old.fresh(b.snap, ing, c.parameters, c.problem) {
			e = b.entry(ing, c.parameters, c.problem)
			b.touch(e)
			b.touch(old)
		}
		st.entries = append(st.entries, e)
		st.byName[ing.Name] = e
	}
	for name, old := range b.prev.build.byName {
		if st.byName[name] == nil {
			b.touch(old)
		}
	}
}

func (b *builder) touch(e *entry) {
	if e == nil {
		return
	}
	for _, h := range e.hosts {
		b.dirty[h.host] = struct{}{}
	}
}

// hosts assembles the hosts that are concerned.
func (b *builder) hosts() {
	for _, name := range b.prev.build.special {
		b.put(name, nil)
	}
	members := make(map[string][]*entry, len(b.dirty))
	if len(b.dirty) > 0 {
		for _, e := range b.t.build.entries {
			for _, h := range e.hosts {
				if _, ok := b.dirty[h.host]; ok {
					members[h.host] = append(members[h.host], e)
				}
			}
		}
	}
	for name := range b.dirty {
		if len(members[name]) == 0 {
			delete(b.t.build.hosts, name)
			b.put(name, nil)
			continue
		}
		b.t.build.hosts[name] = members[name]
		b.put(name, assemble(name, members[name]))
	}
	b.special()
}

// special enters the hosts that no rule has: aliases, and names with and without www.
func (b *builder) special() {
	for _, e := range b.t.build.entries {
		if e.policy == nil || e.refused != "" {
			continue
		}
		for _, alias := range e.policy.Aliases {
			if len(e.hosts) == 0 {
				continue
			}
			if b.get(alias) != nil {
				b.t.Findings = append(b.t.Findings, Finding{e.ing.Name, Warning, "alias " + alias + " is not served: another Ingress or alias has that host"})
				continue
			}
			b.put(alias, b.get(e.hosts[0].host))
			b.t.build.special = append(b.t.build.special, alias)
		}
		if !e.policy.WWW {
			continue
		}
		for _, h := range e.hosts {
			if h.host == "" || strings.HasPrefix(h.host, "*.") {
				continue
			}
			other, ok := strings.CutPrefix(h.host, "www.")
			if !ok {
				other = "www." + h.host
			}
			if b.get(other) != nil {
				continue // it has rules of its own
			}
			r := &Route{Ingress: e.ing.Name, Host: other, Path: "/", Type: model.PathPrefix, Backend: -1, Policy: e.policy, WWW: h.host, decoded: "/"}
			b.put(other, &host{prefix: map[string]*Route{"": r}})
			b.t.build.special = append(b.t.build.special, other)
		}
	}
}

func (b *builder) get(name string) *host {
	if name == "" {
		return b.t.every
	}
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		return b.t.wild[rest]
	}
	return b.t.exact[name]
}

// put enters what a host's rules say, or takes the host out.
func (b *builder) put(name string, h *host) {
	m := b.t.exact
	if name == "" {
		b.t.every = h
		return
	}
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		m, name = b.t.wild, rest
	}
	if h == nil {
		delete(m, name)
	} else {
		m[name] = h
	}
}

// defaults finds the default backend of the table.
func (b *builder) defaults() {
	var without, with *Route
	for _, e := range b.t.build.entries {
		switch {
		case e.fallback == nil || e.policy != nil && e.policy.Canary != nil:
		case len(e.ing.Rules) > 0:
			if with == nil {
				with = e.fallback
			}
		case without == nil:
			without = e.fallback
		default:
			b.t.Findings = append(b.t.Findings, Finding{e.ing.Name, Error, "its default backend is not served: the older ingress " +
				without.Ingress.String() + " has the hosts that nobody names; give this one rules with hosts"})
		}
	}
	if b.t.fallback = without; without == nil {
		b.t.fallback = with
	}
}

// backend gives the index of a Service port and notes that the entry leads there.
func (b *builder) backend(e *entry, ref Ref) int {
	i, ok := b.t.build.refs[ref]
	if !ok {
		if n := len(b.free); n > 0 {
			i, b.free = b.free[n-1], b.free[:n-1]
			b.t.Backends[i].Ref = ref
		} else {
			i = len(b.t.Backends)
			b.t.Backends = append(b.t.Backends, Backend{Ref: ref})
		}
		b.t.build.refs[ref] = i
	}
	e.refs = append(e.refs, i)
	return i
}

// users notes who leads to each backend, and frees those that nobody leads to.
func (b *builder) users() {
	names := make([]model.Name, 0, len(b.t.Backends)) // most have one user, for whom no slice of their own is made
	for _, e := range b.t.build.entries {
		for _, i := range e.refs {
			// Entries come one after the other, so a duplicate can only be the last one.
			switch users := &b.t.Backends[i].Ingresses; {
			case len(*users) == 0:
				if len(names) == cap(names) {
					names = make([]model.Name, 0, len(b.t.Backends))
				}
				names = append(names, e.ing.Name)
				*users = names[len(names)-1:][:1:1]
			case (*users)[len(*users)-1] != e.ing.Name:
				*users = append(*users, e.ing.Name)
			}
		}
	}
	for i := range b.t.Backends {
		if be := &b.t.Backends[i]; len(be.Ingresses) == 0 && be.Ref != (Ref{}) {
			delete(b.t.build.refs, be.Ref)
			*be = Backend{}
		}
	}
}

// findings gathers those of the Ingresses and of the hosts.
func (b *builder) findings() {
	for _, e := range b.t.build.entries {
		b.t.Findings = append(b.t.Findings, e.findings...)
	}
	for name := range b.t.build.hosts { // not those that stand for others
		b.t.Findings = append(b.t.Findings, b.get(name).findings...)
	}
}

// unknownClasses reports Ingresses of a class that does not exist; asked only where no other controller could know it.
func (b *builder) unknownClasses() {
	for ing := range b.snap.Ingresses.All() {
		if ing.Class != "" && b.snap.Classes.Get(model.Name{Name: ing.Class}) == nil {
			b.t.Findings = append(b.t.Findings, Finding{ing.Name, Warning, "its class \"" + ing.Class +
				"\" does not exist, so nobody serves it: create the IngressClass with controller " + Controller + ", or remove ingressClassName"})
		}
	}
}

// Verdicts says what becomes of the annotations of an Ingress of ours, in the order of their names.
func (t *Table) Verdicts(ing model.Name) []policy.Verdict {
	if e := t.build.byName[ing]; e != nil {
		return e.verdicts
	}
	return nil
}
