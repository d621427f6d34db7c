package wire_test

import (
	"testing"

	miekg "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns/wire"
)

// responses are messages of all kinds that carry names in their data.
func responses(t testing.TB) (out [][]byte) {
	for _, rrs := range [][]string{
		{"x.test. 5 IN A 1.2.3.4"},
		{"x.test. 5 IN CNAME a.y.test.", "a.y.test. 5 IN CNAME b.y.test.", "b.y.test. 5 IN AAAA 2001:db8::1"},
		{"x.test. 5 IN MX 10 mail.x.test.", "x.test. 5 IN MX 20 mail.y.test.", "x.test. 5 IN NS ns.x.test.", "x.test. 5 IN PTR z.test."},
		{"x.test. 5 IN SOA ns.x.test. admin.x.test. 1 2 3 4 5", "x.test. 5 IN SRV 0 5 80 a.x.test.", `x.test. 5 IN TXT "a" "b c"`},
		{"x.test. 5 IN DNAME y.test.", "x.test. 5 IN RP a.test. b.test.", "x.test. 5 IN AFSDB 1 a.test.", "x.test. 5 IN KX 1 a.test.", "x.test. 5 IN MINFO a.test. b.test."},
		{"x.test. 5 IN HTTPS 1 . alpn=h2", `x.test. 5 IN NAPTR 100 50 "s" "z" "" _z._tcp.test.`, "x.test. 5 IN CAA 0 issue \"ca.test\""},
	} {
		m := new(miekg.Msg)
		m.SetQuestion("x.test.", miekg.TypeA)
		m.Response, m.Compress = true, true
		for _, s := range rrs {
			rr, err := miekg.NewRR(s)
			if err != nil {
				t.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		m.SetEdns0(1232, true)
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// replayed parses a message, packs it and writes it out again as the reply to a query for x.test.
func replayed(t testing.TB, msg []byte, limit int) ([]byte, bool) {
	t.Helper()
	m, err := wire.ParseMessage(msg)
	if err != nil {
		return nil, false
	}
	name, err := wire.EncodeName(nil, "x.test")
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	if code, ok := q.Parse(wire.AppendQuery(nil, 7, name, wire.TypeA)); !ok || code != wire.NoError {
		t.Fatal(code)
	}
	body := m.Pack(name)
	return q.Replay(nil, limit, &body, wire.Aged{Rcode: m.Rcode & 15, Age: 1, Turn: 3}), true
}

// TestRepacked: what was read and written again says the same to an independent decoder, one second older.
func TestRepacked(t *testing.T) {
	for _, b := range responses(t) {
		var before, after miekg.Msg
		if err := before.Unpack(b); err != nil {
			t.Fatal(err)
		}
		out, ok := replayed(t, b, wire.MaxMessage)
		if !ok {
			t.Fatalf("not read: %v", &before)
		}
		if err := after.Unpack(out); err != nil {
			t.Fatal(err)
		}
		if len(after.Answer) != len(before.Answer) {
			t.Fatalf("%v\n%v", &before, &after)
		}
		for i, rr := range before.Answer {
			rr.Header().Ttl--
			if rr.String() != after.Answer[i].String() {
				t.Errorf("%s became %s", rr, after.Answer[i])
			}
		}
	}
}

// FuzzMessage: whatever is read can be written again, within the limit and well-formed, and reads as the same number of records.
func FuzzMessage(f *testing.F) {
	for _, b := range responses(f) {
		f.Add(b, uint16(512))
		f.Add(b, uint16(65535))
	}
	f.Fuzz(func(t *testing.T, msg []byte, limit uint16) {
		room := max(int(limit), wire.MinUDP)
		out, ok := replayed(t, msg, room)
		if !ok {
			return
		}
		if len(out) > room {
			t.Fatalf("%d bytes of at most %d", len(out), room)
		}
		first, err := wire.ParseMessage(out)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if room == 65535 && !first.Truncated {
			m, err := wire.ParseMessage(msg)
			if err != nil {
				t.Fatal(err)
			}
			for s := range m.Sections {
				if len(m.Sections[s]) != len(first.Sections[s]) {
					t.Fatalf("section %d: %d records became %d", s, len(m.Sections[s]), len(first.Sections[s]))
				}
			}
		}
	})
}
