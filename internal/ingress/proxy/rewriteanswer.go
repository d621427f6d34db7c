package proxy

import (
	"net/http"
	"strings"

	"fairway.dev/fairway/internal/ingress/policy"
)

// answer changes an endpoint's answer as the route asks for.
func (p *passage) answer(h http.Header, r *http.Request) {
	o := p.policy
	if o == nothingAsked {
		return
	}
	if v := h["Location"]; o.Location != nil && len(v) == 1 {
		if rest, ok := strings.CutPrefix(v[0], o.Location.From); ok {
			h["Location"] = []string{o.Location.To + rest}
		}
	}
	if old := h["Set-Cookie"]; (o.CookieDomain != nil || o.CookiePath != nil) && len(old) > 0 {
		cookies := make([]string, len(old))
		for i, c := range old {
			cookies[i] = rewriteCookie(c, o.CookieDomain, o.CookiePath)
		}
		h["Set-Cookie"] = cookies
	}
	p.decorate(h, r)
}

// rewriteCookie replaces the domain of a cookie if it is all of what is replaced, and its path where that begins so.
func rewriteCookie(cookie string, domain, path *policy.Replace) string {
	parts := strings.Split(cookie, ";")
	for i, part := range parts[1:] {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			continue
		}
		switch name := strings.ToLower(strings.TrimSpace(key)); {
		case name == "domain" && domain != nil && strings.EqualFold(strings.TrimPrefix(strings.TrimSpace(value), "."), strings.TrimPrefix(domain.From, ".")):
			parts[i+1] = key + "=" + domain.To
		case name == "path" && path != nil:
			if rest, ok := strings.CutPrefix(strings.TrimSpace(value), path.From); ok {
				parts[i+1] = key + "=" + path.To + rest
			}
		}
	}
	return strings.Join(parts, ";")
}
