package policy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

func (r *reader) retry() {
	t := Retry{Error: true, Timeout: true, Tries: r.number("proxy-next-upstream-tries", 3, 0, 100)}
	asked := r.get("proxy-next-upstream-tries") != ""
	if v := r.get("proxy-next-upstream"); v != "" {
		asked = true
		t.Error, t.Timeout = false, false
		for _, word := range list(v) {
			switch word {
			case "off":
				t.Off = true
			case "error", "invalid_header":
				t.Error = true
			case "timeout":
				t.Timeout = true
			case "non_idempotent":
				t.NonIdempotent = true
			default:
				code, err := strconv.Atoi(strings.TrimPrefix(word, "http_"))
				if err != nil || code < 400 || code > 599 {
					r.bad("proxy-next-upstream", fmt.Errorf("%q is no condition", word))
					continue
				}
				t.Statuses = append(t.Statuses, code)
			}
		}
	}
	if v := r.get("proxy-next-upstream-timeout"); v != "" && v != "0" {
		t.Within, asked = r.seconds("proxy-next-upstream-timeout", 0), true
	}
	if asked {
		r.out.Retry = &t
	}
}

func (r *reader) balance() {
	b := &r.out.Balance
	if r.oneOf("load-balance", "round_robin", "round_robin", "ewma") == "ewma" {
		b.Algorithm = LeastLoad
	}
	if t := r.text("upstream-hash-by"); t != nil {
		b.Algorithm, b.By = ByHash, t
	}
	size := r.number("upstream-hash-by-subset-size", 3, 1, 1000)
	if r.flag("upstream-hash-by-subset", false) {
		b.Subset = size
	}
	r.out.ViaService = r.flag("service-upstream", false)
}

func (r *reader) affinity() {
	a := Affinity{
		Name: "INGRESSCOOKIE", Path: r.line("session-cookie-path", ""), Domain: r.line("session-cookie-domain", ""),
		SameSite:        r.oneOf("session-cookie-samesite", "", "None", "Lax", "Strict"),
		ConditionalNone: r.flag("session-cookie-conditional-samesite-none", false),
		MaxAge:          r.number("session-cookie-max-age", 0, 0, 1<<31-1), Expires: r.number("session-cookie-expires", 0, 0, 1<<31-1),
		Persistent:      r.oneOf("affinity-mode", "balanced", "balanced", "persistent") == "persistent",
		ChangeOnFailure: r.flag("session-cookie-change-on-failure", false),
		CanaryToo:       r.oneOf("affinity-canary-behavior", "sticky", "sticky", "legacy") == "sticky",
	}
	if v := r.get("session-cookie-name"); v != "" {
		n, err := parseToken(v)
		r.bad("session-cookie-name", err)
		a.Name = n
	}
	if r.get("session-cookie-secure") != "" {
		secure := r.flag("session-cookie-secure", true)
		a.Secure = &secure
	}
	for name, v := range map[string]string{"session-cookie-path": a.Path, "session-cookie-domain": a.Domain} {
		if strings.ContainsAny(v, "; ,\"\\") {
			r.bad(name, errors.New("it has a character that no cookie may have there"))
			return
		}
	}
	if r.oneOf("affinity", "", "cookie") == "cookie" {
		r.out.Affinity = &a
	}
}

func (r *reader) backend() {
	switch v := strings.ToUpper(r.get("backend-protocol")); v {
	case "", "HTTP", "AUTO_HTTP":
	case "HTTPS":
		r.out.Protocol = HTTPS
	case "GRPC":
		r.out.Protocol = GRPC
	case "GRPCS":
		r.out.Protocol = GRPCS
	case "FCGI":
		r.bad("backend-protocol", errors.New("FastCGI is not spoken: put a web server before the program"))
	default:
		r.bad("backend-protocol", errors.New("write one of HTTP, HTTPS, GRPC, GRPCS"))
	}
	r.oneOf("proxy-http-version", "1.1", "1.0", "1.1")
	onOff := func(name string) bool { return r.oneOf(name, "off", "on", "off") == "on" }
	t := BackendTLS{Verify: onOff("proxy-ssl-verify"), SendName: onOff("proxy-ssl-server-name"), Depth: r.number("proxy-ssl-verify-depth", 1, 0, 16)}
	if v := r.get("proxy-ssl-name"); v != "" {
		h, err := parseHost(v)
		r.bad("proxy-ssl-name", err)
		t.Name = h
	}
	versions := map[string]uint16{"TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}
	for _, word := range list(r.get("proxy-ssl-protocols")) {
		n, ok := versions[word]
		if !ok { // older ones are not spoken, which is stricter than asked
			continue
		}
		if t.MinVersion == 0 || n < t.MinVersion {
			t.MinVersion = n
		}
		t.MaxVersion = max(t.MaxVersion, n)
	}
	if r.get("proxy-ssl-protocols") != "" && t.MaxVersion == 0 {
		r.bad("proxy-ssl-protocols", errors.New("only TLSv1.2 and TLSv1.3 are spoken"))
	}
	if n, ok := r.object("proxy-ssl-secret"); ok {
		t.Secret = n
		if s := r.in.Secret(n); s == nil {
			r.bad("proxy-ssl-secret", fmt.Errorf("there is no Secret %s", n))
		} else {
			t.CA, t.Cert, t.Key = s.Data["ca.crt"], s.Data["tls.crt"], s.Data["tls.key"]
		}
	}
	if t.Verify && len(t.CA) == 0 {
		r.bad("proxy-ssl-verify", errors.New("annotation proxy-ssl-secret must name a Secret with ca.crt"))
	}
	if r.out.Protocol.TLS() {
		r.out.BackendTLS = &t
	}
}

func (r *reader) mirror() {
	m := Mirror{Body: r.oneOf("mirror-request-body", "on", "on", "off") == "on"}
	if v := r.get("mirror-host"); v != "" {
		h, err := parseHost(v)
		r.bad("mirror-host", err)
		m.HostHeader = h
	}
	v := r.get("mirror-target")
	if v == "" {
		return
	}
	host, t, err := outward(v)
	if err == nil && host == "$host" {
		err = errors.New("a copy to the same host would be copied again")
	}
	if err == nil {
		err = r.reachable(host)
	}
	if err != nil {
		r.bad("mirror-target", err)
		return
	}
	m.Target, m.Host = t, host
	r.out.Mirror = &m
}
