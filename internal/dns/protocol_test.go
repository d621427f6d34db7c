package dns_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/store"
)

// fixtureServer serves the fixture, with the standard upstream.
func fixtureServer(t testing.TB) netip.AddrPort {
	st := store.New()
	load(st, fixture(), false)
	srv := serve(t, st, dns.Config{Upstreams: []netip.AddrPort{upstream(t, standardUpstream)}})
	eventually(t, "names", func() bool {
		return ask(t, srv, "udp", "svc1.testns.svc.cluster.local", "A").Rcode == miekg.RcodeSuccess
	})
	return srv
}

// TestSizes holds rule 41: what does not fit into the client's buffer is cut with TC set, and TCP has all of it.
func TestSizes(t *testing.T) {
	t.Parallel()
	srv := fixtureServer(t)
	const large = "hdlslarge.testns.svc.cluster.local" // 300 addresses of 16 bytes
	question := 12 + len(large) + 2 + 4
	for _, c := range []struct {
		name, network, qname, qtype string
		size                        uint16 // 0: no OPT
		truncated                   bool
		answers                     int // -1: some
	}{
		{"no OPT", "udp", large, "A", 0, true, (512 - question) / 16},
		{"512", "udp", large, "A", 512, true, (512 - question - 11) / 16},
		{"below 512 is 512", "udp", large, "A", 100, true, (512 - question - 11) / 16},
		{"1232", "udp", large, "A", 1232, true, (1232 - question - 11) / 16},
		{"4096", "udp", large, "A", 4096, true, (4096 - question - 11) / 16},
		{"no more than 4096", "udp", large, "A", 65535, true, (4096 - question - 11) / 16},
		{"TCP", "tcp", large, "A", 0, false, 300},
		{"TCP with OPT", "tcp", large, "A", 512, false, 300},
		{"SRV", "udp", "_http._tcp." + large, "SRV", 1232, true, -1},
		{"SRV over TCP", "tcp", "_http._tcp." + large, "SRV", 1232, false, 300},
		{"fits", "udp", "svc1.testns.svc.cluster.local", "A", 0, false, 1},
		// The answers fit, some of the additional records do not: that is no truncation (RFC 2181 section 9).
		{"additional is optional", "udp", "_http._tcp.hdls1.testns.svc.cluster.local", "SRV", 0, false, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := new(miekg.Msg)
			m.SetQuestion(miekg.Fqdn(c.qname), miekg.StringToType[c.qtype])
			if c.size > 0 {
				m.SetEdns0(c.size, false)
			}
			in := exchange(t, srv, c.network, m)
			if in.Rcode != miekg.RcodeSuccess || in.Truncated != c.truncated {
				t.Errorf("%s, TC %v; want NOERROR, %v", miekg.RcodeToString[in.Rcode], in.Truncated, c.truncated)
			}
			if n := len(in.Answer); n != c.answers && (c.answers >= 0 || n == 0) {
				t.Errorf("%d answers, want %d", n, c.answers)
			}
			if (in.IsEdns0() != nil) != (c.size > 0) {
				t.Errorf("OPT %v in the reply to a query with size %d", in.IsEdns0(), c.size)
			}
			seen := map[string]bool{}
			for _, rr := range in.Answer {
				if seen[rr.String()] {
					t.Errorf("%v twice", rr)
				}
				seen[rr.String()] = true
			}
		})
	}
}

// TestHeader holds rule 42 and RFC 1035 and 6891 on what a reply's header takes over.
func TestHeader(t *testing.T) {
	t.Parallel()
	srv := fixtureServer(t)
	const web = "svc1.testns.svc.cluster.local."
	for _, c := range []struct {
		name   string
		change func(*miekg.Msg)
		rcode  int
		check  func(*miekg.Msg) error
	}{
		{"RD and CD come back, RA is set", func(m *miekg.Msg) { m.RecursionDesired, m.CheckingDisabled = true, true }, miekg.RcodeSuccess, func(m *miekg.Msg) error {
			if !m.RecursionDesired || !m.CheckingDisabled || !m.RecursionAvailable || m.AuthenticatedData || m.Zero {
				return fmt.Errorf("header %v", m.MsgHdr)
			}
			return nil
		}},
		{"no RD", func(m *miekg.Msg) { m.RecursionDesired = false }, miekg.RcodeSuccess, func(m *miekg.Msg) error {
			if m.RecursionDesired {
				return fmt.Errorf("RD set")
			}
			return nil
		}},
		{"DO comes back", func(m *miekg.Msg) { m.SetEdns0(1232, true) }, miekg.RcodeSuccess, func(m *miekg.Msg) error {
			if o := m.IsEdns0(); o == nil || !o.Do() || o.UDPSize() != 1232 || o.Version() != 0 {
				return fmt.Errorf("OPT %v", o)
			}
			return nil
		}},
		{"options are not echoed", func(m *miekg.Msg) {
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = append(m.IsEdns0().Option, &miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: "0123456789abcdef"})
		}, miekg.RcodeSuccess, func(m *miekg.Msg) error {
			if o := m.IsEdns0(); o == nil || len(o.Option) != 0 {
				return fmt.Errorf("OPT %v", o)
			}
			return nil
		}},
		{"EDNS version 1", func(m *miekg.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }, miekg.RcodeBadVers, func(m *miekg.Msg) error {
			if len(m.Answer) != 0 || m.IsEdns0() == nil || m.IsEdns0().Version() != 0 {
				return fmt.Errorf("%v", m)
			}
			return nil
		}},
		{"class CH", func(m *miekg.Msg) { m.Question[0].Qclass = miekg.ClassCHAOS }, miekg.RcodeRefused, nil},
		{"class ANY", func(m *miekg.Msg) { m.Question[0].Qclass = miekg.ClassANY }, miekg.RcodeRefused, nil},
		{"opcode NOTIFY", func(m *miekg.Msg) { m.Opcode = miekg.OpcodeNotify }, miekg.RcodeNotImplemented, nil},
		{"opcode UPDATE", func(m *miekg.Msg) { m.Opcode = miekg.OpcodeUpdate }, miekg.RcodeNotImplemented, nil},
		{"no question", func(m *miekg.Msg) { m.Question = nil }, miekg.RcodeFormatError, nil},
		{"two questions", func(m *miekg.Msg) { m.Question = append(m.Question, m.Question[0]) }, miekg.RcodeFormatError, nil},
		{"two OPTs", func(m *miekg.Msg) { m.SetEdns0(1232, false); m.SetEdns0(1232, false) }, miekg.RcodeFormatError, nil},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(c.name+"/"+network, func(t *testing.T) {
				m := new(miekg.Msg)
				m.SetQuestion(web, miekg.TypeA)
				c.change(m)
				in := rawExchange(t, srv, network, m)
				if in.Rcode != c.rcode || in.Id != m.Id || in.Opcode != m.Opcode {
					t.Fatalf("%v, want %s", in, miekg.RcodeToString[c.rcode])
				}
				if c.check != nil {
					if err := c.check(in); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// rawExchange does without the client's checks, some of which odd queries do not pass.
func rawExchange(t testing.TB, srv netip.AddrPort, network string, m *miekg.Msg) *miekg.Msg {
	t.Helper()
	c := dial(t, srv, network)
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	write(t, c, network, b)
	var in miekg.Msg
	if err := in.Unpack(read(t, c, network)); err != nil {
		t.Fatal(err)
	}
	return &in
}

func dial(t testing.TB, srv netip.AddrPort, network string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, srv.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func write(t testing.TB, c net.Conn, network string, b []byte) {
	t.Helper()
	if network == "tcp" {
		b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, c net.Conn, network string) []byte {
	t.Helper()
	b := make([]byte, 65535)
	if network == "tcp" {
		if _, err := io.ReadFull(c, b[:2]); err != nil {
			t.Fatal(err)
		}
		b = b[:binary.BigEndian.Uint16(b)]
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// TestSilence: what is no query gets no answer, and does not stop the server. On one socket replies come in the order of
// queries, so the answer to a good one that follows shows that there was none before.
func TestSilence(t *testing.T) {
	t.Parallel()
	srv := fixtureServer(t)
	good, _ := message("svc1.testns.svc.cluster.local", "A").Pack()
	response := bytes.Clone(good)
	response[2] |= 0x80
	for name, bad := range map[string][]byte{
		"one byte": {1}, "eleven bytes": good[:11], "a response": response, "long": make([]byte, 3000), "empty": {},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, srv, "udp")
			write(t, c, "udp", bad)
			write(t, c, "udp", good)
			if got := read(t, c, "udp"); !bytes.Equal(got[:2], good[:2]) || got[3]&15 != 0 {
				t.Errorf("% x", got)
			}
		})
	}
}

// TestMangled: a query that is cut anywhere, or has one byte turned, is answered or not, but the server goes on.
func TestMangled(t *testing.T) {
	t.Parallel()
	srv := fixtureServer(t)
	good, _ := message("_http._tcp.hdls1.testns.svc.cluster.local", "SRV").Pack()
	c := dial(t, srv, "udp")
	for i := range good {
		write(t, c, "udp", good[:i])
		turned := bytes.Clone(good)
		turned[i] ^= 0xff
		write(t, c, "udp", turned)
	}
	if got := render(t, ask(t, srv, "udp", "svc1.testns.svc.cluster.local", "A")); got != "NOERROR aa: @ A 10.0.0.1" {
		t.Error(got)
	}
}

// TestRotation: every address comes first equally often, over any number of questions for other types in between.
func TestRotation(t *testing.T) {
	t.Parallel()
	srv := fixtureServer(t)
	first := map[string]int{}
	for range 30 {
		first[ask(t, srv, "udp", "hdls4.testns.svc.cluster.local", "A").Answer[0].(*miekg.A).A.String()]++
		ask(t, srv, "udp", "hdls4.testns.svc.cluster.local", "AAAA")
	}
	for _, a := range []string{"172.0.4.1", "172.0.4.2", "172.0.4.3"} {
		if first[a] != 10 {
			t.Errorf("%s came first %d times in 30: %v", a, first[a], first)
		}
	}
}

// TestPipeline: many queries in one write over one connection, in pieces of any size, are all answered; those for an upstream in
// whatever order.
func TestPipeline(t *testing.T) {
	t.Parallel()
	srv := fixtureServer(t)
	want := map[uint16]string{}
	var stream []byte
	for i := range 200 {
		m := message("svc1.testns.svc.cluster.local", "A")
		answer := "NOERROR aa: @ A 10.0.0.1"
		if i%3 == 0 {
			m, answer = message("example.com", "A"), "NOERROR: @ A 5.6.7.8"
		}
		m.Id = uint16(i)
		want[m.Id] = answer
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(b))), b...)
	}
	for _, piece := range []int{len(stream), 1, 7, 1000} {
		c := dial(t, srv, "tcp")
		go func() {
			for rest := stream; len(rest) > 0; {
				n := min(piece, len(rest))
				if _, err := c.Write(rest[:n]); err != nil {
					return // the reader sees it
				}
				rest = rest[n:]
			}
		}()
		seen := map[uint16]bool{}
		for range want {
			var m miekg.Msg
			if err := m.Unpack(read(t, c, "tcp")); err != nil {
				t.Fatal(err)
			}
			if got := render(t, &m); got != want[m.Id] || seen[m.Id] {
				t.Errorf("id %d: %s, want %s, once", m.Id, got, want[m.Id])
			}
			seen[m.Id] = true
		}
	}
}

// TestWildcardAddress: a server on every address answers from the one that was asked; a connected socket takes no other.
func TestWildcardAddress(t *testing.T) {
	t.Parallel()
	for listen, targets := range map[string][]string{
		"0.0.0.0:0": {"127.0.0.1", "127.9.8.7"},
		"[::]:0":    {"::1", "127.0.0.1", "127.9.8.7"},
	} {
		st := store.New()
		load(st, fixture(), false)
		srv := serve(t, st, dns.Config{
			Listen: []netip.AddrPort{netip.MustParseAddrPort(listen)}, Upstreams: []netip.AddrPort{upstream(t, standardUpstream)},
		})
		for _, a := range targets {
			to := netip.AddrPortFrom(ip(a), srv.Port())
			for _, network := range []string{"udp", "tcp"} {
				eventually(t, "names", func() bool {
					return ask(t, to, network, "svc1.testns.svc.cluster.local", "A").Rcode == miekg.RcodeSuccess
				})
				if got := render(t, ask(t, to, network, "example.com", "A")); got != "NOERROR: @ A 5.6.7.8" {
					t.Errorf("%s over %s at %s: %s", listen, network, a, got)
				}
			}
		}
	}
}
