package compile

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/model"
)

// assemble puts together what the Ingresses say about one host, the oldest first.
func assemble(name string, members []*entry) *host {
	a := assembler{h: &host{}, name: name}
	var canaries []*entry
	for _, e := range members {
		if e.policy != nil && e.policy.Canary != nil {
			canaries = append(canaries, e)
			continue
		}
		for _, r := range e.rulesFor(name) {
			a.add(r)
		}
		a.fallback(e)
	}
	a.nginxPaths()
	for _, e := range canaries {
		for _, r := range e.rulesFor(name) {
			a.canary(e, r)
		}
	}
	return a.h
}

func (e *entry) rulesFor(name string) []located {
	for _, h := range e.hosts {
		if h.host == name {
			return h.paths
		}
	}
	return nil
}

type assembler struct {
	h     *host
	name  string
	nginx []located // of classes that compare paths as ingress-nginx does
}

func (a *assembler) find(ing model.Name, s Severity, format string, args ...any) {
	a.h.findings = append(a.h.findings, Finding{ing, s, fmt.Sprintf(format, args...)})
}

func (a *assembler) add(r located) {
	if r.nginx {
		for _, old := range a.nginx {
			if old.Path == r.Path && old.Type == r.Type {
				a.taken(r.where, r.Route, old.Route)
				return
			}
		}
		a.nginx = append(a.nginx, r)
		return
	}
	a.strict(r)
}

func (a *assembler) strict(r located) {
	h := a.h
	if r.Type == model.PathExact {
		if old := h.exact[r.decoded]; old != nil {
			a.taken(r.where, r.Route, old)
			return
		}
		if h.exact == nil {
			h.exact = map[string]*Route{}
		}
		h.exact[r.decoded] = r.Route
		return
	}
	key := prefixKey(r.decoded)
	if old := h.prefix[key]; old != nil {
		// Prefix /foo and Prefix /foo/ match the same requests, and of two matches the longer path wins, whatever its age.
		if key == "" || !strings.HasSuffix(r.decoded, "/") || strings.HasSuffix(old.Path, "/") {
			a.taken(r.where, r.Route, old)
			return
		}
		a.taken("path "+old.Path, old, r.Route)
	}
	if h.prefix == nil {
		h.prefix = map[string]*Route{}
	}
	h.prefix[key] = r.Route
	h.depth = max(h.depth, elements(key))
}

func (a *assembler) taken(where string, r, by *Route) {
	severity := Error
	if by.Ingress == r.Ingress && by.Backend == r.Backend {
		severity = Warning // said twice, served once
	}
	a.find(r.Ingress, severity, "%s: host %q path %q (%s) is served by path %q of ingress %s instead: change or remove one of the two",
		where, r.Host, r.Path, r.Type, by.Path, by.Ingress)
}

// fallback puts an Ingress's default backend behind a host that it has rules for.
func (a *assembler) fallback(e *entry) {
	if e.fallback == nil {
		return
	}
	if old := a.h.fallback; old != nil {
		a.find(e.ing.Name, Warning, "host %q: requests that no path matches go to the default backend of the older ingress %s", a.name, old.Ingress)
		return
	}
	own := *e.fallback
	own.Host = a.name
	a.h.fallback = &own
}

// nginxPaths enters the paths that are compared as ingress-nginx does: once one of the host's is an expression, or is rewritten, all of them are
// expressions, without regard to case and open at the end, tried by length.
func (a *assembler) nginxPaths() {
	expressions := slices.ContainsFunc(a.nginx, func(r located) bool {
		return r.Policy != nil && (r.Policy.Regex || r.Policy.Rewrite != nil) || r.Refused != "" && literalPart(r.Path) != r.Path
	})
	if !expressions {
		for _, r := range a.nginx {
			if r.Type == model.PathImplementationSpecific {
				a.h.texts = append(a.h.texts, r.Route)
			} else {
				a.strict(r)
			}
		}
		slices.SortStableFunc(a.h.texts, func(x, y *Route) int { return len(y.decoded) - len(x.decoded) })
		return
	}
	for _, r := range a.nginx {
		own := *r.Route
		var err error
		if own.pattern, err = regexp.Compile("(?i)^" + own.Path); err != nil || len(own.Path) > 1024 {
			// What the author meant is not known, but what it begins with is: that much is closed.
			plain, _, _ := strings.Cut(own.Path, "(")
			own.pattern = regexp.MustCompile("(?i)^" + regexp.QuoteMeta(strings.TrimRight(plain, `.*+?[\`)))
			own.Refused, own.Backend = fmt.Sprintf("path %q is not an RE2 expression: %v", own.Path, err), -1
			a.find(r.Ingress, Error, "%s answers 503: %s", r.where, own.Refused)
		}
		a.h.patterns = append(a.h.patterns, &own)
	}
	slices.SortStableFunc(a.h.patterns, func(x, y *Route) int {
		return cmp.Or(len(y.Path)-len(x.Path), strings.Compare(y.Path, x.Path))
	})
}

// canary puts an alternative beside the route of the same host and path.
func (a *assembler) canary(e *entry, c located) {
	replace := func(r *Route) *Route {
		switch {
		case r.Canary != nil:
			a.find(e.ing.Name, Error, "%s: host %q path %q has the canary of the older ingress %s already", c.where, c.Host, c.Path, r.Canary.Ingress)
			return r
		case c.Refused != "":
			return r // told already; the route that it stands beside is not touched
		}
		own := *r
		own.Canary = &Alternative{e.ing.Name, e.policy.Canary, c.Backend, e.policy}
		return &own
	}
	key := prefixKey(c.decoded)
	if c.Type == model.PathExact {
		if r := a.h.exact[c.decoded]; r != nil {
			a.h.exact[c.decoded] = replace(r)
			return
		}
	} else if r := a.h.prefix[key]; r != nil {
		a.h.prefix[key] = replace(r)
		return
	}
	for _, list := range [][]*Route{a.h.texts, a.h.patterns} {
		for i, r := range list {
			if r.Path == c.Path {
				list[i] = replace(r)
				return
			}
		}
	}
	a.find(e.ing.Name, Error, "%s: a canary stands beside an Ingress with the same host and path, but none has host %q path %q (%s)", c.where, c.Host, c.Path, c.Type)
}
