package compile

import (
	"fmt"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// Build compiles the Ingresses of a snapshot that are ours. prev, which may be nil, is an earlier table whose parsed
// certificates are used again where the Secret is the same row.
func Build(snap *store.Snapshot, opts Options, prev *Table) *Table {
	ings := owned(snap, opts)
	b := builder{
		t: &Table{
			exact: make(map[string]*host, len(ings)), wild: map[string]*host{}, certs: newCertificates(), ingresses: len(ings),
		},
		refs: make(map[Ref]int, len(ings)),
		snap: snap,
	}
	if prev != nil {
		b.parsed = prev.certs.parsed
	}
	for _, ing := range ings {
		b.add(ing)
	}
	b.t.fallback = b.withoutRules
	if b.t.fallback == nil {
		b.t.fallback = b.withRules
	}
	if opts.WithoutClass {
		b.unknownClasses()
	}
	slices.SortStableFunc(b.t.Findings, func(x, y Finding) int { return x.Ingress.Compare(y.Ingress) })
	return b.t
}

type builder struct {
	t      *Table
	snap   *store.Snapshot
	refs   map[Ref]int
	parsed map[*model.Certificate]*parsedCertificate

	ing     *model.Ingress // the one being added
	refused string         // why nothing of it may be served, or ""

	withoutRules, withRules *Route // the oldest default backends
}

func (b *builder) find(s Severity, format string, args ...any) {
	b.t.Findings = append(b.t.Findings, Finding{b.ing.Name, s, fmt.Sprintf(format, args...)})
}

func (b *builder) add(ing *model.Ingress) {
	b.ing = ing
	b.refused = b.annotations()
	var fallback *Route
	if ing.Default != nil {
		fallback = b.route("", "", "", *ing.Default)
	}
	if len(ing.Rules) == 0 && fallback == nil {
		b.find(Error, "it has neither rules nor a default backend: write one of them")
	}
	var hosts []string // the hosts that this Ingress has rules for
	for i, rule := range ing.Rules {
		if rule.Host != "" {
			if problem := checkRuleHost(rule.Host); problem != "" {
				b.find(Error, "rule %d: host %q is not served: %s", i, rule.Host, problem)
				continue
			}
		}
		if !slices.Contains(hosts, rule.Host) {
			hosts = append(hosts, rule.Host)
		}
		h := b.host(rule.Host)
		if len(rule.Paths) == 0 && fallback == nil {
			b.find(Warning, "rule %d: host %q has no paths and the Ingress no default backend to send it to: write either", i, rule.Host)
		}
		for j, p := range rule.Paths {
			b.path(h, rule.Host, p, fmt.Sprintf("rule %d path %d", i, j))
		}
	}
	if fallback != nil {
		b.claimFallback(fallback, hosts)
	}
	b.tls()
}

// host gives the entry for a rule's host and makes it if it is the first.
func (b *builder) host(name string) *host {
	if name == "" {
		if b.t.every == nil {
			b.t.every = &host{}
		}
		return b.t.every
	}
	m := b.t.exact
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		m, name = b.t.wild, rest
	}
	h := m[name]
	if h == nil {
		h = &host{}
		m[name] = h
	}
	return h
}

func (b *builder) path(h *host, hostName string, p model.IngressPath, where string) {
	decoded, problem := rulePath(p)
	if problem != "" {
		b.find(Error, "%s: %q is not served: %s", where, p.Path, problem)
		return
	}
	r := b.route(hostName, p.Path, p.Type, p.Backend)
	if p.Type == model.PathExact {
		if old := h.exact[decoded]; old != nil {
			b.taken(where, r, old)
			return
		}
		if h.exact == nil {
			h.exact = map[string]*Route{}
		}
		h.exact[decoded] = r
		return
	}
	key := prefixKey(decoded)
	if old := h.prefix[key]; old != nil {
		// Prefix /foo and Prefix /foo/ match the same requests, and of two matches the longer path wins, whatever its age.
		if key == "" || !strings.HasSuffix(decoded, "/") || strings.HasSuffix(old.Path, "/") {
			b.taken(where, r, old)
			return
		}
		me := b.ing
		b.ing = &model.Ingress{Name: old.Ingress}
		b.taken("path "+old.Path, old, r)
		b.ing = me
	}
	if h.prefix == nil {
		h.prefix = map[string]*Route{}
	}
	h.prefix[key] = r
	h.depth = max(h.depth, elements(key))
}

func (b *builder) taken(where string, r, by *Route) {
	severity := Error
	if by.Ingress == r.Ingress && by.Backend == r.Backend {
		severity = Warning // said twice, served once
	}
	b.find(severity, "%s: host %q path %q (%s) is served by path %q of ingress %s instead: change or remove one of the two",
		where, r.Host, r.Path, r.Type, by.Path, by.Ingress)
}

// claimFallback puts an Ingress's default backend behind its hosts and behind the table.
func (b *builder) claimFallback(r *Route, hosts []string) {
	for _, name := range hosts {
		h := b.host(name)
		if h.fallback != nil {
			b.find(Warning, "host %q: requests that no path matches go to the default backend of the older ingress %s", name, h.fallback.Ingress)
			continue
		}
		own := *r
		own.Host = name
		h.fallback = &own
	}
	if len(hosts) == 0 && len(b.ing.Rules) == 0 {
		if b.withoutRules == nil {
			b.withoutRules = r
		} else {
			b.find(Error, "its default backend is not served: the older ingress %s has the hosts that nobody names; give this one rules with hosts",
				b.withoutRules.Ingress)
		}
		return
	}
	if b.withRules == nil {
		b.withRules = r
	}
}

// route gives the route to a backend. What is not a Service that we can name becomes a refusal, never another route.
func (b *builder) route(hostName, path string, typ model.PathType, to model.IngressBackend) *Route {
	r := &Route{Ingress: b.ing.Name, Host: hostName, Path: path, Type: typ, Backend: -1, Refused: b.refused}
	if r.Refused != "" {
		return r
	}
	switch {
	case to.Resource != "":
		r.Refused = fmt.Sprintf("backend %s is not a Service", to.Resource)
	case to.Service == "":
		r.Refused = "the backend names no Service"
	case (to.PortName == "") == (to.PortNumber == 0):
		r.Refused = fmt.Sprintf("the backend must name one port of Service %s, by name or by number", to.Service)
	default:
		ref := Ref{model.Name{Namespace: b.ing.Name.Namespace, Name: to.Service}, to.PortName, to.PortNumber}
		r.Backend = b.backend(ref)
		return r
	}
	b.find(Error, "host %q path %q answers 503: %s", hostName, path, r.Refused)
	return r
}

func (b *builder) backend(ref Ref) int {
	i, ok := b.refs[ref]
	if !ok {
		i = len(b.t.Backends)
		b.refs[ref] = i
		b.t.Backends = append(b.t.Backends, Backend{Ref: ref})
	}
	// Ingresses come one after the other, so a duplicate can only be the last one.
	users := &b.t.Backends[i].Ingresses
	if n := len(*users); n == 0 || (*users)[n-1] != b.ing.Name {
		*users = append(*users, b.ing.Name)
	}
	return i
}

// unknownClasses reports Ingresses of a class that does not exist; asked only where no other controller could know it.
func (b *builder) unknownClasses() {
	for ing := range b.snap.Ingresses.All() {
		if ing.Class != "" && b.snap.Classes.Get(model.Name{Name: ing.Class}) == nil {
			b.ing = ing
			b.find(Warning, "its class %q does not exist, so nobody serves it: create the IngressClass with controller %s, or remove ingressClassName",
				ing.Class, Controller)
		}
	}
}
