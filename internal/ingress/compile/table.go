package compile

import (
	"regexp"
	"strings"

	"fairway.dev/fairway/internal/ingress/policy"
	"fairway.dev/fairway/internal/model"
)

// Table says where a request goes. It is immutable.
type Table struct {
	// Backends are the Service ports that routes lead to; Route.Backend is an index into it. The index of a Ref stays the same from one table
	// to the next as long as a route leads to it. An entry with a zero Ref is free.
	Backends []Backend
	// Findings are about the Ingresses themselves, ordered by Ingress. Those about Services are in what Resolve gives, since
	// Services change far more often.
	Findings []Finding

	exact, wild map[string]*host // by name; wild without the "*."
	every       *host            // the rules without a host, or nil
	fallback    *Route           // the default backend of the table, or nil
	certs       certificates

	build state // what the next Build starts from
}

// Backend is one Service port and who uses it.
type Backend struct {
	Ref Ref
	// Ingresses that lead to it, in the order of age; no duplicates.
	Ingresses []model.Name
}

// Ref names a Service port as an Ingress does: by name or by number; by neither it is the first one.
type Ref struct {
	Service    model.Name
	PortName   string
	PortNumber uint16
}

// Route is where one rule leads.
type Route struct {
	Ingress model.Name
	// Host is the rule's: "" for every host, or a name, or "*." and a name.
	Host string
	// Path is the rule's own spelling; "" for a default backend.
	Path string
	// Type is "" for a default backend.
	Type model.PathType
	// Backend is an index into Table.Backends, or -1 when Refused is set or there is a redirect instead.
	Backend int
	// Refused says why the rule cannot be served. Its requests must be answered with 503 and go nowhere else.
	Refused string
	// Policy is what the Ingress asks for; nil asks for nothing.
	Policy *policy.Policy
	// Aux are the further backends that Policy names, or nil.
	Aux *Aux
	// Canary is the alternative that another Ingress offers, or nil.
	Canary *Alternative
	// WWW is the host that every request is redirected to, or "".
	WWW string

	decoded string         // Path, decoded
	pattern *regexp.Regexp // what a path must match, where paths are expressions
	nginx   bool           // its class compares paths as ingress-nginx does
}

// Aux has indexes into Table.Backends; -1 is none.
type Aux struct {
	// Auth is whom Policy.External asks, if its host is a Service.
	Auth int
	// Errors is Policy.ErrorService.
	Errors int
	// Mirror is where Policy.Mirror sends copies, if its host is a Service.
	Mirror int
}

// Alternative is where a canary leads.
type Alternative struct {
	Ingress model.Name
	When    *policy.Canary
	// Backend is an index into Table.Backends.
	Backend int
	// Policy is the canary's own; only how it chooses an endpoint has an effect.
	Policy *policy.Policy
}

// host is what one host's rules say.
type host struct {
	exact    map[string]*Route // by decoded path
	prefix   map[string]*Route // by prefixKey
	depth    int               // the most elements of any prefix
	texts    []*Route          // prefixes of the text, the longest first
	patterns []*Route          // expressions, in the order in which they are tried
	fallback *Route            // the default backend for what no path matches, or nil

	findings []Finding
}

// Miss says why no route was found.
type Miss uint8

const (
	// Found: there is a route.
	Found Miss = iota
	// NoHost: no rule is for the host and there is no default backend.
	NoHost
	// NoPath: the host has rules, none is for the path, and there is no default backend.
	NoPath
)

// Find gives the route for a host from CanonicalHost and a path from CanonicalPath. It allocates nothing, unless paths are expressions.
func (t *Table) Find(name, path string) (*Route, Miss) {
	h := t.host(name)
	if h == nil {
		if t.fallback != nil {
			return t.fallback, Found
		}
		return nil, NoHost
	}
	if r := h.find(path); r != nil {
		return r, Found
	}
	if h.fallback != nil {
		return h.fallback, Found
	}
	if t.fallback != nil {
		return t.fallback, Found
	}
	return nil, NoPath
}

// host picks the rules: the exact name, then the wildcard of the parent domain, which stands for one label, then those
// for every host.
func (t *Table) host(name string) *host {
	if h := t.exact[name]; h != nil {
		return h
	}
	if len(t.wild) > 0 {
		if i := strings.IndexByte(name, '.'); i > 0 {
			if h := t.wild[name[i+1:]]; h != nil {
				return h
			}
		}
	}
	return t.every
}

// find walks the path from the front and remembers the longest prefix, so that its cost is bounded by the deepest rule, not by the length
// of what a client sends.
func (h *host) find(path string) *Route {
	if r := h.exact[path]; r != nil {
		return r
	}
	best := h.longest(path)
	for _, r := range h.texts {
		if best != nil && len(r.decoded) <= len(best.decoded) {
			break
		}
		if strings.HasPrefix(path, r.decoded) {
			return r
		}
	}
	if best != nil {
		return best
	}
	for _, r := range h.patterns {
		if r.pattern.MatchString(path) {
			return r
		}
	}
	return nil
}

func (h *host) longest(path string) *Route {
	if len(h.prefix) == 0 {
		return nil
	}
	best := h.prefix[""]
	for i, depth := 1, 1; depth <= h.depth && i < len(path); depth++ {
		if j := strings.IndexByte(path[i:], '/'); j >= 0 {
			i += j
		} else {
			i = len(path)
		}
		if r := h.prefix[path[:i]]; r != nil {
			best = r
		}
		i++
	}
	return best
}

// Ingresses is the number of Ingresses that are ours, served or not.
func (t *Table) Ingresses() int { return len(t.build.entries) }

// Rewritten gives the path, with a query if there is one, that Policy.Rewrite makes of a canonical path.
func (r *Route) Rewritten(path string) string {
	w := r.Policy.Rewrite
	var groups []string
	if w.Captures > 0 && r.pattern != nil {
		groups = r.pattern.FindStringSubmatch(path)
	}
	var b strings.Builder
	for _, p := range w.Parts {
		if p.Capture < 0 {
			b.WriteString(p.Text)
		} else if p.Capture < len(groups) {
			b.WriteString(groups[p.Capture])
		}
	}
	return b.String()
}
