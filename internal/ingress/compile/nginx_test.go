package compile

import (
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
)

const nginxDomain = "nginx.ingress.kubernetes.io/"

// nginxClass is a class whose paths are compared as ingress-nginx does.
func nginxClass() []any {
	return []any{
		&model.IngressClass{Name: "nginx", Controller: Controller, Parameters: &model.ClassParameters{Kind: "ConfigMap", Name: model.Name{Namespace: "infra", Name: "p"}}},
		&model.ConfigMap{Name: model.Name{Namespace: "infra", Name: "p"}, Data: map[string]string{"path-matching": "ingress-nginx"}},
	}
}

func inClass(i *model.Ingress, class string, annotations ...string) *model.Ingress {
	i.Class = class
	for n := 0; n < len(annotations); n += 2 {
		i.Annotations[nginxDomain+annotations[n]] = annotations[n+1]
	}
	return i
}

func path(p string, typ model.PathType) model.IngressPath {
	return model.IngressPath{Path: p, Type: typ, Backend: to(string(typ[:1]) + " " + p)}
}

// TestNginxPaths is what users of ingress-nginx rely on, and the specification does not say.
func TestNginxPaths(t *testing.T) {
	t.Parallel()
	const special = model.PathImplementationSpecific
	plain := append(nginxClass(),
		inClass(ing("plain", rule("plain.com", path("/foo", special), path("/foo/bar", model.PathPrefix), path("/exact", model.PathExact))), "nginx"),
		inClass(ing("expr", rule("expr.com", path("/api(/|$)(.*)", special), path("/", model.PathPrefix))), "nginx", "use-regex", "true", "rewrite-target", "/$2"),
		inClass(ing("leak", rule("expr.com", path("/Exact", model.PathExact), path("/a.c", special))), "nginx"),
		inClass(ing("broken", rule("broken.com", path("/admin(?!x)", special), path("/", special))), "nginx", "use-regex", "true"),
		ing("strict", rule("strict.com", path("/foo", special))),
	)
	tab := Build(snapshot(t, plain...), standalone, nil)
	for _, tt := range []struct{ host, path, want string }{
		{"plain.com", "/foo", "I /foo"}, {"plain.com", "/foobar", "I /foo"}, {"plain.com", "/foo/bar", "P /foo/bar"}, {"plain.com", "/foo/bar/x", "P /foo/bar"},
		{"plain.com", "/foo/barx", "I /foo"}, {"plain.com", "/exact", "E /exact"}, {"plain.com", "/exact/x", "404"}, {"plain.com", "/FOO", "404"},
		{"expr.com", "/api", "I /api(/|$)(.*)"}, {"expr.com", "/API/x", "I /api(/|$)(.*)"}, {"expr.com", "/apix", "P /"},
		{"expr.com", "/exact", "E /Exact"}, {"expr.com", "/exactly", "E /Exact"}, {"expr.com", "/abc", "I /a.c"},
		{"broken.com", "/admin", "503"}, {"broken.com", "/admin/x", "503"}, {"broken.com", "/other", "I /"},
		{"strict.com", "/foo/x", "I /foo"}, {"strict.com", "/foobar", "404"},
	} {
		if got := where(t, tab, tt.host, tt.path); got != tt.want {
			t.Errorf("%s%s → %s, want %s", tt.host, tt.path, got, tt.want)
		}
	}
	r, _ := tab.Find("expr.com", "/api/v1/x")
	if got := r.Rewritten("/api/v1/x"); got != "/v1/x" {
		t.Errorf("rewritten to %q", got)
	}
	wantFindings(t, tab, "default/broken: error: rule 0 path 0 answers 503")
}

// TestClassParameters: a class whose parameters cannot be read serves nothing, and no other class is touched.
func TestClassParameters(t *testing.T) {
	t.Parallel()
	classes := func(p *model.ClassParameters, m *model.ConfigMap) *Table {
		rows := []any{&model.IngressClass{Name: "c", Controller: Controller, Parameters: p},
			inClass(ing("i", rule("a.com", prefix("/"))), "c"), ing("other", rule("b.com", prefix("/")))}
		if m != nil {
			rows = append(rows, m)
		}
		return Build(snapshot(t, rows...), standalone, nil)
	}
	n := model.Name{Namespace: "infra", Name: "p"}
	for _, tt := range []struct {
		name string
		p    *model.ClassParameters
		m    *model.ConfigMap
		want string
	}{
		{"good", &model.ClassParameters{Kind: "ConfigMap", Name: n}, &model.ConfigMap{Name: n}, ""},
		{"missing", &model.ClassParameters{Kind: "ConfigMap", Name: n}, nil, "create ConfigMap infra/p"},
		{"another kind", &model.ClassParameters{Group: "k8s.example.com", Kind: "IngressParameters", Name: n}, nil, "must be a ConfigMap"},
		{"cluster scope", &model.ClassParameters{Kind: "ConfigMap", Name: model.Name{Name: "p"}}, nil, "scope Namespace"},
		{"unknown key", &model.ClassParameters{Kind: "ConfigMap", Name: n}, &model.ConfigMap{Name: n, Data: map[string]string{"x": "y"}}, "x: no such parameter"},
	} {
		tab := classes(tt.p, tt.m)
		want := "prefix /"
		if tt.want != "" {
			want = "503"
		}
		if got := where(t, tab, "a.com", "/"); got != want {
			t.Errorf("%s: → %s, want %s", tt.name, got, want)
		}
		if got := where(t, tab, "b.com", "/"); got != "prefix /" {
			t.Errorf("%s: the other class → %s", tt.name, got)
		}
		if tt.want != "" && (len(tab.Findings) != 1 || !strings.Contains(tab.Findings[0].Message, tt.want)) {
			t.Errorf("%s: findings %v, want %q", tt.name, tab.Findings, tt.want)
		}
	}
}

// TestClosedExpressions: what an Ingress that is closed would have matched goes to nobody else, also where its paths cannot be read as expressions.
func TestClosedExpressions(t *testing.T) {
	t.Parallel()
	const special = model.PathImplementationSpecific
	tab := Build(snapshot(t, append(nginxClass(),
		ing("open", rule("a.com", prefix("/"))), withDefault(ing("all"), "all"),
		inClass(ing("maybe", rule("c.com", path("/m(/|$)(.*)", special))), "nginx", "use-regex", "maybe"),
		inClass(ing("expr", rule("a.com", path("/app(/|$)(.*)", special)), rule("b.com", path("/x/?(.*)", special))), "", "use-regex", "true"),
		inClass(ing("lost", rule("a.com", path("/lost(/|$)(.*)", special))), "lost"),
		&model.IngressClass{Name: "lost", Controller: Controller, Parameters: &model.ClassParameters{Kind: "ConfigMap", Name: model.Name{Namespace: "infra", Name: "gone"}}})...,
	), standalone, nil)
	for _, tt := range []struct{ host, path, want string }{
		{"c.com", "/m/x", "503"}, {"c.com", "/n", "all"},
		{"a.com", "/app", "503"}, {"a.com", "/app/secret", "503"}, {"b.com", "/x/secret", "503"}, {"a.com", "/lost/x", "503"},
		{"a.com", "/other", "prefix /"}, {"b.com", "/other", "all"},
	} {
		if got := where(t, tab, tt.host, tt.path); got != tt.want {
			t.Errorf("%s%s → %s, want %s", tt.host, tt.path, got, tt.want)
		}
	}
}

// TestDefaultClass is C4: of several defaults the newest, then the smaller name, as the API's admission has it.
func TestDefaultClass(t *testing.T) {
	t.Parallel()
	class := func(name, controller string, sec int64) any {
		return &model.IngressClass{Name: name, Controller: controller, Default: true, Created: time.Unix(sec, 0)}
	}
	for _, tt := range []struct {
		classes []any
		want    bool
	}{
		{[]any{class("a", Controller, 1), class("b", "x/y", 2)}, false}, {[]any{class("a", Controller, 3), class("b", "x/y", 2)}, true},
		{[]any{class("a", Controller, 2), class("b", "x/y", 2)}, true}, {[]any{class("c", Controller, 2), class("b", "x/y", 2)}, false},
	} {
		i := ing("i", rule("a.com", prefix("/")))
		snap := snapshot(t, append(tt.classes, i)...)
		if got := Owns(snap, Options{}, i); got != tt.want {
			t.Errorf("%+v: ours %v, want %v", tt.classes, got, tt.want)
		}
	}
}

func TestCanaryAliasAndWWW(t *testing.T) {
	t.Parallel()
	tab := Build(snapshot(t,
		inClass(ing("main", rule("a.com", prefix("/"), exact("/x"))), "", "server-alias", "alias.com,taken.com", "from-to-www-redirect", "true"),
		inClass(ing("canary", rule("a.com", path("/", model.PathPrefix))), "", "canary", "true", "canary-weight", "50"),
		inClass(ing("late", rule("a.com", path("/", model.PathPrefix))), "", "canary", "true", "canary-weight", "10"),
		inClass(ing("alone", rule("a.com", path("/nobody", model.PathPrefix))), "", "canary", "true"),
		inClass(ing("closed", rule("a.com", exact("/x"))), "", "canary", "true", "canary-weight", "-3"),
		ing("taken", rule("taken.com", prefix("/t"))),
	), standalone, nil)
	r, _ := tab.Find("a.com", "/y")
	if r.Canary == nil || r.Canary.When.Weight != 50 || tab.Backends[r.Canary.Backend].Ref.Service.Name != "P /" || tab.Backends[r.Backend].Ref.Service.Name != "prefix /" {
		t.Errorf("canary %+v of %+v", r.Canary, r)
	}
	if r, _ := tab.Find("a.com", "/x"); r.Canary != nil || r.Refused != "" {
		t.Errorf("a canary that cannot be read took part, or closed the rule beside it: %+v", r)
	}
	if got := where(t, tab, "alias.com", "/y"); got != "prefix /" {
		t.Errorf("alias → %s", got)
	}
	if got := where(t, tab, "taken.com", "/"); got != "404" {
		t.Errorf("a host with rules of its own, named as an alias → %s", got)
	}
	if r, _ := tab.Find("www.a.com", "/y"); r == nil || r.WWW != "a.com" {
		t.Errorf("www: %+v", r)
	}
	wantFindings(t, tab, "default/alone: error: rule 0 path 0: a canary stands beside", "default/closed: error: all of it",
		"default/late: error: rule 0 path 0: host \"a.com\" path \"/\" has the canary", "default/main: warning: alias taken.com")
}
