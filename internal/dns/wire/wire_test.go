package wire_test

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	miekg "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns/wire"
)

func pack(t testing.TB, m *miekg.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEncodeName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 63)
	for in, want := range map[string]string{
		"":               "\x00",
		".":              "\x00",
		"a":              "\x01a\x00",
		"Cluster.Local.": "\x07cluster\x05local\x00",
		long:             "\x3f" + long + "\x00",
		"a..b":           "",
		"..":             "",
		".a":             "",
		long + "x":       "",
		strings.Repeat(long+".", 3) + strings.Repeat("y", 61): strings.Repeat("\x3f"+long, 3) + "\x3d" + strings.Repeat("y", 61) + "\x00",
		strings.Repeat(long+".", 3) + strings.Repeat("y", 62): "",
	} {
		got, err := wire.EncodeName(nil, in)
		if (err != nil) != (want == "") || string(got) != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
		if err == nil {
			if s := wire.NameString(got); !strings.EqualFold(s, miekg.Fqdn(in)) {
				t.Errorf("%q comes back as %q", in, s)
			}
		}
	}
}

// TestEachAnswer reads compressed responses, names within data too, and compares with what went in.
func TestEachAnswer(t *testing.T) {
	t.Parallel()
	m := new(miekg.Msg)
	m.SetQuestion("www.example.com.", miekg.TypeA)
	m.Response, m.Compress = true, true
	for _, s := range []string{
		"www.example.com. 60 IN CNAME web.example.com.", "web.example.com. 61 IN A 1.2.3.4", "web.example.com. 61 IN AAAA fd00::1",
		"example.com. 62 IN MX 10 mail.example.com.", "example.com. 62 IN NS ns.example.com.", "x.example.com. 63 IN SRV 1 2 3 web.example.com.",
		"example.com. 64 IN SOA ns.example.com. root.example.com. 1 2 3 4 5", "example.com. 65 IN TXT \"www.example.com\"", "1.example.com. 66 IN PTR web.example.com.",
		"d.example.com. 67 IN DNAME e.example.com.",
	} {
		rr, err := miekg.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	var want, got []string
	for _, rr := range m.Answer {
		want = append(want, rr.String())
	}
	packed := pack(t, m)
	err := wire.EachAnswer(packed, func(owner []byte, typ wire.Type, ttl uint32, data []byte) bool {
		b := append(bytes.Clone(owner), byte(typ>>8), byte(typ), 0, 1, byte(ttl>>24), byte(ttl>>16), byte(ttl>>8), byte(ttl), byte(len(data)>>8), byte(len(data)))
		rr, _, err := miekg.UnpackRR(append(b, data...), 0)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, rr.String())
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for n := range packed { // cut anywhere: an error, or fewer records when the cut is behind the last
		if wire.EachAnswer(packed[:n], func([]byte, wire.Type, uint32, []byte) bool { return true }) == nil && n >= wire.HeaderLen {
			t.Errorf("cut at %d of %d: no error", n, len(packed))
		}
	}
}

// TestPointerLoop: names that point at themselves, at each other or forward end in an error.
func TestPointerLoop(t *testing.T) {
	t.Parallel()
	head := "\x00\x01\x80\x00\x00\x00\x00\x01\x00\x00\x00\x00"
	tail := "\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x01\x02\x03\x04"
	for _, name := range []string{"\xc0\x0c", "\x01a\xc0\x0c", "\xc0\x0e\xc0\x0c", "\xc0\x20", "\xff\xff", "\x40", "\x80a"} {
		if err := wire.EachAnswer([]byte(head+name+tail), func([]byte, wire.Type, uint32, []byte) bool { return true }); err == nil {
			t.Errorf("% x: no error", name)
		}
	}
}

// TestTruncate leaves a message that says what was asked and that there is more.
func TestTruncate(t *testing.T) {
	t.Parallel()
	m := new(miekg.Msg)
	m.SetQuestion("www.example.com.", miekg.TypeA)
	m.Response = true
	m.SetEdns0(1232, false)
	m.Answer = append(m.Answer, &miekg.A{Hdr: miekg.RR_Header{Name: "www.example.com.", Rrtype: miekg.TypeA, Class: 1}, A: net.IPv4(1, 2, 3, 4)})
	var out miekg.Msg
	if err := out.Unpack(wire.Truncate(pack(t, m))); err != nil {
		t.Fatal(err)
	}
	if !out.Truncated || len(out.Answer)+len(out.Extra) != 0 || len(out.Question) != 1 || out.Question[0] != m.Question[0] {
		t.Errorf("%v", &out)
	}
}

// FuzzParse looks for panics, for queries that another decoder reads differently, and for replies to them that it cannot read.
func FuzzParse(f *testing.F) {
	for _, name := range []string{".", "a.", "svc1.testns.svc.cluster.local.", "_http._tcp.x.y.svc.cluster.local.", strings.Repeat("a.", 127)} {
		m := new(miekg.Msg)
		m.SetQuestion(name, miekg.TypeA)
		f.Add(pack(f, m))
		m.SetEdns0(1232, true)
		f.Add(pack(f, m))
		m.Question = append(m.Question, m.Question[0])
		f.Add(pack(f, m))
	}
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\xff\xff\x00\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var q wire.Query
		code, ok := q.Parse(b)
		if !ok {
			return
		}
		var r wire.Reply
		r.Start(&q, nil, wire.MinUDP)
		r.Rcode = code
		r.Record(wire.Answer, wire.Question, wire.TypeTXT, 5, make([]byte, 100))
		reply := r.Finish()
		if len(reply) > wire.MinUDP {
			t.Errorf("%d bytes", len(reply))
		}
		if q.End == 0 {
			return
		}
		var parser miekg.Msg
		if err := parser.Unpack(b); err == nil && code == wire.NoError {
			if got, want := wire.NameString(q.Lower()), strings.ToLower(parser.Question[0].Name); !sameName(t, got, want) ||
				uint16(q.Type) != parser.Question[0].Qtype || q.EDNS != (parser.IsEdns0() != nil) {
				t.Errorf("read %q %d EDNS %v, other decoder says %q %d EDNS %v", got, q.Type, q.EDNS, want, parser.Question[0].Qtype, parser.IsEdns0() != nil)
			}
		}
		labels := 0
		for i := range q.Labels() {
			labels += 1 + int(q.Lower()[q.Labels()[i]])
		}
		if labels+1 != len(q.Name) || len(q.Name) > wire.MaxName {
			t.Errorf("labels of %d bytes in a name of %d", labels, len(q.Name))
		}
		q2 := wire.Query{}
		if !wire.Responds(b, reply) && code == wire.NoError {
			t.Error("the reply is none to the query")
		}
		if _, ok := q2.Parse(reply); ok {
			t.Error("a reply is read as a query")
		}
	})
}

// sameName compares names by their bytes: the two decoders escape differently.
func sameName(t *testing.T, a, b string) bool {
	pa, pb := make([]byte, 512), make([]byte, 512)
	na, errA := miekg.PackDomainName(a, pa, 0, nil, false)
	nb, errB := miekg.PackDomainName(b, pb, 0, nil, false)
	if errA != nil || errB != nil {
		t.Fatalf("%q: %v, %q: %v", a, errA, b, errB)
	}
	return bytes.EqualFold(pa[:na], pb[:nb])
}

// FuzzEachAnswer looks for panics and endless loops in what an upstream may send.
func FuzzEachAnswer(f *testing.F) {
	m := new(miekg.Msg)
	m.SetQuestion("www.example.com.", miekg.TypeA)
	m.Response, m.Compress = true, true
	rr, err := miekg.NewRR("www.example.com. 60 IN CNAME web.example.com.")
	if err != nil {
		f.Fatal(err)
	}
	m.Answer = append(m.Answer, rr, rr)
	f.Add(pack(f, m))
	f.Add([]byte("\x00\x01\x80\x00\x00\x00\x00\x01\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x01\x02\x03\x04"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = wire.EachAnswer(b, func(owner []byte, _ wire.Type, _ uint32, _ []byte) bool {
			if len(owner) > wire.MaxName {
				t.Errorf("name of %d bytes", len(owner))
			}
			return true
		})
		if len(b) >= wire.HeaderLen {
			wire.Responds(b, b)
			if got := wire.Truncate(bytes.Clone(b)); len(got) > len(b) {
				t.Error("longer than before")
			}
		}
	})
}
