package policy

import (
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/model"
)

// maxUsers bounds the users of one Secret.
const maxUsers = 10_000

func (r *reader) basic() {
	kind := r.get("auth-type")
	secret, named := r.object("auth-secret")
	form := r.oneOf("auth-secret-type", "auth-file", "auth-file", "auth-map")
	realm := r.line("auth-realm", "Authentication Required")
	if strings.ContainsAny(realm, `"\`) {
		r.bad("auth-realm", errors.New("a realm has no quotes and backslashes"))
		realm = "Authentication Required"
	}
	switch {
	case kind == "":
		return
	case kind == "digest":
		r.bad("auth-type", errors.New("digest is not done: use basic over TLS"))
		return
	case kind != "basic":
		r.bad("auth-type", errors.New("write basic"))
		return
	case !named:
		r.bad("auth-type", errors.New("annotation auth-secret must name the Secret with the users"))
		return
	}
	users, err := r.users(secret, form)
	r.bad("auth-secret", err)
	r.out.Basic = &BasicAuth{Realm: realm, Users: users}
}

func (r *reader) users(name model.Name, form string) (map[string]string, error) {
	s := r.in.Secret(name)
	if s == nil {
		return nil, fmt.Errorf("there is no Secret %s", name)
	}
	out := map[string]string{}
	if form == "auth-map" {
		for user, hash := range s.Data {
			out[user] = strings.TrimSpace(string(hash))
		}
	} else {
		file, ok := s.Data["auth"]
		if !ok {
			return nil, fmt.Errorf(`secret %s has no key "auth", which holds lines USER:HASH as htpasswd writes them`, name)
		}
		for line := range strings.Lines(string(file)) {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			user, hash, ok := strings.Cut(line, ":")
			if !ok || user == "" || hash == "" {
				return nil, fmt.Errorf(`secret %s, key "auth": a line is not USER:HASH`, name)
			}
			hash, _, _ = strings.Cut(hash, ":")
			if _, twice := out[user]; !twice {
				out[user] = hash
			}
		}
	}
	for user, hash := range out {
		if HashOf(hash) == Unknown {
			return nil, fmt.Errorf("secret %s: the password of user %q is stored in a format that is not known: make it with htpasswd -B", name, user)
		}
	}
	if len(out) > maxUsers {
		return nil, fmt.Errorf("secret %s has more than %d users", name, maxUsers)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("secret %s has no users", name)
	}
	return out, nil
}

func (r *reader) configMap(annotation, name string) *model.ConfigMap {
	n := model.Name{Namespace: r.in.Namespace, Name: name}
	m := r.in.ConfigMap(n)
	if m == nil {
		r.bad(annotation, fmt.Errorf("there is no ConfigMap %s", n))
	}
	return m
}

func (r *reader) external() {
	e := ExternalAuth{RedirectParam: "rd", AlwaysSetCookie: r.flag("auth-always-set-cookie", false)}
	if v := r.get("auth-url"); v != "" {
		host, t, err := outward(v)
		r.bad("auth-url", err)
		if err == nil {
			r.bad("auth-url", r.reachable(host))
		}
		e.URL, e.Host = t, host
	}
	if v := r.get("auth-signin"); v != "" {
		t, err := parseTarget(v)
		r.bad("auth-signin", err)
		e.SignIn = &t
	}
	if v := r.get("auth-signin-redirect-param"); v != "" {
		p, err := parseToken(v)
		if strings.ContainsAny(v, "&%#+") {
			err = errors.New("it is not the name of a query parameter")
		}
		r.bad("auth-signin-redirect-param", err)
		e.RedirectParam = p
	}
	if v := r.get("auth-method"); v != "" {
		m, err := parseToken(v)
		if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, m) {
			err = errors.New("it is not a method")
		}
		r.bad("auth-method", err)
		e.Method = m
	}
	if v := r.get("auth-response-headers"); v != "" {
		names, err := parseTokens(v)
		r.bad("auth-response-headers", err)
		for _, n := range names {
			e.ResponseHeaders = append(e.ResponseHeaders, textproto.CanonicalMIMEHeaderKey(n))
		}
	}
	e.RequestRedirect = r.text("auth-request-redirect")
	if n, ok := r.object("auth-proxy-set-headers"); ok {
		if m := r.configMap("auth-proxy-set-headers", n.Name); m != nil {
			for _, k := range slices.Sorted(maps.Keys(m.Data)) {
				_, err := parseToken(k)
				r.bad("auth-proxy-set-headers", errors.Join(err, printable(m.Data[k])))
				e.Headers = append(e.Headers, Header{textproto.CanonicalMIMEHeaderKey(k), m.Data[k]})
			}
		}
	}
	for _, inert := range []string{"auth-cache-key", "auth-cache-duration", "auth-keepalive", "auth-keepalive-requests", "auth-keepalive-timeout",
		"auth-keepalive-share-vars", "enable-global-auth"} {
		r.get(inert)
	}
	if r.get("auth-url") != "" {
		r.out.External = &e
	}
}

// outward reads a URL that the proxy itself is to ask, and gives its host without the port.
func outward(s string) (host string, t Text, err error) {
	if t, err = parseTarget(s); err != nil {
		return "", t, err
	}
	_, rest, _ := strings.Cut(s, "://")
	authority, _, _ := strings.Cut(rest, "/")
	authority, _, _ = strings.Cut(authority, "?")
	if authority == "$host" || authority == "$http_host" || authority == "${host}" {
		return "$host", t, nil
	}
	if strings.Contains(authority, "$") {
		return "", t, errors.New("its host may be $host or a constant, since a variable could lead anywhere")
	}
	if authority, err = parseHost(authority); err != nil {
		return "", t, err
	}
	host = authority
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.TrimSuffix(host, "."), t, nil
}

// ServiceOf reads the host of a URL as the DNS name of a Service in the cluster: NAME.NAMESPACE.svc, maybe with a domain.
func ServiceOf(host string) (model.Name, bool) {
	f := strings.SplitN(host, ".", 4)
	if len(f) < 3 || f[2] != "svc" {
		return model.Name{}, false
	}
	return model.Name{Namespace: f[1], Name: f[0]}, true
}

// reachable says why the proxy may not ask a host, or nil: an Ingress must not send it where its author cannot go himself.
func (r *reader) reachable(host string) error {
	if host == "$host" {
		return nil
	}
	if svc, ok := ServiceOf(host); ok && svc.Namespace == r.in.Namespace {
		return nil
	}
	if r.in.Class.Outbound(host) {
		return nil
	}
	return fmt.Errorf("the class parameter outbound-hosts does not admit %s, and it is not a Service of namespace %s (NAME.%s.svc)", host, r.in.Namespace, r.in.Namespace)
}

func (r *reader) clientTLS() {
	v := r.oneOf("auth-tls-verify-client", "on", "on", "off", "optional", "optional_no_ca")
	c := ClientTLS{Depth: r.number("auth-tls-verify-depth", 1, 0, 16), Pass: r.flag("auth-tls-pass-certificate-to-upstream", false)}
	c.Verify = map[string]VerifyClient{"on": Required, "optional": Optional, "optional_no_ca": OptionalNoCA, "off": Off}[v]
	if cn := r.get("auth-tls-match-cn"); cn != "" {
		re, err := parseRegexp(cn)
		r.bad("auth-tls-match-cn", err)
		c.Subject = re
	}
	if page := r.get("auth-tls-error-page"); page != "" {
		t, err := parseTarget(page)
		target, constant := t.Constant()
		if err == nil && !constant {
			err = errors.New("variables are not read here")
		}
		r.bad("auth-tls-error-page", err)
		c.ErrorPage = target
	}
	n, ok := r.object("auth-tls-secret")
	if !ok {
		return
	}
	c.Secret = n
	s := r.in.Secret(n)
	if s == nil {
		r.bad("auth-tls-secret", fmt.Errorf("there is no Secret %s", n))
		return
	}
	if c.CA, c.CRL = s.Data["ca.crt"], s.Data["ca.crl"]; len(c.CA) == 0 {
		r.bad("auth-tls-secret", fmt.Errorf("secret %s has no ca.crt", n))
	}
	r.out.ClientTLS = &c
}
