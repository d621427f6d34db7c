package policy

import (
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strings"
)

// all reads every group.
func (r *reader) all() {
	r.clients()
	r.basic()
	r.external()
	r.clientTLS()
	r.limits()
	r.redirects()
	r.paths()
	r.cors()
	r.headers()
	r.bounds()
	r.failures()
	r.balance()
	r.affinity()
	r.backend()
	r.canary()
	r.mirror()
	r.out.Unlogged = !r.flag("enable-access-log", true)
	if r.in.Class.asks() {
		r.used = true
	}
}

func (r *reader) clients() {
	o := &r.out
	older, newer := r.prefixes("whitelist-source-range"), r.prefixes("allowlist-source-range")
	if o.Allow = newer; newer == nil {
		o.Allow = older
	}
	o.Deny = r.prefixes("denylist-source-range")
	o.SatisfyAny = r.oneOf("satisfy", "all", "all", "any") == "any"
}

func (r *reader) limits() {
	l := Limit{
		PerSecond: r.number("limit-rps", 0, 0, 1e6), PerMinute: r.number("limit-rpm", 0, 0, 1e6),
		Connections: r.number("limit-connections", 0, 0, 1e6), Burst: r.number("limit-burst-multiplier", 5, 1, 1e4),
		Except: append(r.prefixes("limit-whitelist"), r.prefixes("limit-allowlist")...),
	}
	kib := int64(1 << 10)
	l.BytesPerSecond, l.BytesAfter = kib*int64(r.number("limit-rate", 0, 0, 1<<30)), kib*int64(r.number("limit-rate-after", 0, 0, 1<<30))
	if l.PerSecond+l.PerMinute+l.Connections > 0 || l.BytesPerSecond > 0 {
		r.out.Limit = &l
	}
}

func (r *reader) redirects() {
	o := &r.out
	if o.ToHTTPS = r.in.Class.ToHTTPS; r.get("ssl-redirect") != "" {
		o.ToHTTPS = Never
		if r.flag("ssl-redirect", false) {
			o.ToHTTPS = WithCertificate
		}
	}
	if r.flag("force-ssl-redirect", false) {
		o.ToHTTPS = Always
	}
	o.KeepSlash = r.flag("preserve-trailing-slash", false)
	o.WWW = r.flag("from-to-www-redirect", false)
	o.HSTS = r.in.Class.HSTS
	for _, kind := range []struct {
		name, code string
		otherwise  int
	}{{"permanent-redirect", "permanent-redirect-code", 301}, {"temporal-redirect", "temporal-redirect-code", 302}} {
		code := r.number(kind.code, kind.otherwise, 300, 308)
		v := r.get(kind.name)
		if v == "" {
			continue
		}
		t, err := parseTarget(v)
		r.bad(kind.name, err)
		o.Redirect = &Redirect{code, t} // the temporal one, which comes last, wins
	}
	if v := r.line("app-root", ""); v != "" {
		if !strings.HasPrefix(v, "/") || strings.HasPrefix(v, "//") || strings.ContainsAny(v, " \"<>\\^`$") {
			r.bad("app-root", errors.New(`it must be a path, such as /app`))
		}
		o.AppRoot = v
	}
}

func (r *reader) paths() {
	o := &r.out
	o.Regex = r.flag("use-regex", false)
	if v := r.get("rewrite-target"); v != "" {
		w, err := parseRewrite(v)
		r.bad("rewrite-target", err)
		if err == nil && w.Captures > 0 && !r.in.Class.NginxPaths {
			r.bad("rewrite-target", errors.New("captures need the class parameter path-matching: ingress-nginx"))
		}
		o.Rewrite = w
	}
	if o.Regex && !r.in.Class.NginxPaths {
		r.bad("use-regex", errors.New("it needs the class parameter path-matching: ingress-nginx"))
	}
	if v := r.line("x-forwarded-prefix", ""); v != "" {
		if !strings.HasPrefix(v, "/") || strings.ContainsAny(v, " \"<>\\^`$") {
			r.bad("x-forwarded-prefix", errors.New("it must be a path, such as /app"))
			v = ""
		}
		o.ForwardedPrefix = v
	}
	if v := r.get("upstream-vhost"); v != "" {
		t, err := parseText(v)
		if c, ok := t.Constant(); ok && err == nil {
			_, err = parseHost(c)
		}
		r.bad("upstream-vhost", err)
		o.Host = &t
	}
	for _, h := range list(r.get("server-alias")) {
		if strings.HasPrefix(h, "~") {
			r.bad("server-alias", errors.New("a host is no expression"))
			continue
		}
		_, err := parseHost(strings.TrimPrefix(h, "*."))
		if strings.Contains(h, ":") {
			err = errors.New("a host carries no port")
		}
		r.bad("server-alias", err)
		o.Aliases = append(o.Aliases, strings.ToLower(h))
	}
}

// parseRewrite reads the target of a rewrite: a path with $1 to $9.
func parseRewrite(s string) (*Rewrite, error) {
	if err := printable(s); err != nil {
		return nil, err
	}
	if len(s) > 1024 {
		return nil, errors.New("a target may have 1024 characters")
	}
	if strings.ContainsAny(s, " ;{}\"'\\`<>#") {
		return nil, errors.New("a path has no spaces, quotes, braces or semicolons: encode them")
	}
	if !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "$") {
		return nil, errors.New(`it must begin with "/"`)
	}
	w := &Rewrite{}
	for s != "" {
		i := strings.IndexByte(s, '$')
		if i != 0 {
			if i < 0 {
				i = len(s)
			}
			w.Parts = append(w.Parts, RewritePart{s[:i], -1})
			s = s[i:]
			continue
		}
		if len(s) < 2 || s[1] < '1' || s[1] > '9' {
			return nil, errors.New("only $1 to $9 may stand in it")
		}
		n := int(s[1] - '0')
		w.Parts, w.Captures, s = append(w.Parts, RewritePart{"", n}), max(w.Captures, n), s[2:]
	}
	return w, nil
}

func (r *reader) cors() {
	c := CORS{
		Methods:     "GET, PUT, POST, DELETE, PATCH, OPTIONS",
		Headers:     "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization",
		Credentials: r.flag("cors-allow-credentials", true), MaxAge: r.number("cors-max-age", 1728000, 0, 1<<31-1),
	}
	for name, to := range map[string]*string{"cors-allow-methods": &c.Methods, "cors-allow-headers": &c.Headers, "cors-expose-headers": &c.Expose} {
		if v := r.get(name); v != "" {
			tokens, err := parseTokens(v)
			r.bad(name, err)
			*to = strings.Join(tokens, ", ")
		}
	}
	good := true
	for _, origin := range list(r.get("cors-allow-origin")) {
		if origin == "*" {
			c.Any = true
			continue
		}
		if err := checkOrigin(origin); err != nil {
			r.bad("cors-allow-origin", err)
			good = false
		}
		c.Origins = append(c.Origins, strings.ToLower(origin))
	}
	if len(c.Origins) == 0 {
		c.Any = true
	}
	if r.flag("enable-cors", false) && good { // an origin that cannot be read must not turn into every origin
		r.out.CORS = &c
	}
}

func checkOrigin(s string) error {
	scheme, host, ok := strings.Cut(s, "://")
	if !ok || scheme == "" || strings.ToLower(scheme) != scheme && strings.ToUpper(scheme) != scheme {
		return fmt.Errorf("%q is not an origin such as https://example.com or https://*.example.com", s)
	}
	if _, err := parseToken(scheme); err != nil {
		return err
	}
	_, err := parseHost(strings.TrimPrefix(host, "*."))
	return err
}

func (r *reader) headers() {
	o := &r.out
	if n, ok := r.object("custom-headers"); ok {
		r.responseHeaders(n.Name)
	}
	o.CookieDomain, o.CookiePath = r.replace("proxy-cookie-domain"), r.replace("proxy-cookie-path")
	from, to := r.line("proxy-redirect-from", "off"), r.line("proxy-redirect-to", "off")
	if from != "off" && to != "off" {
		if from == "default" {
			r.bad("proxy-redirect-from", errors.New(`"default" has no meaning here: write what is to be replaced`))
		} else if strings.ContainsAny(from+to, "$~") {
			r.bad("proxy-redirect-from", errors.New("variables and expressions are not read: write plain text"))
		} else {
			o.Location = &Replace{from, to}
		}
	}
}

// replace reads "FROM TO", or "off".
func (r *reader) replace(name string) *Replace {
	v := r.line(name, "off")
	if v == "off" {
		return nil
	}
	f := strings.Fields(v)
	if len(f) != 2 || strings.ContainsAny(v, "$~;\"") {
		r.bad(name, errors.New("write two words: what is replaced, and by what; variables and expressions are not read"))
		return nil
	}
	return &Replace{f[0], f[1]}
}

func (r *reader) responseHeaders(configMap string) {
	const key = "custom-headers"
	m := r.configMap(key, configMap)
	if m == nil {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(m.Data)) {
		switch _, err := parseToken(k); {
		case err != nil:
			r.bad(key, err)
		case printable(m.Data[k]) != nil:
			r.bad(key, fmt.Errorf("%s: %w", k, printable(m.Data[k])))
		case !slices.Contains(r.in.Class.ResponseHeaders, strings.ToLower(k)):
			r.bad(key, fmt.Errorf("the class parameter response-headers does not admit %s", k))
		default:
			r.out.ResponseHeaders = append(r.out.ResponseHeaders, Header{textproto.CanonicalMIMEHeaderKey(k), m.Data[k]})
		}
	}
}

func (r *reader) bounds() {
	o, c := &r.out, r.in.Class
	o.MaxBody = c.MaxBody
	if v := r.get("proxy-body-size"); v != "" {
		n, err := parseSize(v)
		switch {
		case err != nil:
			r.bad("proxy-body-size", err)
		case n == 0:
			o.MaxBody = -1
		default:
			o.MaxBody = n
		}
	}
	o.Connect = r.seconds("proxy-connect-timeout", c.Connect)
	o.Send = r.seconds("proxy-send-timeout", c.Send)
	o.Read = r.seconds("proxy-read-timeout", c.Read)
}

func (r *reader) failures() {
	o := &r.out
	for _, code := range list(r.get("custom-http-errors")) {
		n, err := parseInt(code, 400, 599)
		if err != nil {
			r.bad("custom-http-errors", err)
			continue
		}
		o.Errors = append(o.Errors, n)
	}
	if v := r.get("default-backend"); v != "" {
		n, err := parseName(v)
		r.bad("default-backend", err)
		o.ErrorService = n
	}
	if r.flag("disable-proxy-intercept-errors", false) {
		o.Errors = nil
	}
	if len(o.Errors) > 0 && o.ErrorService == "" {
		r.bad("custom-http-errors", errors.New("annotation default-backend must name the Service that answers"))
		o.Errors = nil
	}
	r.retry()
}

func (r *reader) canary() {
	on := r.flag("canary", false)
	c := Canary{Total: r.number("canary-weight-total", 100, 1, 1e6)}
	c.Weight = r.number("canary-weight", 0, 0, c.Total)
	for name, to := range map[string]*string{"canary-by-header": &c.Header, "canary-by-cookie": &c.Cookie} {
		if v := r.get(name); v != "" {
			t, err := parseToken(v)
			r.bad(name, err)
			*to = t
		}
	}
	c.Header = textproto.CanonicalMIMEHeaderKey(c.Header)
	c.Value = r.line("canary-by-header-value", "")
	if v := r.get("canary-by-header-pattern"); v != "" && c.Value == "" {
		re, err := parseRegexp(v)
		r.bad("canary-by-header-pattern", err)
		c.Pattern = re
	}
	if on {
		r.out.Canary = &c
	}
}
