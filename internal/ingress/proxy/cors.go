package proxy

import (
	"net/http"
	"strconv"
	"strings"

	"fairway.dev/fairway/internal/ingress/policy"
)

// preflight answers a browser's question whether another origin may ask (Fetch, section 4.8). It comes without credentials, so it is answered
// before these are looked at.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request, p *passage) (done bool) {
	if p.policy.CORS == nil || r.Method != http.MethodOptions {
		return false
	}
	clear(w.Header())
	h := w.Header()
	p.decorate(h, r)
	h["Server"] = []string{serverName}
	h["Content-Type"] = []string{"text/plain charset=UTF-8"}
	h["Content-Length"] = []string{"0"}
	w.WriteHeader(http.StatusNoContent)
	return true
}

// cors replaces an answer's headers about other origins.
func cors(h http.Header, r *http.Request, c *policy.CORS) {
	origin := ""
	if v := r.Header["Origin"]; len(v) == 1 {
		origin = v[0]
	}
	for _, key := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Allow-Methods",
		"Access-Control-Allow-Headers", "Access-Control-Max-Age", "Access-Control-Expose-Headers"} {
		delete(h, key)
	}
	vary := false
	switch {
	case c.Any && !c.Credentials:
		h["Access-Control-Allow-Origin"] = []string{"*"}
	case c.Any && origin == "":
		h["Access-Control-Allow-Origin"] = []string{"*"}
		vary = true
	case c.Any || admitsOrigin(c.Origins, origin):
		h["Access-Control-Allow-Origin"] = []string{origin}
		vary = true
	default:
		addVary(h)
		return
	}
	if vary {
		addVary(h)
	}
	if c.Credentials && origin != "" {
		h["Access-Control-Allow-Credentials"] = []string{"true"}
	}
	h["Access-Control-Allow-Methods"] = []string{c.Methods}
	h["Access-Control-Allow-Headers"] = []string{c.Headers}
	if c.Expose != "" {
		h["Access-Control-Expose-Headers"] = []string{c.Expose}
	}
	if r.Method == http.MethodOptions {
		h["Access-Control-Max-Age"] = []string{strconv.Itoa(c.MaxAge)}
	}
}

// addVary tells caches that the answer is for one origin.
func addVary(h http.Header) {
	if !hasToken(h["Vary"], "origin") {
		h["Vary"] = append(h["Vary"][:len(h["Vary"]):len(h["Vary"])], "Origin")
	}
}

// admitsOrigin compares an origin with names, of which one may have "*." for labels.
func admitsOrigin(names []string, origin string) bool {
	if origin == "" {
		return false
	}
	origin = strings.ToLower(origin)
	for _, n := range names {
		if n == origin {
			return true
		}
		scheme, host, _ := strings.Cut(n, "://")
		rest, wild := strings.CutPrefix(host, "*")
		if !wild {
			continue
		}
		name, ok := strings.CutPrefix(origin, scheme+"://")
		if !ok || !strings.HasSuffix(name, rest) {
			continue
		}
		if label := name[:len(name)-len(rest)]; label != "" && !strings.ContainsAny(label, "/@:?#\\") {
			return true
		}
	}
	return false
}
