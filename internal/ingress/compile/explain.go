package compile

import (
	"fmt"
	"net/url"
)

// Explanation says what would become of a request, and which rule decides.
type Explanation struct {
	// Host and Path are canonical, as the rules saw them; empty when refused.
	Host, Path string
	// Refused says why the request would be answered with 400, or "".
	Refused string
	// Route is nil when there is none; Miss says why.
	Route *Route
	Miss  Miss
	// Backend is where the route leads; nil when there is no route or the route is refused.
	Backend *Ref
	// Certificate is what an HTTPS client that sends the host as its server name gets; nil means the listener's own, or
	// that the scheme is http.
	Certificate *Certificate
}

// Explain traces one request. scheme is "http" or "https"; host may carry a port; path is as in a request line, escaped and
// with a query if one likes.
func (t *Table) Explain(scheme, host, path string) Explanation {
	var e Explanation
	name, ok := CanonicalHost(host)
	if !ok {
		e.Refused = fmt.Sprintf("%q is not a host", host)
		return e
	}
	u, err := url.ParseRequestURI(path)
	if err != nil {
		e.Refused = fmt.Sprintf("%q is not a path: %v", path, err)
		return e
	}
	p, err := CanonicalPath(u)
	if err != nil {
		e.Refused = err.Error()
		return e
	}
	e.Host, e.Path = name, p
	if scheme == "https" {
		e.Certificate = t.Certificate(name)
	}
	if e.Route, e.Miss = t.Find(name, p); e.Route != nil && e.Route.Backend >= 0 {
		e.Backend = &t.Backends[e.Route.Backend].Ref
	}
	return e
}
