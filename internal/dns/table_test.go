package dns_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/dns/zone"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit/questions"
)

// TestQuestions puts every question to the zone itself, and over UDP and TCP to a server that follows a store, for both
// orders in which rows may arrive.
func TestQuestions(t *testing.T) {
	t.Parallel()
	for _, reverse := range []bool{false, true} {
		st := store.New()
		load(st, fixture(), reverse)
		z := newZone(t, st)
		srv := serve(t, st, dns.Config{Upstreams: []netip.AddrPort{upstream(t, standardUpstream)}, Ranges: ranges})
		eventually(t, "names", func() bool {
			in := ask(t, srv, "udp", "nosuch.testns.svc.cluster.local", "A")
			return in.Rcode == miekg.RcodeNameError && in.Ns[0].(*miekg.SOA).Serial != 0
		})
		for _, q := range questions.Table {
			t.Run(q.Rule+"/"+q.Name+"/"+q.Type, func(t *testing.T) {
				want, out := q.Answer(), q.Forwarded()
				got, outcome := askZone(t, z, q.Name, q.Type)
				if out != (outcome == zone.NotOurs || outcome == zone.Chase) {
					t.Errorf("zone: outcome %d, want upstream needed = %v", outcome, out)
				} else if !out && got != want {
					t.Errorf("zone:\n got %s\nwant %s", got, want)
				}
				for _, network := range []string{"udp", "tcp"} {
					if got := render(t, ask(t, srv, network, q.Name, q.Type)); got != want {
						t.Errorf("%s:\n got %s\nwant %s", network, got, want)
					}
				}
			})
		}
	}
	if len(questions.Table) < 200 {
		t.Errorf("only %d questions", len(questions.Table))
	}
}

// ranges are where the Services of the table have their addresses.
var ranges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("1234:abcd::/112"), netip.MustParsePrefix("10::/112")}

// newZone makes a zone of everything in the store.
func newZone(t testing.TB, st *store.Store) *zone.Zone {
	z, err := zone.New(zone.Config{TTL: 5, Service: name("kube-system/kube-dns"), Ranges: ranges})
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
