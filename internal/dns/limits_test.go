package dns_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/store"
)

// silentUpstream takes questions and never answers.
func silentUpstream(t testing.TB) netip.AddrPort {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestStop: Run leaves no goroutine and no socket, whatever is under way. It is not parallel, so that all goroutines of
// this package are its own.
func TestStop(t *testing.T) {
	st := store.New()
	load(st, fixture(), false)
	asked := make(chan struct{}, 10)
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go func() {
		b := make([]byte, 512)
		for {
			if _, _, err := pc.ReadFrom(b); err != nil {
				return
			}
			asked <- struct{}{}
		}
	}()
	s, err := dns.New(st, dns.Config{
		Listen:    []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("[::1]:0")},
		Upstreams: []netip.AddrPort{pc.LocalAddr().(*net.UDPAddr).AddrPort()},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	addrs := s.Addrs()
	eventually(t, "names", func() bool { return rcode(t, addrs[1], "svc1.testns.svc.cluster.local") == "NOERROR" })
	idle := dial(t, addrs[0], "tcp")
	question, err := message("example.com", "A").Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		write(t, dial(t, addrs[0], network), network, question)
		<-asked // it is under way now
	}
	cancel()
	if err := <-ran; err != nil {
		t.Errorf("run: %v", err)
	}
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("idle connection after the end: %v", err)
	}
	// A goroutine that has told its end to its owner may take one more moment to be gone.
	eventually(t, "no goroutine left behind", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for g := range strings.SplitSeq(string(stacks), "\n\n") {
			if strings.Contains(g, "fairway/internal/dns.") && !strings.Contains(g, "testing.tRunner") {
				return false
			}
		}
		return true
	})
	for _, a := range addrs { // and both ports are free
		again, err := dns.New(st, dns.Config{Listen: []netip.AddrPort{a}})
		if err != nil {
			t.Error(err)
			continue
		}
		again.Close()
	}
	if len(st.Statuses()) != 0 {
		t.Errorf("consumers left: %v", st.Statuses())
	}
}

// gathered gives the value of each metric by name and label values, as Prometheus reads them.
func gathered(t testing.TB, s *dns.Server) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(s)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				key += " " + l.GetName() + "=" + l.GetValue()
			}
			out[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

// TestMetrics counts what was asked and answered.
func TestMetrics(t *testing.T) {
	t.Parallel()
	st := store.New()
	load(st, fixture(), false)
	up := upstream(t, standardUpstream)
	s, err := dns.New(st, dns.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Upstreams: []netip.AddrPort{up}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	srv := s.Addrs()[0]
	eventually(t, "names", func() bool {
		return ask(t, srv, "tcp", "svc1.testns.svc.cluster.local", "AAAA").Rcode == miekg.RcodeSuccess
	})
	for range 3 {
		ask(t, srv, "udp", "svc1.testns.svc.cluster.local", "A")
	}
	ask(t, srv, "udp", "nosuch.testns.svc.cluster.local", "SRV")
	ask(t, srv, "tcp", "example.com", "A")
	ask(t, srv, "udp", "missing.example.com", "HTTPS")
	got := gathered(t, s)
	for key, want := range map[string]float64{
		"coredns_dns_requests_total family=1 proto=udp server=dns://:53 type=A view= zone=cluster.local.":   3,
		"coredns_dns_requests_total family=1 proto=udp server=dns://:53 type=SRV view= zone=cluster.local.": 1,
		"coredns_dns_requests_total family=1 proto=tcp server=dns://:53 type=A view= zone=.":                1,
		"coredns_dns_requests_total family=1 proto=udp server=dns://:53 type=other view= zone=.":            1,
		"coredns_dns_responses_total rcode=NXDOMAIN server=dns://:53 view= zone=.":                          1,
		"coredns_dns_responses_total rcode=NOERROR server=dns://:53 view= zone=.":                           1,
		"coredns_forward_requests_total to=" + up.String():                                                  2,
		"coredns_forward_responses_total rcode=NOERROR to=" + up.String():                                   1,
		"coredns_forward_responses_total rcode=NXDOMAIN to=" + up.String():                                  1,
		"coredns_cache_hits_total server=dns://:53 type=success view= zones=.":                              0,
		"coredns_cache_misses_total server=dns://:53 view= zones=.":                                         2,
		"fairway_dns_dropped_packets_total":                                                                 0,
		"coredns_forward_max_concurrent_rejects_total":                                                      0,
	} {
		if got[key] != want {
			t.Errorf("%s: %v, want %v", key, got[key], want)
		}
	}
}

// TestPendingLimit: when a thousand questions wait for upstreams, one more is refused at once, and the cluster's names are
// answered as ever.
func TestPendingLimit(t *testing.T) {
	t.Parallel()
	st := store.New()
	load(st, fixture(), false)
	s, err := dns.New(st, dns.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Upstreams: []netip.AddrPort{silentUpstream(t)}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	srv := s.Addrs()[0]
	eventually(t, "names", func() bool { return rcode(t, srv, "svc1.testns.svc.cluster.local") == "NOERROR" })
	question, err := message("example.com", "A").Pack()
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, srv, "udp")
	eventually(t, "refusal", func() bool {
		for range 100 {
			write(t, c, "udp", question)
		}
		return gathered(t, s)["coredns_forward_max_concurrent_rejects_total"] > 0
	})
	if got := rcode(t, srv, "svc1.testns.svc.cluster.local"); got != "NOERROR" {
		t.Errorf("own name meanwhile: %s", got)
	}
}

// TestConnectionLimit: one connection too many is closed, and once another one has gone there is room again.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	srv := fixtureServer(t)
	question, err := message("svc1.testns.svc.cluster.local", "A").Pack()
	if err != nil {
		t.Fatal(err)
	}
	// served opens a connection and tells whether it is served; it stays open.
	served := func() (net.Conn, bool) {
		c := dial(t, srv, "tcp")
		write(t, c, "tcp", question)
		_, err := c.Read(make([]byte, 512))
		return c, err == nil
	}
	var open []net.Conn
	for {
		c, ok := served()
		if !ok {
			break
		}
		if open = append(open, c); len(open) > 2000 {
			t.Fatal("no limit")
		}
	}
	if len(open) < 1000 {
		t.Errorf("only %d connections", len(open))
	}
	open[0].Close()
	eventually(t, "room", func() bool { _, ok := served(); return ok })
}
