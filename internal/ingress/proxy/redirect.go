package proxy

import (
	"net/http"
	"strconv"
	"strings"

	"fairway.dev/fairway/internal/ingress/policy"
)

// redirect answers requests that are told to go elsewhere whatever they ask for.
func (s *Server) redirect(w http.ResponseWriter, r *http.Request, p *passage) (done bool) {
	o := p.policy
	switch {
	case p.route.WWW != "":
		p.sendTo(w, r, http.StatusPermanentRedirect, p.scheme()+"://"+p.route.WWW+p.port(r)+target(r))
	case o.AppRoot != "" && p.path == "/":
		p.sendTo(w, r, http.StatusFound, p.scheme()+"://"+p.host+p.port(r)+o.AppRoot)
	case o.Redirect != nil:
		p.sendTo(w, r, o.Redirect.Code, o.Redirect.Target.Expand(p.variables(r)))
	default:
		return false
	}
	return true
}

// toHTTPS sends plain HTTP to the same place over TLS.
func (s *Server) toHTTPS(w http.ResponseWriter, r *http.Request, p *passage) (done bool) {
	o := p.policy
	if o.ToHTTPS == policy.Never || p.secure || p.route.Acme() || p.host == "" ||
		o.ToHTTPS == policy.WithCertificate && !s.routing.Load().table.Secure(p.host) {
		return false
	}
	uri := target(r)
	if !o.KeepSlash {
		path, query, has := strings.Cut(uri, "?")
		if len(path) > 1 && strings.HasSuffix(path, "/") {
			path = path[:len(path)-1]
		}
		if uri = path; has {
			uri += "?" + query
		}
	}
	p.sendTo(w, r, http.StatusPermanentRedirect, "https://"+p.host+s.securePort()+uri)
	return true
}

// securePort is the port of the TLS listener as it stands in a URL: nothing for 443, and for any other, where there is just one, that.
func (s *Server) securePort() string {
	_, secure := s.Addrs()
	if len(s.cfg.HTTPS) == 0 || s.cfg.HTTPS[0].Port() == 0 || len(secure) == 0 || secure[0].Port() == 443 {
		return ""
	}
	return ":" + strconv.Itoa(int(secure[0].Port()))
}

// port is what the client wrote behind the host, so that a redirect to the same listener keeps it.
func (p *passage) port(r *http.Request) string {
	if i := strings.LastIndexByte(r.Host, ':'); i >= 0 && !strings.HasSuffix(r.Host, "]") && i+1 < len(r.Host) {
		return r.Host[i:]
	}
	return ""
}

// sendTo answers a redirect. A target that could be read as more than one header, or another host, has been refused when the policy was read;
// what a variable adds is held to one line here.
func (p *passage) sendTo(w http.ResponseWriter, r *http.Request, code int, to string) {
	for i := range len(to) {
		if to[i] <= ' ' || to[i] == 0x7f || to[i] == '\\' {
			p.refuse(w, r, http.StatusBadRequest, "the redirect would have a space or control character")
			return
		}
	}
	clear(w.Header())
	h := w.Header()
	p.decorate(h, r)
	h["Location"] = []string{to}
	h["Server"] = []string{serverName}
	h["Content-Type"] = nil
	h["Content-Length"] = []string{"0"}
	w.WriteHeader(code)
}
