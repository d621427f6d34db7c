package static_test

import (
	"strings"
	"testing"

	miekg "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns/static"
	"fairway.dev/fairway/internal/dns/wire"
)

// ask puts a question to f and renders what comes: the code, then each record, "!" before authority, "+" before additional ones.
func ask(t *testing.T, f func(*wire.Query, *wire.Reply) string, name, qtype string) string {
	t.Helper()
	m := new(miekg.Msg)
	m.SetQuestion(miekg.Fqdn(name), miekg.StringToType[qtype])
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	var r wire.Reply
	if code, ok := q.Parse(b); !ok || code != wire.NoError {
		t.Fatal(code)
	}
	r.Start(&q, nil, 4096)
	extra := f(&q, &r)
	out := new(miekg.Msg)
	if err := out.Unpack(r.Finish()); err != nil {
		t.Fatal(err)
	}
	s := []string{miekg.RcodeToString[out.Rcode]}
	if out.Authoritative {
		s[0] += " aa"
	}
	for i, rrs := range [][]miekg.RR{out.Answer, out.Ns, out.Extra} {
		for _, rr := range rrs {
			s = append(s, []string{"", "!", "+"}[i]+strings.ReplaceAll(rr.String(), "\t", " "))
		}
	}
	return strings.Join(append(s, extra), "; ")
}

const text = `
$TTL 300
@       IN SOA ns1 admin ( 1 7200 1800
                           86400 60 ) ; the last one is for denials
        IN NS  ns1
ns1     IN A   192.0.2.1
www 120 IN A   192.0.2.2
        IN AAAA 2001:db8::2
alias   IN CNAME www
outside IN CNAME www.example.com.
ring    IN CNAME ring
deep.er IN TXT "a b" "c\"d"
*.wild  IN A   192.0.2.9
one.wild IN TXT "x"
sub     IN NS  ns.sub
ns.sub  IN A   192.0.2.77
mail    IN MX  10 www
`

func TestZone(t *testing.T) {
	origin, err := wire.EncodeName(nil, "example.org")
	if err != nil {
		t.Fatal(err)
	}
	z, err := static.ParseZone(origin, "db.example.org", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	const soa = "; !example.org. 60 IN SOA ns1.example.org. admin.example.org. 1 7200 1800 86400 60; "
	for _, c := range [][3]string{
		{"www.example.org", "A", "NOERROR aa; www.example.org. 120 IN A 192.0.2.2; "},
		{"WWW.Example.org", "AAAA", "NOERROR aa; WWW.Example.org. 300 IN AAAA 2001:db8::2; "},
		{"www.example.org", "MX", "NOERROR aa" + soa},
		{"none.example.org", "A", "NXDOMAIN aa" + soa},
		{"er.example.org", "A", "NOERROR aa" + soa},
		{"deep.er.example.org", "TXT", `NOERROR aa; deep.er.example.org. 300 IN TXT "a b" "c\"d"; `},
		{"alias.example.org", "A", "NOERROR aa; alias.example.org. 300 IN CNAME www.example.org.; www.example.org. 120 IN A 192.0.2.2; "},
		{"alias.example.org", "MX", "NOERROR aa; alias.example.org. 300 IN CNAME www.example.org." + soa},
		{"alias.example.org", "CNAME", "NOERROR aa; alias.example.org. 300 IN CNAME www.example.org.; "},
		{"outside.example.org", "A", "NOERROR aa; outside.example.org. 300 IN CNAME www.example.com.; www.example.com."},
		{"x.wild.example.org", "A", "NOERROR aa; x.wild.example.org. 300 IN A 192.0.2.9; "},
		{"x.y.wild.example.org", "A", "NOERROR aa; x.y.wild.example.org. 300 IN A 192.0.2.9; "},
		{"one.wild.example.org", "A", "NOERROR aa" + soa},
		{"x.one.wild.example.org", "A", "NXDOMAIN aa" + soa},
		{"a.sub.example.org", "A", "NOERROR; !sub.example.org. 300 IN NS ns.sub.example.org.; +ns.sub.example.org. 300 IN A 192.0.2.77; "},
		{"example.org", "NS", "NOERROR aa; example.org. 300 IN NS ns1.example.org.; "},
		{"example.org", "SOA", "NOERROR aa; example.org. 300 IN SOA ns1.example.org. admin.example.org. 1 7200 1800 86400 60; "},
		{"example.org", "AXFR", "REFUSED; "},
	} {
		got := ask(t, func(q *wire.Query, r *wire.Reply) string {
			if !z.Has(q.Lower()) {
				t.Errorf("%s is not in the zone", c[0])
			}
			if target := z.Answer(q, r); target != nil {
				return wire.NameString(target)
			}
			return ""
		}, c[0], c[1])
		if got != c[2] {
			t.Errorf("%s %s:\n  %s\nwant\n  %s", c[0], c[1], got, c[2])
		}
	}
	if got := ask(t, func(q *wire.Query, r *wire.Reply) string { z.Answer(q, r); return "" }, "ring.example.org", "A"); !strings.HasPrefix(got, "NOERROR aa; ring") {
		t.Error(got)
	}
	for bad, want := range map[string]string{
		"":                                 "zone example.org. has 0 SOA records",
		text + "bad IN A nonsense\n":       "db:",
		text + "www.other. IN A 1.2.3.4\n": "it is outside of the zone example.org.",
		text + "www IN CNAME alias\n":      "www.example.org.: it is an alias and has other records",
		text + "$INCLUDE /etc/passwd\n":    "$INCLUDE",
		text + "x CH TXT y\n":              "only IN is served",
	} {
		if _, err := static.ParseZone(origin, "db", []byte(bad)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestHosts(t *testing.T) {
	h := static.NewHosts(60, true)
	if err := h.Add("hosts", []byte("# mine\n192.0.2.1 one.example One\n192.0.2.2\tone.example # two\n2001:db8::1 six.example\n\n")); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][3]string{
		{"ONE.example", "A", "NOERROR aa; ONE.example. 60 IN A 192.0.2.1; ONE.example. 60 IN A 192.0.2.2; "},
		{"one", "A", "NOERROR aa; one. 60 IN A 192.0.2.1; "},
		{"one.example", "AAAA", "NOERROR aa; "},
		{"six.example", "AAAA", "NOERROR aa; six.example. 60 IN AAAA 2001:db8::1; "},
		{"two.example", "A", "NOERROR; not here"},
		{"1.2.0.192.in-addr.arpa", "PTR", "NOERROR aa; 1.2.0.192.in-addr.arpa. 60 IN PTR one.example.; 1.2.0.192.in-addr.arpa. 60 IN PTR one.; "},
		{"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR", "NOERROR aa; 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 60 IN PTR six.example.; "},
		{"3.2.0.192.in-addr.arpa", "PTR", "NOERROR; not here"},
	} {
		got := ask(t, func(q *wire.Query, r *wire.Reply) string {
			if !h.Answer(q, r) {
				return "not here"
			}
			return ""
		}, c[0], c[1])
		if got != c[2] {
			t.Errorf("%s %s: %s, want %s", c[0], c[1], got, c[2])
		}
	}
	for bad, want := range map[string]string{
		"\nnonsense a":      `hosts:2: "nonsense" is no address`,
		"192.0.2.1":         "hosts:1: 192.0.2.1 has no name",
		"192.0.2.1 a..b":    `hosts:1: "a..b" is no name`,
		"fe80::1%eth0 link": "is no address",
	} {
		if err := static.NewHosts(60, false).Add("hosts", []byte(bad)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
