package compile

import (
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
)

// TestDefaultBackends is D1, D2, H8 and the choices of the package comment.
func TestDefaultBackends(t *testing.T) {
	t.Parallel()
	tab := Build(snapshot(t,
		withDefault(ing("hosts", rule("a.com", prefix("/x"))), "a-default"),
		withDefault(ing("later", rule("a.com", prefix("/y"))), "later-default"),
		ing("plain", rule("b.com", prefix("/x"))),
		withDefault(ing("whole", rule("c.com")), "c-default"),
		withDefault(ing("all"), "table-default"),
		withDefault(ing("younger"), "never"),
		ing("nothing"),
	), standalone, nil)
	for _, tt := range []struct{ host, path, want string }{
		{"a.com", "/x", "prefix /x"},
		{"a.com", "/y", "prefix /y"},
		{"a.com", "/z", "a-default"},
		{"b.com", "/z", "table-default"},
		{"c.com", "/z", "c-default"},
		{"d.com", "/z", "table-default"},
	} {
		if got := where(t, tab, tt.host, tt.path); got != tt.want {
			t.Errorf("%s%s → %s, want %s", tt.host, tt.path, got, tt.want)
		}
	}
	wantFindings(t, tab, "default/later: warning: host \"a.com\"", "default/nothing: error: it has neither", "default/younger: error: its default")

	alone := Build(snapshot(t, withDefault(ing("hosts", rule("a.com", prefix("/x"))), "a-default")), standalone, nil)
	if got := where(t, alone, "other.com", "/"); got != "a-default" {
		t.Errorf("an only default backend serves other hosts too: got %s", got)
	}
	none := Build(snapshot(t, ing("h8", rule("a.com"))), standalone, nil)
	if got := where(t, none, "a.com", "/"); got != "404" {
		t.Errorf("a host without paths and default backend: %s, want 404", got)
	}
	wantFindings(t, none, "default/h8: warning: rule 0")
}

// wantFindings compares the findings with prefixes of their lines, in order.
func wantFindings(t *testing.T, tab *Table, want ...string) {
	t.Helper()
	if len(tab.Findings) != len(want) {
		t.Errorf("findings %v, want %d", tab.Findings, len(want))
		return
	}
	for i, f := range tab.Findings {
		if !strings.HasPrefix(f.String(), "ingress "+want[i]) {
			t.Errorf("finding %q, want %q…", f, want[i])
		}
	}
}

// TestBackends is B1 to B3 and B5: what cannot be served is answered for and goes nowhere else.
func TestBackends(t *testing.T) {
	t.Parallel()
	bad := func(b model.IngressBackend) model.IngressPath {
		return model.IngressPath{Path: "/bad", Type: model.PathPrefix, Backend: b}
	}
	for _, b := range []model.IngressBackend{
		{Resource: "example.com/Bucket/images"}, {}, {Service: "x"}, {Service: "x", PortName: "http", PortNumber: 80},
	} {
		tab := Build(snapshot(t, withDefault(ing("i", rule("a.com", bad(b), prefix("/"))), "fallback")), standalone, nil)
		if got := where(t, tab, "a.com", "/bad/x"); got != "503" {
			t.Errorf("%+v → %s, want 503", b, got)
		}
		if got := where(t, tab, "a.com", "/x"); got != "prefix /" {
			t.Errorf("%+v: the path beside it → %s", b, got)
		}
		wantFindings(t, tab, `default/i: error: host "a.com" path "/bad" answers 503`)
	}
}

func TestConflictsGoToTheOldest(t *testing.T) {
	t.Parallel()
	at := func(i *model.Ingress, sec int64) *model.Ingress { i.Created = time.Unix(sec, 0); return i }
	path := func(service string) model.IngressPath {
		return model.IngressPath{Path: "/x", Type: model.PathPrefix, Backend: to(service)}
	}
	tab := Build(snapshot(t,
		at(ing("a-young", rule("a.com", path("young"))), 20),
		at(ing("z-old", rule("a.com", path("old"))), 10),
		at(ing("c", rule("b.com", path("c"))), 5), at(ing("b", rule("b.com", path("b"))), 5),
	), standalone, nil)
	if got := where(t, tab, "a.com", "/x"); got != "old" {
		t.Errorf("a.com → %s, want the oldest", got)
	}
	if got := where(t, tab, "b.com", "/x"); got != "b" {
		t.Errorf("b.com → %s, want the smaller name", got)
	}
	wantFindings(t, tab, "default/a-young: error: rule 0 path 0", "default/c: error: rule 0 path 0")
}

// TestClasses is C3 to C6.
func TestClasses(t *testing.T) {
	t.Parallel()
	ours := &model.IngressClass{Name: "fairway", Controller: Controller}
	oursDefault := &model.IngressClass{Name: "fairway", Controller: Controller, Default: true}
	theirs := &model.IngressClass{Name: "nginx", Controller: "k8s.io/ingress-nginx", Default: true}
	for _, tt := range []struct {
		name    string
		class   string
		classes []any
		opts    Options
		want    bool
	}{
		{"ours by name", "fairway", []any{ours}, Options{}, true},
		{"theirs by name", "nginx", []any{ours, theirs}, Options{WithoutClass: true}, false},
		{"a class that is not there", "gone", []any{oursDefault}, Options{WithoutClass: true}, false},
		{"no class, no default", "", []any{ours}, Options{}, false},
		{"no class, the default is theirs", "", []any{ours, theirs}, Options{}, false},
		{"no class, the default is ours", "", []any{oursDefault}, Options{}, true},
		{"no class, alone", "", nil, Options{WithoutClass: true}, true},
	} {
		i := ing("i", rule("a.com", prefix("/")))
		i.Class = tt.class
		snap := snapshot(t, append(tt.classes, i)...)
		tab := Build(snap, tt.opts, nil)
		if got := where(t, tab, "a.com", "/") == "prefix /"; got != tt.want || Owns(snap, tt.opts, i) != tt.want {
			t.Errorf("%s: served %v, owned %v, want %v", tt.name, got, Owns(snap, tt.opts, i), tt.want)
		}
	}
}

// TestAnnotationsThatAreNotDone: what restricts access closes its Ingress and no other; the rest is served without.
func TestAnnotationsThatAreNotDone(t *testing.T) {
	t.Parallel()
	const nginx = "nginx.ingress.kubernetes.io/"
	for _, tt := range []struct {
		key, value string
		want       string
		severity   Severity
		findings   int
	}{
		{"example.com/note", "x", "prefix /", 0, 0},
		{nginx + "proxy-body-size", "8m", "prefix /", 0, 0},
		{nginx + "proxy-body-size", "8 MB", "prefix /", Warning, 1},
		{nginx + "limit-rate", "100", "prefix /", Warning, 1},
		{nginx + "made-up", "x", "prefix /", Warning, 1},
		{nginx + "made-up-auth", "x", "503", Error, 1},
		{nginx + "auth-url", "http://auth", "503", Error, 1},
		{nginx + "whitelist-source-range", "10.0.0.0/8", "prefix /", 0, 0},
		{nginx + "whitelist-source-range", "10.0.0.0/8; deny all", "503", Error, 1},
		{nginx + "configuration-snippet", "deny all;", "503", Error, 1},
		{nginx + "enable-modsecurity", "false", "prefix /", 0, 0},
		{nginx + "enable-modsecurity", "true", "503", Error, 1},
		{"haproxy.org/allow-list", "10.0.0.0/8", "503", Error, 1},
		{"traefik.ingress.kubernetes.io/router.middlewares", "default-auth@kubernetescrd", "503", Error, 1},
		{"traefik.ingress.kubernetes.io/router.entrypoints", "web", "prefix /", Warning, 1},
	} {
		i := ing("i", rule("a.com", prefix("/")))
		i.Annotations[tt.key] = tt.value
		tab := Build(snapshot(t, i, ing("good", rule("b.com", prefix("/")))), standalone, nil)
		if got := where(t, tab, "a.com", "/"); got != tt.want {
			t.Errorf("%s: → %s, want %s", tt.key, got, tt.want)
		}
		if len(tab.Findings) != tt.findings || tt.findings > 0 && tab.Findings[0].Severity != tt.severity {
			t.Errorf("%s: findings %v", tt.key, tab.Findings)
		}
		if got := where(t, tab, "b.com", "/"); got != "prefix /" {
			t.Errorf("%s: the Ingress beside it → %s", tt.key, got)
		}
	}
}

// TestCertificates is T2 to T6 and H7.
func TestCertificates(t *testing.T) {
	t.Parallel()
	entry := func(secret string, hosts ...string) model.IngressTLS {
		return model.IngressTLS{Hosts: hosts, Secret: secret}
	}
	with := func(i *model.Ingress, e ...model.IngressTLS) *model.Ingress { i.TLS = e; return i }
	broken := &model.Certificate{Name: name("broken"), Cert: []byte("no"), Key: []byte("PEM")}
	foreign := certificate(t, "elsewhere", "a.com")
	foreign.Name.Namespace = "other"
	snap := snapshot(t, certificate(t, "a", "a.com"), certificate(t, "wild", "*.w.com"), certificate(t, "wrong", "x.org"), broken, foreign,
		with(ing("1-a", rule("a.com", prefix("/"))), entry("a", "a.com")),
		with(ing("2-wild", rule("b.w.com", prefix("/"))), entry("wild", "*.w.com")),
		with(ing("3-thief", rule("a.com", prefix("/t"))), entry("wrong", "a.com")),
		with(ing("4-gone", rule("g.com", prefix("/"))), entry("gone", "g.com")),
		with(ing("5-broken", rule("br.com", prefix("/"))), entry("broken", "br.com")),
		with(ing("6-wrong", rule("wr.com", prefix("/"))), entry("wrong", "wr.com")),
		with(ing("7-elsewhere", rule("e.com", prefix("/"))), entry("elsewhere", "e.com")),
		with(ing("8-nohosts", rule("n.w.com", prefix("/"))), entry("wild")),
		with(ing("9-nothing", rule("", prefix("/"))), entry("a")),
		with(ing("A-own", rule("own.com", prefix("/"))), entry("", "own.com")),
	)
	tab := Build(snap, standalone, nil)
	for server, want := range map[string]string{
		"a.com": "a", "b.w.com": "wild", "n.w.com": "wild", "c.b.w.com": "", "w.com": "", "g.com": "", "br.com": "", "wr.com": "wrong",
		"e.com": "", "own.com": "", "": "", "unknown.org": "",
	} {
		got := ""
		if c := tab.Certificate(server); c != nil {
			got = c.Secret.Name
		}
		if got != want {
			t.Errorf("server name %q gets Secret %q, want %q", server, got, want)
		}
	}
	wantFindings(t, tab, "default/3-thief: warning: tls 0: host \"a.com\" keeps", "default/3-thief: warning: tls 0: the certificate", "default/4-gone: error: tls 0: there is no Secret",
		"default/5-broken: error: tls 0: Secret default/broken cannot", "default/6-wrong: warning: tls 0: the certificate",
		"default/7-elsewhere: error: tls 0: there is no Secret default/elsewhere", "default/9-nothing: warning: tls 0: it names no hosts")
	if !tab.UsesSecret(name("gone")) || tab.UsesSecret(model.Name{Namespace: "other", Name: "elsewhere"}) {
		t.Error("UsesSecret must know the Secrets that are named, in the Ingress's namespace only")
	}
	again := Build(snap, standalone, tab)
	if again.Certificate("a.com").TLS != tab.Certificate("a.com").TLS {
		t.Error("an unchanged Secret was parsed again")
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	i := ing("web", rule("a.com", prefix("/api")))
	i.TLS = []model.IngressTLS{{Hosts: []string{"a.com"}, Secret: "a"}}
	tab := Build(snapshot(t, i, certificate(t, "a", "a.com")), standalone, nil)
	e := tab.Explain("https", "A.com:443", "/api/x?y")
	if e.Route == nil || e.Route.Path != "/api" || e.Backend.Service != name("prefix /api") || e.Certificate == nil || e.Path != "/api/x" {
		t.Errorf("explained as %+v", e)
	}
	if e := tab.Explain("http", "a.com", "/"); e.Route != nil || e.Miss != NoPath || e.Certificate != nil {
		t.Errorf("explained as %+v", e)
	}
	if e := tab.Explain("http", "a b", "/"); e.Refused == "" {
		t.Errorf("explained as %+v", e)
	}
}
