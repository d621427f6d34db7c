package compile

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/ingress/policy"
	"fairway.dev/fairway/internal/model"
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
	// Candidates are the rules that were looked at, in the order of precedence: those of the host, then those that would have been for it. Others
	// counts the rules for other hosts.
	Candidates []Candidate
	Others     int
	// Steps are what the route's Ingress asks for on the way, in the order in which it is done.
	Steps []string
}

// Candidate is one rule and how far it came.
type Candidate struct {
	Ingress model.Name
	Host    string
	Path    string
	Type    model.PathType
	Taken   bool
	// Failed is the first thing that did not fit: "host", "path", "precedence" or "class"; Why says it in words. Both are "" when it was taken.
	Failed, Why string
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
	t.candidates(&e)
	if e.Route != nil {
		e.Steps = t.steps(e.Route, scheme, name, p)
	}
	return e
}

// candidates goes through the rules whose host fits, and says what each lacked.
func (t *Table) candidates(e *Explanation) {
	chosen := t.host(e.Host)
	levels := []string{e.Host}
	if i := strings.IndexByte(e.Host, '.'); i > 0 {
		levels = append(levels, "*"+e.Host[i:])
	}
	levels = append(levels, "")
	seen := 0
	for _, name := range levels {
		h := t.lookup(name)
		var here []Candidate
		for _, en := range t.build.hosts[name] {
			for _, hr := range en.hosts {
				if hr.host != name {
					continue
				}
				for _, r := range hr.paths {
					seen++
					here = append(here, t.candidate(e, r.Route, h, h == chosen))
				}
			}
		}
		slices.SortStableFunc(here, func(a, b Candidate) int {
			return cmp.Or(rank(a)-rank(b), len(b.Path)-len(a.Path), strings.Compare(string(a.Type), string(b.Type)))
		})
		e.Candidates = append(e.Candidates, here...)
	}
	for _, en := range t.build.entries {
		for _, hr := range en.hosts {
			e.Others += len(hr.paths)
		}
	}
	e.Others -= seen
}

// rank puts the taken rule first, then those that fit but for their precedence.
func rank(c Candidate) int {
	switch {
	case c.Taken:
		return 0
	case c.Failed == "precedence":
		return 1
	}
	return 2
}

func (t *Table) lookup(name string) *host {
	if name == "" {
		return t.every
	}
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		return t.wild[rest]
	}
	return t.exact[name]
}

func (t *Table) candidate(e *Explanation, r *Route, h *host, mine bool) Candidate {
	c := Candidate{Ingress: r.Ingress, Host: r.Host, Path: r.Path, Type: r.Type}
	same := func(x *Route) bool {
		return x.Ingress == r.Ingress && x.Path == r.Path && x.Type == r.Type && x.Host == r.Host
	}
	switch {
	case !mine:
		c.Failed, c.Why = "host", "a more exact host has rules, and hosts do not fall through"
	case e.Route != nil && same(e.Route):
		c.Taken = true
	case r.Policy != nil && r.Policy.Canary != nil:
		c.Failed, c.Why = "precedence", "a canary: it takes its share beside the rule that is taken"
	case !h.fits(r, e.Path):
		c.Failed, c.Why = "path", misfit(h, r, e.Path)
	case e.Route != nil && e.Route.Type == model.PathExact && r.Type != model.PathExact:
		c.Failed, c.Why = "precedence", "an Exact path comes before others"
	case e.Route != nil && len(e.Route.decoded) > len(r.decoded):
		c.Failed, c.Why = "precedence", "a longer path matches as well"
	default:
		c.Failed, c.Why = "precedence", "an older Ingress has the same path"
	}
	return c
}

// fits tells whether a path matches a rule by itself.
func (h *host) fits(r *Route, path string) bool {
	for _, p := range h.patterns {
		if p.Ingress == r.Ingress && p.Path == r.Path {
			return p.pattern.MatchString(path)
		}
	}
	switch {
	case r.Type == model.PathExact:
		return path == r.decoded
	case r.nginx && r.Type == model.PathImplementationSpecific:
		return strings.HasPrefix(path, r.decoded)
	}
	key := prefixKey(r.decoded)
	return strings.HasPrefix(path, key) && (len(path) == len(key) || path[len(key)] == '/')
}

func misfit(h *host, r *Route, path string) string {
	key := prefixKey(r.decoded)
	switch {
	case len(h.patterns) > 0 && r.nginx:
		return fmt.Sprintf("%q does not match the expression ^%s", path, r.Path)
	case r.Type == model.PathExact && path == r.decoded+"/":
		return "Exact: the path has a slash at its end and the rule has none"
	case r.Type == model.PathExact:
		return fmt.Sprintf("Exact: %q is another path", path)
	case strings.HasPrefix(path, key):
		return "Prefix: it goes by whole elements, and the last one is only a part"
	case strings.EqualFold(path[:min(len(path), len(key))], key):
		return "Prefix: upper and lower case differ"
	}
	return fmt.Sprintf("%s: %q does not begin so", r.Type, path)
}

// steps says what happens to a request on its way to the endpoint.
func (t *Table) steps(r *Route, scheme, name, path string) (out []string) {
	add := func(yes bool, format string, args ...any) {
		if yes {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	p := r.Policy
	if r.Refused != "" || p == nil {
		return nil
	}
	add(p.Allow != nil, "admit clients of %v alone", p.Allow)
	add(p.Deny != nil, "refuse clients of %v", p.Deny)
	add(r.WWW != "", "redirect (308) to %s", r.WWW)
	add(p.AppRoot != "" && path == "/", "redirect (302) to %s", p.AppRoot)
	add(p.Redirect != nil, "redirect everything")
	add(p.CORS != nil, "answer preflight requests")
	add(scheme == "http" && !r.Acme() && (p.ToHTTPS == policy.Always || p.ToHTTPS == policy.WithCertificate && t.Secure(name)), "redirect (308) to https")
	add(p.Limit != nil, "hold each client to its limits")
	add(p.Basic != nil, "ask for name and password (%d users)", len(usersOf(p)))
	add(p.External != nil && !r.Acme(), "ask %s whether the request may pass", hostOf(p))
	add(p.MaxBody > 0, "accept bodies of up to %d bytes", p.MaxBody)
	if p.Rewrite != nil {
		out = append(out, fmt.Sprintf("rewrite the path to %q", r.Rewritten(path)))
	}
	add(p.Host != nil, "replace the Host header")
	if c := r.Canary; c != nil {
		out = append(out, fmt.Sprintf("maybe take the canary of ingress %s, service %s (%d of %d by weight)",
			c.Ingress, t.Backends[c.Backend].Ref.Service, c.When.Weight, c.When.Total))
	}
	return out
}

func usersOf(p *policy.Policy) map[string]string {
	if p.Basic == nil {
		return nil
	}
	return p.Basic.Users
}

func hostOf(p *policy.Policy) string {
	if p.External == nil {
		return ""
	}
	return p.External.Host
}
