package compile

import (
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	t.Parallel()
	all := snapshot(t,
		ing("exact", rule("foo.com", prefix("/foo"))),
		ing("wild", rule("*.foo.com", prefix("/"))),
		ing("sub", rule("www.foo.com", prefix("/www"))),
		ing("every", rule("", prefix("/any"))),
	)
	without := snapshot(t, ing("wild", rule("*.foo.com", prefix("/"))))
	for _, tt := range []struct {
		rule, host, path, want string
		every                  bool
	}{
		{"H1 port and case", "FOO.com:8080", "/foo", "prefix /foo", true},
		{"H1 final dot", "foo.com.", "/foo", "prefix /foo", true},
		{"H2 one label", "bar.foo.com", "/x", "prefix /", false},
		{"H2 two labels", "baz.bar.foo.com", "/x", "404", false},
		{"H2 no label", "foo.com", "/x", "404", false},
		{"H2 empty label", ".foo.com", "/x", "404", false},
		{"H4 every host", "other.org", "/any", "prefix /any", true},
		{"H4 an address", "10.0.0.1:80", "/any", "prefix /any", true},
		{"H4 an IPv6 address", "[fd00::1]:80", "/any", "prefix /any", true},
		{"H4 no host", "", "/any", "prefix /any", true},
		{"H5 exact before wildcard", "www.foo.com", "/www", "prefix /www", true},
		{"H5 wildcard before every", "bar.foo.com", "/any", "prefix /", true},
		{"H6 no fall-through to the wildcard", "www.foo.com", "/x", "404", true},
		{"H6 no fall-through to every host", "foo.com", "/any", "404", true},
		{"not a host", "foo.com/x", "/any", "400", true},
		{"not a host", "a b", "/any", "400", true},
		{"not a port", "foo.com:80a", "/any", "400", true},
		{"user info", "x@foo.com", "/any", "400", true},
	} {
		snap := without
		if tt.every {
			snap = all
		}
		if got := where(t, Build(snap, standalone, nil), tt.host, tt.path); got != tt.want {
			t.Errorf("%s: %s%s → %s, want %s", tt.rule, tt.host, tt.path, got, tt.want)
		}
	}
}

// TestRuleHostsRefused is H3, with what names no DNS host at all.
func TestRuleHostsRefused(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"*", "*.", "a.*.com", "*a.com", "10.0.0.1", "::1", "foo.com:80", "a..b", "-a.com", "A.com", "a_b.com", "a/b", strings.Repeat("a", 64) + ".com"} {
		tab := Build(snapshot(t, ing("bad", rule(host, prefix("/")), rule("good.com", prefix("/good")))), standalone, nil)
		if len(tab.Findings) != 1 || tab.Findings[0].Severity != Error || !strings.Contains(tab.Findings[0].Message, host) {
			t.Errorf("host %q: findings %v, want one error that names it", host, tab.Findings)
		}
		if got := where(t, tab, "good.com", "/good"); got != "prefix /good" {
			t.Errorf("host %q: the rule beside it goes to %s", host, got)
		}
	}
}

// FuzzHost: what passes is in canonical form, and canonical once and for all.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"a.com", "A.com:80", "[::1]:80", "a.com.", "", ":80", "a:b", "[::1", "*.a.com", "a\r\nb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, ok := CanonicalHost(s)
		if !ok {
			return
		}
		if strings.ContainsAny(h, " \t\r\n/\\@?#*,") || h != strings.ToLower(h) {
			t.Fatalf("%q passed as %q", s, h)
		}
		// One final dot is taken off; a second one makes a name that no rule can have.
		if again, ok := CanonicalHost(h); !strings.HasSuffix(h, ".") && (!ok || again != h) {
			t.Fatalf("%q → %q → %q", s, h, again)
		}
	})
}
