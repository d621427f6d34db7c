package proxy

import (
	"math/rand/v2"
	"net/http"

	"fairway.dev/fairway/internal/ingress/policy"
)

// backend gives where the request goes: the rule's own Service, or that of its canary.
func (p *passage) backend(r *http.Request) *backend {
	if c := p.route.Canary; c != nil && takesCanary(r, c.When) {
		if b := p.routing.backends[c.Backend]; len(b.set.Load().endpoints) > 0 {
			return b
		}
	}
	return p.routing.backends[p.route.Backend]
}

// takesCanary asks the header, then the cookie, then the dice; the first that has an opinion decides.
func takesCanary(r *http.Request, c *policy.Canary) bool {
	if c.Header != "" {
		values := r.Header[c.Header]
		for _, v := range values {
			switch {
			case c.Value != "":
				if v == c.Value {
					return true
				}
			case c.Pattern != nil:
				if c.Pattern.MatchString(v) {
					return true
				}
			case v == "always":
				return true
			case v == "never":
				return false
			}
		}
	}
	if c.Cookie != "" {
		if k, err := r.Cookie(c.Cookie); err == nil {
			switch k.Value {
			case "always":
				return true
			case "never":
				return false
			}
		}
	}
	return c.Weight > 0 && rand.IntN(c.Total) < c.Weight
}

// errorBackend gives the Service that stands in for one without endpoints, or nil.
func (p *passage) errorBackend(instead *backend) *backend {
	a := p.route.Aux
	if a == nil || a.Errors < 0 {
		return nil
	}
	b := p.routing.backends[a.Errors]
	if b == instead || len(b.set.Load().endpoints) == 0 {
		return nil
	}
	return b
}
