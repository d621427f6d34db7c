package dns_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/dns/zone"
	"fairway.dev/fairway/internal/store"
)

// TestQuestions puts every question to the zone itself, and over UDP and TCP to a server that follows a store, for both
// orders in which rows may arrive.
func TestQuestions(t *testing.T) {
	t.Parallel()
	for _, reverse := range []bool{false, true} {
		st := store.New()
		load(st, fixture(), reverse)
		z := newZone(t, st)
		srv := serve(t, st, dns.Config{Upstreams: []netip.AddrPort{upstream(t, standardUpstream)}})
		eventually(t, "names", func() bool {
			return ask(t, srv, "udp", "svc1.testns.svc.cluster.local", "A").Rcode == miekg.RcodeSuccess
		})
		for _, q := range questions {
			t.Run(q.rule+"/"+q.name+"/"+q.qtype, func(t *testing.T) {
				want, out := strings.CutPrefix(q.want, "<out>")
				want = strings.ReplaceAll(want, "~", "svc.cluster.local.")
				got, outcome := askZone(t, z, q.name, q.qtype)
				if out != (outcome != zone.Answered) {
					t.Errorf("zone: outcome %d, want upstream needed = %v", outcome, out)
				} else if !out && got != want {
					t.Errorf("zone:\n got %s\nwant %s", got, want)
				}
				for _, network := range []string{"udp", "tcp"} {
					if got := render(t, ask(t, srv, network, q.name, q.qtype)); got != want {
						t.Errorf("%s:\n got %s\nwant %s", network, got, want)
					}
				}
			})
		}
	}
	if len(questions) < 120 {
		t.Errorf("only %d questions", len(questions))
	}
}

// newZone makes a zone of everything in the store.
func newZone(t testing.TB, st *store.Store) *zone.Zone {
	z, err := zone.New(zone.Config{TTL: 5, Service: name("kube-system/kube-dns")})
	if err != nil {
		t.Fatal(err)
	}
	z.Touch(12345)
	snap := st.Snapshot()
	for n := range snap.Namespaces.All() {
		z.PutNamespace(n.Name)
	}
	for s := range snap.Services.All() {
		z.PutService(s, snap.Slices(s.Name))
	}
	z.SetSynced(true)
	return z
}

func message(n, qtype string) *miekg.Msg {
	m := new(miekg.Msg)
	m.SetQuestion(miekg.Fqdn(n), miekg.StringToType[qtype])
	m.SetEdns0(4096, false)
	return m
}

func askZone(t testing.TB, z *zone.Zone, n, qtype string) (string, zone.Outcome) {
	t.Helper()
	packet, err := message(n, qtype).Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	var r wire.Reply
	if code, ok := q.Parse(packet); !ok || code != wire.NoError {
		t.Fatalf("parse %s: %v %v", n, code, ok)
	}
	r.Start(&q, nil, wire.MaxMessage)
	outcome, _ := z.Answer(&q, &r)
	var m miekg.Msg
	if err := m.Unpack(r.Finish()); err != nil {
		t.Fatalf("unpack answer: %v", err)
	}
	return render(t, &m), outcome
}

func ask(t testing.TB, srv netip.AddrPort, network, n, qtype string) *miekg.Msg {
	t.Helper()
	return exchange(t, srv, network, message(n, qtype))
}

func exchange(t testing.TB, srv netip.AddrPort, network string, m *miekg.Msg) *miekg.Msg {
	t.Helper()
	// A generous patience: the machine may be busy, and nothing here is lost on purpose.
	c := miekg.Client{Net: network, Timeout: 20 * time.Second, UDPSize: 65535}
	in, _, err := c.Exchange(m, srv.String())
	if err != nil {
		t.Fatalf("ask %v over %s: %v", m.Question, network, err)
	}
	return in
}

// render writes a response in the form of the table, and checks what holds for every response.
func render(t testing.TB, m *miekg.Msg) string {
	t.Helper()
	if !m.Response || len(m.Question) != 1 {
		t.Fatalf("no response to one question: %v", m)
	}
	asked := m.Question[0].Name
	var b strings.Builder
	b.WriteString(miekg.RcodeToString[m.Rcode])
	if m.Authoritative {
		b.WriteString(" aa")
	}
	if m.Truncated {
		b.WriteString(" tc")
	}
	b.WriteString(":")
	section := func(rrs []miekg.RR) string {
		var alias, out []string
		for i, rr := range rrs {
			h := rr.Header()
			owner := h.Name
			if owner == asked {
				owner = "@"
			}
			ttl := uint32(5)
			if h.Rrtype == miekg.TypeTXT {
				ttl = 28800
			}
			if h.Ttl != ttl {
				t.Errorf("TTL of %v, want %d", rr, ttl)
			}
			data := strings.TrimPrefix(rr.String(), h.String())
			switch rr := rr.(type) {
			case *miekg.SOA:
				if origin := rr.Hdr.Name; !strings.EqualFold(rr.Ns, "ns.dns.cluster.local.") || !strings.EqualFold(rr.Mbox, "hostmaster.cluster.local.") ||
					rr.Serial == 0 || rr.Refresh != 7200 || rr.Retry != 1800 || rr.Expire != 86400 || rr.Minttl != 5 {
					t.Errorf("SOA of %s: %v", origin, rr)
				}
				out = append(out, "SOA "+rr.Hdr.Name)
				continue
			case *miekg.CNAME:
				if i > 0 && !strings.EqualFold(rrs[i-1].(*miekg.CNAME).Target, h.Name) {
					t.Errorf("alias %v does not follow the one that leads to it", rr)
				}
				alias = append(alias, owner+" CNAME "+data)
				continue
			}
			out = append(out, owner+" "+miekg.TypeToString[h.Rrtype]+" "+data)
		}
		slices.Sort(out)
		return strings.Join(append(alias, out...), " | ")
	}
	var extra []miekg.RR
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != miekg.TypeOPT {
			extra = append(extra, rr)
		}
	}
	if s := section(m.Answer); s != "" {
		b.WriteString(" " + s)
	}
	if s := section(m.Ns); s != "" {
		b.WriteString(" ; " + s)
	}
	if s := section(extra); s != "" {
		b.WriteString(" + " + s)
	}
	return b.String()
}

// serve runs a server on a free loopback port until the test ends.
func serve(t testing.TB, st *store.Store, cfg dns.Config) netip.AddrPort {
	t.Helper()
	if len(cfg.Listen) == 0 {
		cfg.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	}
	if cfg.Service.Name == "" {
		cfg.Service = name("kube-system/kube-dns")
	}
	s, err := dns.New(st, cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	return s.Addrs()[0]
}

// run runs a server until the test ends.
func run(t testing.TB, s *dns.Server) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// upstream runs a resolver on a free loopback port, UDP and TCP, until the test ends.
func upstream(t testing.TB, h miekg.HandlerFunc) netip.AddrPort {
	t.Helper()
	pc, l := bothSockets(t, "127.0.0.1")
	for _, s := range []*miekg.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		started, done := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(done); _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// bothSockets listens at a port that is free for UDP and TCP.
func bothSockets(t testing.TB, address string) (net.PacketConn, net.Listener) {
	t.Helper()
	for try := 0; ; try++ {
		pc, err := net.ListenPacket("udp", net.JoinHostPort(address, "0"))
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, l
		}
		pc.Close()
		if try == 20 {
			t.Fatal(err)
		}
	}
}

// standardUpstream knows the names of the table.
func standardUpstream(w miekg.ResponseWriter, q *miekg.Msg) {
	m := new(miekg.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	asked := q.Question[0]
	add := func(rrs ...string) {
		for _, s := range rrs {
			rr, err := miekg.NewRR(s)
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
	}
	switch n := strings.ToLower(asked.Name); {
	case asked.Qtype == miekg.TypePTR:
		add(asked.Name + " 5 IN PTR upstream.test.")
	case n == "example.com.":
		add(asked.Name + " 5 IN A 5.6.7.8")
	case n == "ext.interwebs.test.":
		if asked.Qtype == miekg.TypeA {
			add("ext.interwebs.test. 5 IN A 1.2.3.4")
		}
	case n == "alias.interwebs.test.":
		add("alias.interwebs.test. 5 IN CNAME ext.interwebs.test.", "ext.interwebs.test. 5 IN A 1.2.3.4")
	case n == "broken.interwebs.test.":
		m.Rcode = miekg.RcodeServerFailure
	default:
		m.Rcode = miekg.RcodeNameError
	}
	m.Compress = true
	_ = w.WriteMsg(m)
}

// eventually polls until ok, and gives up long after anything that works has come true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
