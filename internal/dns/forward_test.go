package dns_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	miekg "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/store"
)

// logBuffer is where a test reads what was logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// deadPort gives an address where nobody listens, at a port that is free on every address.
func deadPort(t testing.TB) netip.AddrPort {
	pc, l := bothSockets(t, "::")
	defer pc.Close()
	defer l.Close()
	return netip.AddrPortFrom(ip("127.0.0.1"), pc.LocalAddr().(*net.UDPAddr).AddrPort().Port())
}

// numbered answers A questions with its own address, or with a code.
func numbered(code int, a string) miekg.HandlerFunc {
	return func(w miekg.ResponseWriter, q *miekg.Msg) {
		m := new(miekg.Msg)
		m.SetRcode(q, code)
		if a != "" {
			rr, err := miekg.NewRR(q.Question[0].Name + " 5 IN A " + a)
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	}
}

// TestUpstreams: which of several upstreams answers in the end.
func TestUpstreams(t *testing.T) {
	t.Parallel()
	good := upstream(t, numbered(miekg.RcodeSuccess, "1.1.1.1"))
	broken := upstream(t, numbered(miekg.RcodeServerFailure, ""))
	refusing := upstream(t, numbered(miekg.RcodeRefused, ""))
	negative := upstream(t, numbered(miekg.RcodeNameError, ""))
	dead := deadPort(t)
	for _, c := range []struct {
		name string
		list []netip.AddrPort
		want string
	}{
		{"one", []netip.AddrPort{good}, "NOERROR: @ A 1.1.1.1"},
		{"none", nil, "SERVFAIL:"},
		{"dead", []netip.AddrPort{dead}, "SERVFAIL:"},
		{"dead, good", []netip.AddrPort{dead, good}, "NOERROR: @ A 1.1.1.1"},
		{"broken, good", []netip.AddrPort{broken, good}, "NOERROR: @ A 1.1.1.1"},
		{"refusing, dead, good", []netip.AddrPort{refusing, dead, good}, "NOERROR: @ A 1.1.1.1"},
		{"refusing", []netip.AddrPort{refusing}, "REFUSED:"},
		{"broken, dead", []netip.AddrPort{broken, dead}, "SERVFAIL:"},
		{"a denial is an answer", []netip.AddrPort{negative, good}, "NXDOMAIN:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := serve(t, store.New(), dns.Config{Upstreams: c.list})
			eventually(t, "sync", func() bool { return rcode(t, srv, "x.a.svc.cluster.local") == "NXDOMAIN" })
			for _, network := range []string{"udp", "tcp"} {
				if got := render(t, ask(t, srv, network, "example.org", "A")); got != c.want {
					t.Errorf("%s: %s, want %s", network, got, c.want)
				}
			}
			if got := ask(t, srv, "udp", "x.a.svc.cluster.local", "A").RecursionAvailable; got != (len(c.list) > 0) {
				t.Errorf("RA %v with %d upstreams", got, len(c.list))
			}
		})
	}
}

// TestUpstreamTruncates: what is too large for the upstream's UDP comes over its TCP, once, and goes to each client as far as it
// has room.
func TestUpstreamTruncates(t *testing.T) {
	t.Parallel()
	var overTCP atomic.Int32
	up := upstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		m := new(miekg.Msg)
		m.SetReply(q)
		n := 100
		if strings.HasPrefix(strings.ToLower(q.Question[0].Name), "huge") {
			n = 500
		}
		for i := range n {
			m.Answer = append(m.Answer, &miekg.A{Hdr: miekg.RR_Header{Name: q.Question[0].Name, Rrtype: miekg.TypeA, Class: miekg.ClassINET, Ttl: 5}, A: net.IPv4(10, 0, byte(i>>8), byte(i))})
		}
		m.Compress = true
		if w.LocalAddr().Network() == "udp" {
			m.Answer, m.Truncated = m.Answer[:5], true
		} else if q.Question[0].Qtype == miekg.TypeA {
			overTCP.Add(1)
		}
		_ = w.WriteMsg(m)
	})
	srv := serve(t, store.New(), dns.Config{Upstreams: []netip.AddrPort{up}})
	for _, c := range []struct {
		network, name string
		size          uint16
		truncated     bool
		answers       int
		tcp           int32
	}{
		{"udp", "large.test", 0, true, 30, 1},
		{"udp", "large.test", 4096, false, 100, 0},
		{"udp", "huge.test", 4096, true, 253, 1},
		{"tcp", "large2.test", 0, false, 100, 1},
		{"tcp", "huge.test", 1232, false, 500, 0},
	} {
		before := overTCP.Load()
		m := new(miekg.Msg)
		m.SetQuestion(miekg.Fqdn(c.name), miekg.TypeA)
		if c.size > 0 {
			m.SetEdns0(c.size, false)
		}
		in := exchange(t, srv, c.network, m)
		if in.Truncated != c.truncated || len(in.Answer) != c.answers || overTCP.Load()-before != c.tcp {
			t.Errorf("%s %s size %d: TC %v, %d answers, %d times TCP; want %v, %d, %d",
				c.network, c.name, c.size, in.Truncated, len(in.Answer), overTCP.Load()-before, c.truncated, c.answers, c.tcp)
		}
	}
}

// TestForged: a response with another identifier or question is passed over.
func TestForged(t *testing.T) {
	t.Parallel()
	up := upstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		send := func(change func(*miekg.Msg), a string) {
			m := new(miekg.Msg)
			m.SetReply(q)
			rr, err := miekg.NewRR("bank.test. 5 IN A " + a)
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
			change(m)
			_ = w.WriteMsg(m)
		}
		send(func(m *miekg.Msg) { m.Id++ }, "6.6.6.1")
		send(func(m *miekg.Msg) { m.Question[0].Name = "other.test." }, "6.6.6.2")
		send(func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeAAAA }, "6.6.6.3")
		send(func(m *miekg.Msg) { m.Response = false }, "6.6.6.4")
		send(func(m *miekg.Msg) { m.Question = nil }, "6.6.6.5")
		send(func(*miekg.Msg) {}, "5.5.5.5")
	})
	srv := serve(t, store.New(), dns.Config{Upstreams: []netip.AddrPort{up}})
	if got := render(t, ask(t, srv, "udp", "bank.test", "A")); got != "NOERROR: @ A 5.5.5.5" {
		t.Error(got)
	}
}

// TestIdentifiers: neither identifiers nor ports of questions to upstreams are the client's or follow one another.
func TestIdentifiers(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	ids, ports := map[uint16]bool{}, map[string]bool{}
	up := upstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		mu.Lock()
		ids[q.Id], ports[w.RemoteAddr().String()] = true, true
		mu.Unlock()
		standardUpstream(w, q)
	})
	srv := serve(t, store.New(), dns.Config{Upstreams: []netip.AddrPort{up}})
	for i := range 50 {
		m := message(fmt.Sprintf("n%d.example.com", i), "A")
		m.Id = 7
		if in := exchange(t, srv, "udp", m); in.Id != 7 || in.Rcode != miekg.RcodeNameError {
			t.Fatalf("%v", in)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	// Of 50 numbers out of 65,536 a few may meet; far fewer than 45 different ones would be no accident.
	if len(ids) < 45 || len(ports) < 40 {
		t.Errorf("%d identifiers and %d ports in 50 questions", len(ids), len(ports))
	}
}

// TestLoop: an upstream that is the server itself, by any of its addresses, is not asked; that is said once.
func TestLoop(t *testing.T) {
	t.Parallel()
	st := store.New()
	load(st, fixture(), false)
	for _, c := range []struct{ listen, upstream string }{
		{"127.0.0.1", "127.0.0.1"}, {"0.0.0.0", "127.0.0.1"}, {"::", "::1"}, {"::", "127.0.0.1"}, {"127.0.0.1", "::ffff:127.0.0.1"},
	} {
		var log logBuffer
		port := deadPort(t).Port()
		self := netip.AddrPortFrom(ip(c.upstream), port)
		srv := serve(t, st, dns.Config{
			Listen: []netip.AddrPort{netip.AddrPortFrom(ip(c.listen), port)}, Upstreams: []netip.AddrPort{self},
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		to := netip.AddrPortFrom(ip(c.upstream).Unmap(), srv.Port())
		for range 3 {
			if got := render(t, ask(t, to, "udp", "example.com", "A")); got != "SERVFAIL:" {
				t.Errorf("listen %s, upstream %s: %s", c.listen, c.upstream, got)
			}
		}
		if n := strings.Count(log.String(), "this server itself"); n != 1 {
			t.Errorf("listen %s: said %d times:\n%s", c.listen, n, log.String())
		}
	}
	// The cluster address of the DNS Service is this server too.
	var log logBuffer
	srv := serve(t, st, dns.Config{Upstreams: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.10:53")}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if got := render(t, ask(t, srv, "udp", "example.com", "A")); got != "SERVFAIL:" || !strings.Contains(log.String(), "10.0.0.10:53 is this server itself") {
		t.Errorf("cluster address: %s\n%s", got, log.String())
	}
}

// TestResolvConf: the resolvers are those of the file, also after it has changed; when it goes away the last ones stay. Nobody can
// answer at port 53 here, so the log tells what was read.
func TestResolvConf(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	st := store.New()
	load(st, fixture(), false)
	var log logBuffer
	write("# made by hand\nsearch example.com\nnameserver 10.0.0.10\nnameserver nonsense\nnameserver\n")
	srv := serve(t, st, dns.Config{ResolvConf: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	said := func(what string) func() bool {
		return func() bool {
			ask(t, srv, "udp", "example.com", "A")
			return strings.Contains(log.String(), what)
		}
	}
	eventually(t, "first file", said("10.0.0.10:53 is this server itself"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no file", said("resolvers read before stay"))
}
