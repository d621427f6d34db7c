package dns_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/dns/config"
	"fairway.dev/fairway/internal/store"
)

// settings reads a configuration.
func settings(t testing.TB, text string) *config.File {
	t.Helper()
	f, err := config.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// brief is a response's code and the data of its answers.
func brief(m *miekg.Msg) string {
	s := miekg.RcodeToString[m.Rcode]
	for _, rr := range m.Answer {
		s += " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	return s
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// counting is an upstream that answers A questions with an address and a TTL, and counts them.
func counting(t testing.TB, address string, ttl int, asked *atomic.Int32) netip.AddrPort {
	return upstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		m := new(miekg.Msg)
		m.SetReply(q)
		if q.Question[0].Qtype == miekg.TypeA {
			asked.Add(1)
			rr, err := miekg.NewRR(fmt.Sprintf("%s %d IN A %s", q.Question[0].Name, ttl, address))
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})
}

// TestLayers: hosts, rewrites, zones, stubs, exceptions and the rest, each where it belongs, over both transports.
func TestLayers(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	rest, stub, deep := counting(t, "1.1.1.1", 30, &n), counting(t, "2.2.2.2", 30, &n), counting(t, "3.3.3.3", 30, &n)
	dir := t.TempDir()
	writeFile(t, dir+"/db", "@ 60 IN SOA ns admin 1 2 3 4 5\nwww 60 IN A 4.4.4.4\nsvc 60 IN CNAME svc1.testns.svc.cluster.local.\nout 60 IN CNAME a.corp.example.\n")
	st := store.New()
	load(st, fixture(), false)
	srv := serve(t, st, dns.Config{Settings: settings(t, fmt.Sprintf(`
forward: {servers: ["%s"], except: [secret.example]}
stubs:
- {domains: [corp.example], servers: ["%s"]}
- {domains: [deep.corp.example], servers: ["%s"]}
hosts: {entries: [5.5.5.5 fixed.example svc6.testns.svc.cluster.local], ttl: 9s}
zones: [{zone: own.example, file: %s/db}]
rewrites:
- {from: alias.example, to: svc1.testns.svc.cluster.local}
- {from: far.example, to: a.corp.example}
- {match: suffix, from: old.example, to: testns.svc.cluster.local}
`, rest, stub, deep, dir))})
	eventually(t, "names", func() bool { return rcode(t, srv, "svc1.testns.svc.cluster.local") == "NOERROR" })
	for _, c := range [][3]string{
		{"any.example", "A", "NOERROR 1.1.1.1"},
		{"a.corp.example", "A", "NOERROR 2.2.2.2"},
		{"corp.example", "A", "NOERROR 2.2.2.2"},
		{"xcorp.example", "A", "NOERROR 1.1.1.1"},
		{"a.deep.corp.example", "A", "NOERROR 3.3.3.3"},
		{"a.secret.example", "A", "REFUSED"},
		{"fixed.example", "A", "NOERROR 5.5.5.5"},
		{"svc6.testns.svc.cluster.local", "A", "NOERROR 5.5.5.5"},
		{"www.own.example", "A", "NOERROR 4.4.4.4"},
		{"alias.example", "A", "NOERROR 10.0.0.1"},
		{"far.example", "A", "NOERROR 2.2.2.2"},
		{"svc1.old.example", "A", "NOERROR 10.0.0.1"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := brief(ask(t, srv, network, c[0], c[1])); got != c[2] {
				t.Errorf("%s %s over %s: %s, want %s", c[0], c[1], network, got, c[2])
			}
		}
	}
	// Aliases are followed from one place to another.
	for name, want := range map[string]string{"svc.own.example": "10.0.0.1", "out.own.example": "2.2.2.2"} {
		in := ask(t, srv, "udp", name, "A")
		if len(in.Answer) != 2 || !strings.HasSuffix(in.Answer[1].String(), want) {
			t.Errorf("%s: %v", name, in)
		}
	}
	// A name that was rewritten is denied under its own name, and names in the answer's data are written back.
	if in := ask(t, srv, "udp", "nosuch.old.example", "A"); in.Rcode != miekg.RcodeNameError || in.Question[0].Name != "nosuch.old.example." {
		t.Errorf("%v", in)
	}
	if in := ask(t, srv, "udp", "_http._tcp.svc1.old.example", "SRV"); len(in.Answer) != 1 || in.Answer[0].(*miekg.SRV).Target != "svc1.old.example." || in.Answer[0].Header().Name != "_http._tcp.svc1.old.example." {
		t.Errorf("%v", in)
	}
	if got := n.Load(); got > 8 {
		t.Errorf("the upstreams were asked %d times for 8 names", got)
	}
}

// TestStale: when nobody can be asked any more, what was known is given with its own short TTL and says that it is old; what was not known fails.
func TestStale(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	var down atomic.Bool
	up := upstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		if down.Load() {
			return
		}
		n.Add(1)
		m := new(miekg.Msg)
		m.SetReply(q)
		rr, err := miekg.NewRR(q.Question[0].Name + " 1 IN A 1.1.1.1")
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
		_ = w.WriteMsg(m)
	})
	srv := serve(t, store.New(), dns.Config{Settings: settings(t, fmt.Sprintf(`
forward: {servers: ["%s"], timeout: 1s}
cache: {staleTTL: 7s, staleWait: 200ms, prefetchHits: 0}
`, up))})
	if in := ask(t, srv, "udp", "old.example", "A"); len(in.Answer) != 1 || in.Answer[0].Header().Ttl != 1 {
		t.Fatal(in)
	}
	down.Store(true)
	eventually(t, "an old answer", func() bool {
		m := message("old.example", "A")
		if m.IsEdns0() == nil {
			m.SetEdns0(1232, false)
		}
		in := exchange(t, srv, "udp", m)
		if len(in.Answer) != 1 {
			t.Fatalf("lost: %v", in)
		}
		if in.Answer[0].Header().Ttl != 7 {
			return false
		}
		ede, ok := in.IsEdns0().Option[0].(*miekg.EDNS0_EDE)
		if !ok || ede.InfoCode != miekg.ExtendedErrorCodeStaleAnswer {
			t.Errorf("does not say that it is old: %v", in)
		}
		return true
	})
	if got := rcode(t, srv, "new.example"); got != "SERVFAIL" {
		t.Errorf("unknown name: %s", got)
	}
	down.Store(false)
	eventually(t, "a fresh answer", func() bool { return ask(t, srv, "udp", "old.example", "A").Answer[0].Header().Ttl == 1 })
}

// TestHealth: a server that is down is not waited for, and is asked again once it is back.
func TestHealth(t *testing.T) {
	t.Parallel()
	var waited, second atomic.Int32
	var down atomic.Bool
	down.Store(true)
	a := upstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		if down.Load() {
			if q.Question[0].Qtype == miekg.TypeA {
				waited.Add(1)
			}
			return
		}
		numbered(miekg.RcodeSuccess, "1.1.1.1")(w, q)
	})
	b := counting(t, "2.2.2.2", 1, &second)
	var log logBuffer
	srv := serve(t, store.New(), dns.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Settings: settings(t, fmt.Sprintf(`
forward: {servers: ["%s", "%s"], timeout: 2s, maxFails: 1, healthInterval: 10ms}
cache: {maxBytes: 0}
`, a, b))})
	for i := range 10 {
		if got := brief(ask(t, srv, "udp", fmt.Sprintf("n%d.example", i), "A")); got != "NOERROR 2.2.2.2" {
			t.Error(got)
		}
	}
	if n := waited.Load(); n != 1 {
		t.Errorf("%d of 10 questions waited for a server that is down", n)
	}
	if !strings.Contains(log.String(), "an upstream server is down") {
		t.Errorf("not said:\n%s", log.String())
	}
	down.Store(false)
	eventually(t, "the first server again", func() bool { return brief(ask(t, srv, "udp", "x.example", "A")) == "NOERROR 1.1.1.1" })
	// Whoever finds that it is well says so, and that may be a check beside the question.
	eventually(t, "that is said", func() bool { return strings.Contains(log.String(), "well again") })
}

// TestGoingRound: an upstream that asks us back is found out, not asked, and asked again when it has changed its mind.
func TestGoingRound(t *testing.T) {
	t.Parallel()
	var us atomic.Pointer[netip.AddrPort]
	var rounds atomic.Int32
	up := upstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		rounds.Add(1)
		c := &miekg.Client{Timeout: 5 * time.Second}
		in, _, err := c.Exchange(q, us.Load().String())
		if err != nil {
			in = new(miekg.Msg)
			in.SetRcode(q, miekg.RcodeServerFailure)
		}
		_ = w.WriteMsg(in)
	})
	var log logBuffer
	port := deadPort(t)
	us.Store(&port)
	srv := serve(t, store.New(), dns.Config{Listen: []netip.AddrPort{port}, Upstreams: []netip.AddrPort{up}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	eventually(t, "the loop is found", func() bool { return strings.Contains(log.String(), "sends our questions back") })
	before := rounds.Load()
	for i := range 20 {
		if got := rcode(t, srv, fmt.Sprintf("n%d.example", i)); got != "SERVFAIL" {
			t.Errorf("%s", got)
		}
	}
	if n := rounds.Load() - before; n > 1 {
		t.Errorf("asked %d times more", n)
	}
}

// TestCaseLost: a server that does not keep the case of letters is asked over TCP at first, then without.
func TestCaseLost(t *testing.T) {
	t.Parallel()
	var udp, tcp atomic.Int32
	up := upstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		if q.Question[0].Qtype == miekg.TypeA {
			if w.LocalAddr().Network() == "tcp" {
				tcp.Add(1)
			} else {
				udp.Add(1)
			}
		}
		q.Question[0].Name = strings.ToLower(q.Question[0].Name)
		numbered(miekg.RcodeSuccess, "1.1.1.1")(w, q)
	})
	srv := serve(t, store.New(), dns.Config{Upstreams: []netip.AddrPort{up}})
	for i := range 5 {
		if got := brief(ask(t, srv, "udp", fmt.Sprintf("longenough%d.to.be.mixed.example", i), "A")); got != "NOERROR 1.1.1.1" {
			t.Error(got)
		}
	}
	if udp.Load() != 5 || tcp.Load() > 1 {
		t.Errorf("%d times UDP, %d times TCP", udp.Load(), tcp.Load())
	}
}

// certificate makes a server's certificate for names and its authority as PEM.
func certificate(t testing.TB, name string) (tls.Certificate, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestOverTLS: a server over TLS is asked only if its certificate is good for the name that was given, and its connection is used again.
func TestOverTLS(t *testing.T) {
	t.Parallel()
	cert, authority := certificate(t, "dns.example")
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	var conns atomic.Int32
	counted := &countingListener{l, &conns}
	server := &miekg.Server{Listener: counted, Handler: numbered(miekg.RcodeSuccess, "1.1.1.1")}
	done := make(chan struct{})
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { defer close(done); _ = server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown(); <-done })
	dir := t.TempDir()
	writeFile(t, dir+"/ca.pem", string(authority))
	for _, c := range []struct{ server, more, want string }{
		{"tls://" + l.Addr().String() + "@dns.example", "caFile: " + dir + "/ca.pem", "NOERROR"},
		{"tls://" + l.Addr().String(), "caFile: " + dir + "/ca.pem", "NOERROR"}, // by its address
		{"tls://" + l.Addr().String() + "@other.example", "caFile: " + dir + "/ca.pem", "SERVFAIL"},
		{"tls://" + l.Addr().String() + "@dns.example", "maxFails: 2", "SERVFAIL"}, // nobody trusts it
	} {
		conns.Store(0)
		srv := serve(t, store.New(), dns.Config{Settings: settings(t, fmt.Sprintf("forward: {servers: [%q], %s}", c.server, c.more))})
		for i := range 5 {
			if got := rcode(t, srv, fmt.Sprintf("n%d.example", i)); got != c.want {
				t.Errorf("%s %s: %s, want %s", c.server, c.more, got, c.want)
			}
		}
		if n := conns.Load(); c.want == "NOERROR" && n > 3 { // one is for the look for loops
			t.Errorf("%d connections for 5 questions one after the other", n)
		}
	}
}

type countingListener struct {
	net.Listener
	n *atomic.Int32
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// TestReload: a changed configuration is in force without a question lost; one with a mistake changes nothing and is said.
func TestReload(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	a, b := counting(t, "1.1.1.1", 0, &n), counting(t, "2.2.2.2", 0, &n)
	dir := t.TempDir()
	path := filepath.Join(dir, "dns.yaml")
	writeFile(t, dir+"/hosts", "9.9.9.1 nine.example\n")
	conf := func(up netip.AddrPort) string {
		return fmt.Sprintf("forward: {servers: [\"%s\"]}\nhosts: {files: [%s/hosts]}\n", up, dir)
	}
	writeFile(t, path, conf(a))
	var log logBuffer
	srv := serve(t, store.New(), dns.Config{File: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	stop := make(chan struct{})
	lost := make(chan int, 1)
	go func() { // somebody asks all the time
		bad := 0
		defer func() { lost <- bad }()
		c := &miekg.Client{Timeout: 10 * time.Second}
		for {
			select {
			case <-stop:
				return
			default:
			}
			if in, _, err := c.Exchange(message("x.example", "A"), srv.String()); err != nil || in.Rcode != miekg.RcodeSuccess {
				bad++
			}
		}
	}()
	now := func(name, want string) func() bool {
		return func() bool { return brief(ask(t, srv, "udp", name, "A")) == want }
	}
	eventually(t, "first", now("x.example", "NOERROR 1.1.1.1"))
	writeFile(t, path, conf(b))
	eventually(t, "second", now("x.example", "NOERROR 2.2.2.2"))
	writeFile(t, path, "forward: {severs: []}\n")
	eventually(t, "mistake said", func() bool { return strings.Contains(log.String(), path+":1: forward.severs: no such field") })
	if !now("x.example", "NOERROR 2.2.2.2")() {
		t.Error("the configuration before does not stay in force")
	}
	writeFile(t, path, conf(a))
	eventually(t, "third", now("x.example", "NOERROR 1.1.1.1"))
	writeFile(t, dir+"/hosts", "9.9.9.2 nine.example\n")
	eventually(t, "file named by it", func() bool { return strings.Contains(brief(ask(t, srv, "udp", "nine.example", "A")), "9.9.9.2") })
	close(stop)
	if bad := <-lost; bad > 0 {
		t.Errorf("%d questions lost", bad)
	}
	// A start with a mistake fails, and says where.
	writeFile(t, path, "forward: {policy: best}\n")
	if _, err := dns.New(store.New(), dns.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, File: path}); err == nil || !strings.Contains(err.Error(), path+":1: forward.policy") {
		t.Errorf("%v", err)
	}
	writeFile(t, path, "cluster: {domain: other.local}\n")
	if err := dns.Check(dns.Config{File: path}); err == nil || !strings.Contains(err.Error(), "cluster.domain") {
		t.Errorf("%v", err)
	}
}

// dialerFrom dials from an address of this machine.
func dialerFrom(address string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(address)}, Timeout: 20 * time.Second}
}
