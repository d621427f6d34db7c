package compile

import (
	"strings"

	"fairway.dev/fairway/internal/model"
)

// Table says where a request goes. It is immutable.
type Table struct {
	// Backends are the distinct Service ports that routes lead to; Route.Backend is an index into it.
	Backends []Backend
	// Findings are about the Ingresses themselves, ordered by Ingress. Those about Services are in what Resolve gives, since
	// Services change far more often.
	Findings []Finding

	exact, wild map[string]*host // by name; wild without the "*."
	every       *host            // the rules without a host, or nil
	fallback    *Route           // the default backend of the table, or nil
	certs       certificates
	ingresses   int
}

// Backend is one Service port and who uses it.
type Backend struct {
	Ref Ref
	// Ingresses that lead to it, in the order of age; no duplicates.
	Ingresses []model.Name
}

// Ref names a Service port as an Ingress does. Exactly one of PortName and PortNumber is set.
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
	// Backend is an index into Table.Backends, or -1 when Refused is set.
	Backend int
	// Refused says why the rule cannot be served. Its requests must be answered with 503 and go nowhere else.
	Refused string
}

// host is what one host's rules say.
type host struct {
	exact    map[string]*Route // by decoded path
	prefix   map[string]*Route // by prefixKey
	depth    int               // the most elements of any prefix
	fallback *Route            // the default backend for what no path matches, or nil
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

// Find gives the route for a host from CanonicalHost and a path from CanonicalPath. It allocates nothing.
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
func (t *Table) Ingresses() int { return t.ingresses }
