package proxy

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"fairway.dev/fairway/internal/ingress/compile"
	"fairway.dev/fairway/internal/ingress/policy"
)

// passage is one request on its way: its route, what that asks for, and what has been decided so far. It belongs to the request's goroutine
// until the answer begins, and is only read from then on.
type passage struct {
	origin
	routing *routing // the one that has the route; indexes of backends are its
	route   *compile.Route
	policy  *policy.Policy // never nil
	// host and path are canonical.
	host, path string
	limits     limits

	// uri is the request target for the endpoint and authority its Host header; "" is as received.
	uri, authority string
	// set replaces headers towards the endpoint; an empty list takes one out.
	set http.Header
	// release gives back what limits have counted; nil if they have not.
	release func()
	// replacedCode is that of an endpoint's answer in whose place another Service answers.
	replacedCode int
	// cookies of an authentication are added to the answer.
	cookies []string
}

// limits are the bounds in force for one request: those of its route, else those of the listener.
type limits struct {
	dial, response time.Duration
	read, send     time.Duration // each pause of an answer, and of a request towards the endpoint
	body           int64         // 0: none
}

var nothingAsked = &policy.Policy{}

// begin makes the passage of a request that has found its route.
func (s *Server) begin(r *http.Request, rt *routing, route *compile.Route, host, path string) *passage {
	p := &passage{origin: s.originOf(r), routing: rt, route: route, policy: route.Policy, host: host, path: path}
	p.limits = limits{s.cfg.DialTimeout, s.cfg.ResponseTimeout, s.cfg.StreamTimeout, s.cfg.StreamTimeout, s.cfg.MaxBodyBytes}
	if p.policy == nil {
		p.policy = nothingAsked
		return p
	}
	o, l := p.policy, &p.limits
	if o.Connect > 0 {
		l.dial = o.Connect
	}
	if o.Send > 0 {
		l.send = o.Send
	}
	if o.Read > 0 {
		l.response, l.read = o.Read, o.Read
	}
	if o.MaxBody > 0 {
		l.body = o.MaxBody
	} else if o.MaxBody < 0 {
		l.body = 0
	}
	return p
}

// admit does what the route asks for before an endpoint is chosen. false means that the request has been answered.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, p *passage) bool {
	o := p.policy
	if m, ok := w.(*meter); ok {
		m.quiet = o.Unlogged
	}
	known := p.admitsClient()
	if !known && !o.SatisfyAny {
		p.refuse(w, r, http.StatusForbidden, "this client may not come in")
		return false
	}
	if s.redirect(w, r, p) || s.preflight(w, r, p) || s.toHTTPS(w, r, p) {
		return false
	}
	if !s.withinLimits(w, r, p) {
		return false
	}
	if !(known && o.SatisfyAny && restrictsClients(o)) && !s.authenticate(w, r, p) {
		return false
	}
	return p.rewrite(w, r)
}

// rewrite decides what the endpoint is told.
func (p *passage) rewrite(w http.ResponseWriter, r *http.Request) bool {
	o := p.policy
	if o.Host != nil {
		p.authority = o.Host.Expand(p.variables(r))
		if _, ok := compile.CanonicalHost(p.authority); !ok || p.authority == "" {
			p.refuse(w, r, http.StatusBadRequest, "the host for the endpoint would be none")
			return false
		}
	}
	if o.Rewrite == nil {
		return true
	}
	path, query, hasQuery := strings.Cut(p.route.Rewritten(p.path), "?")
	u := url.URL{Path: path, RawQuery: query}
	if _, err := compile.CanonicalPath(&u); err != nil {
		p.refuse(w, r, http.StatusBadRequest, "rewritten: "+err.Error())
		return false
	}
	if r.URL.RawQuery != "" {
		if hasQuery {
			u.RawQuery += "&"
		}
		u.RawQuery += r.URL.RawQuery
	}
	if strings.ContainsAny(u.RawQuery, " \r\n\t") {
		p.refuse(w, r, http.StatusBadRequest, "rewritten: the query has a space")
		return false
	}
	p.uri = u.RequestURI()
	if strings.HasPrefix(path, "//") { // url.URL takes care that such a path is not taken for a host
		p.uri = u.EscapedPath()
		if u.RawQuery != "" {
			p.uri += "?" + u.RawQuery
		}
	}
	if o.ForwardedPrefix != "" {
		p.replace("X-Forwarded-Prefix", o.ForwardedPrefix)
	}
	return true
}

// replace sets a header towards the endpoint; without values it is taken out.
func (p *passage) replace(key string, values ...string) {
	if p.set == nil {
		p.set = http.Header{}
	}
	p.set[key] = values
}

// replaced tells whether the client's header of that name is not for the endpoint.
func (p *passage) replaced(key string) bool {
	if p.set == nil {
		return false
	}
	_, ok := p.set[key]
	return ok
}

// variables gives the variables of a Text for the request.
func (p *passage) variables(r *http.Request) func(policy.Variable, string) string {
	return func(v policy.Variable, name string) string {
		switch v {
		case policy.VarHost:
			return p.host
		case policy.VarScheme, policy.VarRequestScheme:
			return p.scheme()
		case policy.VarURI:
			return p.path
		case policy.VarRequestURI:
			return target(r)
		case policy.VarEscapedURI:
			return url.QueryEscape(target(r))
		case policy.VarMethod:
			return r.Method
		case policy.VarClient:
			return p.client.String()
		case policy.VarArgs:
			return r.URL.RawQuery
		case policy.VarHeader:
			return r.Header.Get(name)
		case policy.VarCookie:
			if c, err := r.Cookie(name); err == nil {
				return c.Value
			}
		case policy.VarParameter:
			return r.URL.Query().Get(name)
		case policy.VarServerName:
			return p.route.Host
		}
		return ""
	}
}

// scheme is the one that the client used, as far as it is known.
func (p *passage) scheme() string {
	if p.secure {
		return "https"
	}
	return "http"
}

// decorate adds to an answer's header what the route asks for. It is done for answers of endpoints and of the proxy alike.
func (p *passage) decorate(h http.Header, r *http.Request) {
	o := p.policy
	if o == nothingAsked {
		return
	}
	if o.HSTS != "" && p.secure {
		h["Strict-Transport-Security"] = []string{o.HSTS}
	}
	if o.CORS != nil {
		cors(h, r, o.CORS)
	}
	for _, x := range o.ResponseHeaders {
		h[x.Name] = []string{x.Value}
	}
	if len(p.cookies) > 0 {
		h["Set-Cookie"] = append(h["Set-Cookie"][:len(h["Set-Cookie"]):len(h["Set-Cookie"])], p.cookies...)
	}
}

// refuse answers a request that goes nowhere, with what its route adds to every answer.
func (p *passage) refuse(w http.ResponseWriter, r *http.Request, code int, why string) {
	clear(w.Header())
	p.decorate(w.Header(), r)
	writeRefusal(w, r, code, why)
}
