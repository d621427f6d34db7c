package compile

import (
	"net/url"
	"strings"
	"testing"

	"fairway.dev/fairway/internal/model"
)

// TestPathMatching is the table of networking/v1 (concepts/services-networking/ingress, "Examples"), and the corners that it
// leaves open.
func TestPathMatching(t *testing.T) {
	t.Parallel()
	specific := func(p string) model.IngressPath {
		return model.IngressPath{Path: p, Type: model.PathImplementationSpecific, Backend: to("specific " + p)}
	}
	type answers map[string]string // path → Service
	for _, tt := range []struct {
		name  string
		paths []model.IngressPath
		want  answers
	}{
		{"P1", []model.IngressPath{prefix("/")}, answers{"/": "prefix /", "/a": "prefix /", "/a/b/": "prefix /", "/?q": "prefix /"}},
		{"P2 P3", []model.IngressPath{exact("/foo")}, answers{"/foo": "exact /foo", "/foo?q=/x": "exact /foo", "/bar": "404", "/foo/": "404", "/FOO": "404", "/foo/bar": "404"}},
		{"P4", []model.IngressPath{exact("/foo/")}, answers{"/foo": "404", "/foo/": "exact /foo/"}},
		{"P5 P7", []model.IngressPath{prefix("/foo")}, answers{"/foo": "prefix /foo", "/foo/": "prefix /foo", "/foo/x": "prefix /foo", "/FOO": "404", "/foobar": "404", "/": "404"}},
		{"P6", []model.IngressPath{prefix("/foo/")}, answers{"/foo": "prefix /foo/", "/foo/": "prefix /foo/", "/foo/x": "prefix /foo/", "/foobar": "404"}},
		{"P8", []model.IngressPath{prefix("/aaa/bb")}, answers{"/aaa/bbb": "404", "/aaa/bb": "prefix /aaa/bb"}},
		{"P9 P11", []model.IngressPath{prefix("/aaa/bbb")}, answers{"/aaa/bbb": "prefix /aaa/bbb", "/aaa/bbb/": "prefix /aaa/bbb", "/aaa/bbb/ccc": "prefix /aaa/bbb", "/aaa/bbbxyz": "404", "/aaa": "404"}},
		{"P10", []model.IngressPath{prefix("/aaa/bbb/")}, answers{"/aaa/bbb": "prefix /aaa/bbb/", "/aaa/bbb/": "prefix /aaa/bbb/"}},
		{"P12", []model.IngressPath{prefix("/"), prefix("/aaa")}, answers{"/aaa/ccc": "prefix /aaa"}},
		{"P13", []model.IngressPath{prefix("/"), prefix("/aaa"), prefix("/aaa/bbb")}, answers{"/aaa/bbb": "prefix /aaa/bbb", "/aaa/bbb/c/d": "prefix /aaa/bbb", "/aaa/c": "prefix /aaa", "/ccc": "prefix /"}},
		{"P14", []model.IngressPath{prefix("/aaa")}, answers{"/ccc": "404"}},
		{"P15", []model.IngressPath{prefix("/foo"), exact("/foo")}, answers{"/foo": "exact /foo", "/foo/": "prefix /foo"}},
		{"P16", []model.IngressPath{exact("/foo"), prefix("/foo/")}, answers{"/foo": "exact /foo", "/foo/": "prefix /foo/", "/foo/x": "prefix /foo/"}},
		{"the longer of two spellings", []model.IngressPath{prefix("/foo"), prefix("/foo/")}, answers{"/foo": "prefix /foo/", "/foo/": "prefix /foo/"}},
		{"and in the other order", []model.IngressPath{prefix("/foo/"), prefix("/foo")}, answers{"/foo": "prefix /foo/", "/foo/": "prefix /foo/"}},
		{"specific is prefix", []model.IngressPath{specific("/foo")}, answers{"/foo/x": "specific /foo", "/foobar": "404"}},
		{"specific may be empty", []model.IngressPath{specific("")}, answers{"/": "specific ", "/x": "specific "}},
		{"gap between prefixes", []model.IngressPath{prefix("/a/b/c")}, answers{"/a": "404", "/a/b": "404", "/a/b/c": "prefix /a/b/c"}},
		{"empty element", []model.IngressPath{prefix("/a"), prefix("/")}, answers{"//a": "prefix /", "/a//b": "prefix /a"}},
		{"escapes are decoded", []model.IngressPath{prefix("/a%20b"), exact("/é")}, answers{"/a%20b/c": "prefix /a%20b", "/%C3%A9": "exact /é", "/%c3%a9": "exact /é"}},
		{"escaped letters", []model.IngressPath{prefix("/admin")}, answers{"/%61dmin": "prefix /admin"}},
		{"what hides its path", []model.IngressPath{prefix("/")}, answers{
			"/a%2Fb": "400", "/a%2fb": "400", "/a%5Cb": "400", `/a\b`: "400", "/a%00": "400", "/..": "400", "/a/../b": "400", "/a/./b": "400",
			"/a/.": "400", "/%2e%2e/b": "400", "/a/.%2E": "400", "/a/..;x/b": "400", "/a/..b": "prefix /", "/a/.b": "prefix /", "/...": "prefix /", "/a%252Fb": "prefix /"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tab := Build(snapshot(t, ing("i", rule("a.test", tt.paths...))), standalone, nil)
			for path, want := range tt.want {
				if got := where(t, tab, "a.test", path); got != want {
					t.Errorf("%s → %s, want %s", path, got, want)
				}
			}
		})
	}
}

func TestRulePathsRefused(t *testing.T) {
	t.Parallel()
	for _, p := range []model.IngressPath{
		prefix("foo"), prefix(""), exact(""), exact("/a/../b"), exact("/a%2Fb"), prefix("/a?b"), prefix("/."),
		{Path: "/a", Type: "Regex", Backend: to("x")},
	} {
		tab := Build(snapshot(t, ing("bad", rule("a.test", p, prefix("/good")))), standalone, nil)
		if len(tab.Findings) != 1 || tab.Findings[0].Severity != Error {
			t.Errorf("%s %q: findings %v, want one error", p.Type, p.Path, tab.Findings)
		}
		if got := where(t, tab, "a.test", "/good"); got != "prefix /good" {
			t.Errorf("%s %q: the path beside it goes to %s", p.Type, p.Path, got)
		}
	}
}

// FuzzPath checks Find against a matcher that splits both sides and compares elements.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/", "/foo", "/foo/", "/foo/bar", "/foo//bar", "/a/b/c/d", "/%61", "/a%2fb", "//", "/foo;x", "/.%2e"} {
		f.Add(s)
	}
	rules := []string{"/", "/foo", "/foo/bar", "/a/b/c", "/foo/bar/baz/qux"}
	var paths []model.IngressPath
	for _, p := range rules {
		paths = append(paths, prefix(p))
	}
	tab := Build(snapshot(f, ing("i", rule("", paths...))), standalone, nil)
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.ParseRequestURI(s)
		if err != nil {
			return
		}
		p, err := CanonicalPath(u)
		if err != nil {
			return
		}
		if p[0] != '/' || strings.Contains(p, "/../") || strings.HasSuffix(p, "/..") || strings.Contains(p, `\`) {
			t.Fatalf("%q passed as %q", s, p)
		}
		elements := strings.Split(p, "/")[1:]
		want := "prefix /"
		for _, r := range rules[1:] {
			re := strings.Split(r, "/")[1:]
			if len(elements) < len(re) || len(r) < len(want)-len("prefix ") {
				continue
			}
			same := true
			for i := range re {
				same = same && re[i] == elements[i]
			}
			if same {
				want = "prefix " + r
			}
		}
		r, _ := tab.Find("x", p)
		if got := tab.Backends[r.Backend].Ref.Service.Name; got != want {
			t.Fatalf("%q → %s, want %s", p, got, want)
		}
	})
}
