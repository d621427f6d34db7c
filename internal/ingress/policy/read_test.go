package policy

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
)

var strict = &Class{}

var nginx = func() *Class {
	c, err := ParseClass(map[string]string{"path-matching": "ingress-nginx", "outbound-hosts": "auth.example.com *.idp.example.com", "response-headers": "X-Frame-Options"})
	if err != nil {
		panic(err)
	}
	return c
}()

// read gives the outcome for annotations without their domain.
func read(class *Class, annotations ...string) Outcome {
	m := map[string]string{}
	for i := 0; i < len(annotations); i += 2 {
		m[Domain+annotations[i]] = annotations[i+1]
	}
	secrets := map[string]map[string][]byte{
		"users":  {"auth": []byte("# people\nann:$2y$05$abc\nbob:{SHA}x:comment\n")},
		"map":    {"ann": []byte("$apr1$x$y\n")},
		"empty":  {"auth": []byte("\n")},
		"crypt":  {"auth": []byte("ann:$6$abc")},
		"no-key": {"users": []byte("ann:$2y$05$abc")},
	}
	return Read(Input{Namespace: "default", Annotations: m, Class: class,
		Secret: func(n model.Name) *model.Secret {
			if d, ok := secrets[n.Name]; ok && n.Namespace == "default" {
				return &model.Secret{Name: n, Data: d}
			}
			return nil
		},
		ConfigMap: func(n model.Name) *model.ConfigMap {
			if n.Name != "headers" {
				return nil
			}
			return &model.ConfigMap{Name: n, Data: map[string]string{"x-frame-options": "DENY", "X-Other": "1"}}
		},
	})
}

// TestValues: each value that is fine, and what becomes of it.
func TestValues(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		annotations string // name=value, separated by |
		want        func(*Policy) any
		value       any
	}{
		{"whitelist-source-range=10.0.0.0/8, 192.0.2.7", func(p *Policy) any { return fmt.Sprint(p.Allow) }, "[10.0.0.0/8 192.0.2.7/32]"},
		{"allowlist-source-range=2001:db8::/32|whitelist-source-range=10.0.0.0/8", func(p *Policy) any { return fmt.Sprint(p.Allow) }, "[2001:db8::/32]"},
		{"denylist-source-range=10.1.2.3/8", func(p *Policy) any { return fmt.Sprint(p.Deny) }, "[10.0.0.0/8]"},
		{"auth-type=basic|auth-secret=users", func(p *Policy) any { return p.Basic.Users["ann"] + p.Basic.Users["bob"] }, "$2y$05$abc{SHA}x"},
		{"auth-type=basic|auth-secret=default/map|auth-secret-type=auth-map|auth-realm=Here", func(p *Policy) any { return p.Basic.Realm + p.Basic.Users["ann"] }, "Here$apr1$x$y"},
		{"auth-url=https://$host/oauth2/auth|auth-signin=https://$host/start?rd=$escaped_request_uri", func(p *Policy) any { return p.External.Host }, "$host"},
		{"auth-url=http://oauth.default.svc.cluster.local:4180/auth", func(p *Policy) any { return fmt.Sprint(p.External.Host, p.External.URL.Port()) }, "oauth.default.svc.cluster.local4180"},
		{"limit-rps=5|limit-burst-multiplier=2", func(p *Policy) any { return p.Limit.PerSecond * p.Limit.Burst }, 10},
		{"permanent-redirect=https://b.example.com$request_uri", func(p *Policy) any { return p.Redirect.Code }, 301},
		{"permanent-redirect=https://b.example.com|permanent-redirect-code=308", func(p *Policy) any { return p.Redirect.Code }, 308},
		{"permanent-redirect=https://b.example.com|temporal-redirect=https://c.example.com", func(p *Policy) any { return p.Redirect.Code }, 302},
		{"ssl-redirect=true", func(p *Policy) any { return p.ToHTTPS }, WithCertificate},
		{"force-ssl-redirect=true|ssl-redirect=false", func(p *Policy) any { return p.ToHTTPS }, Always},
		{"proxy-body-size=8m", func(p *Policy) any { return p.MaxBody }, int64(8 << 20)},
		{"proxy-body-size=0", func(p *Policy) any { return p.MaxBody }, int64(-1)},
		{"proxy-read-timeout=3600|proxy-connect-timeout=1", func(p *Policy) any { return p.Read + p.Connect }, time.Hour + time.Second},
		{"rewrite-target=/app", func(p *Policy) any { return p.Rewrite.Parts[0] }, RewritePart{"/app", -1}},
		{"enable-cors=true|cors-allow-origin=https://a.com, https://*.b.com", func(p *Policy) any { return strings.Join(p.CORS.Origins, " ") }, "https://a.com https://*.b.com"},
		{"proxy-cookie-path=/ /app/", func(p *Policy) any { return *p.CookiePath }, Replace{"/", "/app/"}},
		{"canary=true|canary-weight=30", func(p *Policy) any { return [2]int{p.Canary.Weight, p.Canary.Total} }, [2]int{30, 100}},
		{"server-alias=b.com,*.c.com", func(p *Policy) any { return len(p.Aliases) }, 2},
		{"enable-access-log=false", func(p *Policy) any { return p.Unlogged }, true},
	} {
		var kv []string
		for pair := range strings.SplitSeq(tt.annotations, "|") {
			k, v, _ := strings.Cut(pair, "=")
			kv = append(kv, k, v)
		}
		o := read(strict, kv...)
		for _, v := range o.Verdicts {
			if v.Problem {
				t.Errorf("%s: %+v", tt.annotations, v)
			}
		}
		if o.Policy == nil || o.Refused != "" {
			t.Errorf("%s: refused %q", tt.annotations, o.Refused)
			continue
		}
		if got := tt.want(o.Policy); !reflect.DeepEqual(got, tt.value) {
			t.Errorf("%s: %v, want %v", tt.annotations, got, tt.value)
		}
	}
}

// TestBadValues: what cannot be read closes the Ingress if it guards or steers, and is left out otherwise. Among them are the values by which others
// were made to run what stood in an annotation.
func TestBadValues(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, value string
		closes      bool
	}{
		{"whitelist-source-range", "10.0.0.0/33", true},
		{"whitelist-source-range", "10.0.0.0/8; } location / {", true},
		{"denylist-source-range", "everybody", true},
		{"auth-type", "digest", true},
		{"auth-type", "basic", true}, // without a Secret
		{"auth-url", "http://169.254.169.254/latest", true},
		{"auth-url", "http://auth.other.svc.cluster.local/", true},
		{"auth-url", "http://$http_x/", true},
		{"auth-url", "http://a.default.svc/\";}#", true},
		{"auth-url", "http://a.default.svc/\nX: y", true},
		{"auth-url", "gopher://a.default.svc/", true},
		{"auth-url", "http://user:pw@a.default.svc/", true},
		{"auth-tls-secret", "ca", true},
		{"auth-tls-match-cn", "CN=x\";", true},
		{"satisfy", "some", true},
		{"limit-rps", "-1", true},
		{"permanent-redirect", "https://a.com\r\nSet-Cookie: x=y", true},
		{"permanent-redirect", "javascript:alert(1)", true},
		{"permanent-redirect", "https://a.com/$unknown", true},
		{"permanent-redirect-code", "200", true},
		{"temporal-redirect", "/relative", true},
		{"app-root", "//evil.com", true},
		{"app-root", "/x;return 301", true},
		{"rewrite-target", "/$1", true}, // strict classes have no expressions
		{"rewrite-target", "/x;}", true},
		{"use-regex", "true", true},
		{"use-regex", "maybe", true},
		{"upstream-vhost", "a b", true},
		{"server-alias", "~^.*$", true},
		{"canary-by-header-pattern", "(?=x)", true},
		{"canary-weight", "101", true},
		{"configuration-snippet", "deny all;", true},
		{"server-snippet", "x", true},
		{"enable-modsecurity", "true", true},
		{"ssl-passthrough", "true", true},
		{"backend-protocol", "FCGI", true},
		{"brand-new-auth", "x", true},
		{"proxy-body-size", "8 MB", false},
		{"proxy-read-timeout", "60s", false},
		{"x-forwarded-prefix", "no-slash", false},
		{"cors-max-age", "soon", false},
		{"proxy-cookie-path", "/ \"/;Secure\"", false},
		{"proxy-redirect-from", "default", false},
		{"custom-headers", "missing", false},
		{"auth-realm", "a\"b", false},
		{"brand-new", "x", false},
	} {
		annotations := []string{tt.name, tt.value}
		if tt.name == "proxy-redirect-from" {
			annotations = append(annotations, "proxy-redirect-to", "/")
		}
		o := read(strict, annotations...)
		i := 0
		for i < len(o.Verdicts) && o.Verdicts[i].Annotation != Domain+tt.name {
			i++
		}
		if v := o.Verdicts[i]; !v.Problem || v.Closes != tt.closes || (o.Refused != "") != tt.closes || v.Message == "" {
			t.Errorf("%s %q: %+v, refused %q; closes should be %v", tt.name, tt.value, v, o.Refused, tt.closes)
		}
	}
	for secret, want := range map[string]string{"gone": "no Secret", "empty": "no users", "crypt": "htpasswd -B", "no-key": `no key "auth"`, "kube-system/users": "another namespace"} {
		if o := read(strict, "auth-type", "basic", "auth-secret", secret); !strings.Contains(o.Refused, want) {
			t.Errorf("secret %s: refused with %q, want %q in it", secret, o.Refused, want)
		}
	}
	if o := read(strict, "enable-cors", "true", "cors-allow-origin", "not-an-origin"); o.Policy.CORS != nil {
		t.Error("an origin that cannot be read must not open every origin")
	}
}

// TestClassDecides: what only a class may open.
func TestClassDecides(t *testing.T) {
	t.Parallel()
	if o := read(nginx, "rewrite-target", "/$2", "use-regex", "true"); o.Refused != "" || o.Policy.Rewrite.Captures != 2 {
		t.Errorf("rewrite with captures: %+v", o)
	}
	for url, good := range map[string]bool{"https://auth.example.com/v": true, "https://x.idp.example.com:8443/v": true, "https://idp.example.com/v": false,
		"https://auth.example.com.evil.org/": false, "https://evil.org/auth.example.com": false} {
		if o := read(nginx, "auth-url", url); (o.Refused == "") != good {
			t.Errorf("%s: refused %q", url, o.Refused)
		}
	}
	o := read(nginx, "custom-headers", "headers")
	if len(o.Policy.ResponseHeaders) != 1 || o.Policy.ResponseHeaders[0] != (Header{"X-Frame-Options", "DENY"}) || !o.Verdicts[0].Problem {
		t.Errorf("custom headers %v, %+v: one is admitted and one is not", o.Policy.ResponseHeaders, o.Verdicts)
	}
	o = read(nginx)
	if p := o.Policy; p == nil || p.ToHTTPS != WithCertificate || p.MaxBody != 1<<20 || p.HSTS != "max-age=31536000; includeSubDomains" || p.Read != time.Minute {
		t.Errorf("what the class says holds without annotations: %+v", p)
	}
	if o = read(strict); o.Policy != nil {
		t.Errorf("nothing is asked for, yet %+v", o.Policy)
	}
	_, err := ParseClass(map[string]string{"hsts": "perhaps", "pathmatching": "x", "proxy-body-size": "1 m"})
	for _, want := range []string{"hsts:", "pathmatching: no such", "proxy-body-size:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

// TestEveryAnnotationIsRead: what the list calls exact or approximate is looked at by a group.
func TestEveryAnnotationIsRead(t *testing.T) {
	t.Parallel()
	streams := map[string]bool{} // those that ask for what cannot be otherwise here
	for _, n := range []string{"proxy-request-buffering", "client-body-buffer-size", "proxy-buffering", "proxy-buffers-number", "proxy-buffer-size", "proxy-busy-buffers-size",
		"proxy-max-temp-file-size", "connection-proxy-header", "http2-push-preload", "enable-rewrite-log"} {
		streams[n] = true
	}
	seen := map[string]bool{}
	for _, a := range Annotations {
		if seen[a.Name] {
			t.Errorf("%s is listed twice", a.Name)
		}
		seen[a.Name] = true
		if a.Level == Refused || streams[a.Name] {
			continue
		}
		r := &reader{in: Input{Namespace: "default", Annotations: map[string]string{Domain + a.Name: "\x01"}, Class: nginx,
			Secret: func(model.Name) *model.Secret { return nil }, ConfigMap: func(model.Name) *model.ConfigMap { return nil }}, wrong: map[string]error{}}
		r.all()
		if inert := strings.HasPrefix(a.Name, "auth-cache") || strings.HasPrefix(a.Name, "auth-keepalive") || a.Name == "enable-global-auth"; r.wrong[a.Name] == nil && !inert {
			t.Errorf("%s is %s, but a control character in it is not refused", a.Name, a.Level)
		}
	}
	if len(Annotations) < 100 {
		t.Errorf("%d annotations", len(Annotations))
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	text, err := parseText("https://$host/${arg_x}-$http_x_id$cookie_c?$args")
	if err != nil {
		t.Fatal(err)
	}
	got := text.Expand(func(v Variable, name string) string { return fmt.Sprintf("<%d%s>", v, name) })
	if want := fmt.Sprintf("https://<%d>/<%dx>-<%dx-id><%dc>?<%d>", VarHost, VarParameter, VarHeader, VarCookie, VarArgs); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, bad := range []string{"$", "${host", "$no_such", "a\x00b", strings.Repeat("x", maxValue+1)} {
		if _, err := parseText(bad); err == nil {
			t.Errorf("%.20q was accepted", bad)
		}
	}
}

// FuzzRead holds Read to its promises for any value: it ends, and nothing of the Policy can break out of a header line.
func FuzzRead(f *testing.F) {
	for _, a := range Annotations {
		f.Add(a.Name, "https://$host/x")
		f.Add(a.Name, "on\r\nx: y")
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		o := read(nginx, name, value, "enable-cors", "true", "canary", "true")
		if o.Policy == nil {
			return
		}
		data, err := json.Marshal(o.Policy)
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := json.Unmarshal(data, &tree); err != nil {
			t.Fatal(err)
		}
		if o.Refused == "" && hasControl(tree) {
			t.Errorf("%s %q: %s", name, value, data)
		}
	})
}

// hasControl looks for a control character in any text of a decoded JSON value.
func hasControl(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f })
	case []any:
		return slices.ContainsFunc(v, hasControl)
	case map[string]any:
		for k, x := range v {
			if hasControl(k) || hasControl(x) {
				return true
			}
		}
	}
	return false
}

//go:generate go test -run TestDocument -count=1 . -update
const document = "../../../docs/ingress-annotations.md"

var update = flag.Bool("update", false, "write docs/ingress-annotations.md")

// TestDocument holds the table in docs to the list. Run with -update it writes the table.
func TestDocument(t *testing.T) {
	want := Document()
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(document)
	if err != nil || string(have) != want {
		t.Errorf("docs/ingress-annotations.md is not what the list says (%v): run go generate ./internal/ingress/policy", err)
	}
}
