package dns_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/store"
)

// TestSearchCompletion: the first step of a Pod's search path is answered with what the whole path would have found; only for a Pod of that
// namespace, and only where it is turned on.
func TestSearchCompletion(t *testing.T) {
	t.Parallel()
	st := store.New()
	w := fixture()
	w.Slices = append(w.Slices, slice("testns/svc1", "pods", []string{"http:8080"}, "127.0.0.7"))
	load(st, w, false)
	var asked atomic.Int32
	up := upstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		if q.Question[0].Qtype == miekg.TypeA || q.Question[0].Qtype == miekg.TypeAAAA {
			asked.Add(1)
		}
		standardUpstream(w, q)
	})
	dir := t.TempDir()
	writeFile(t, dir+"/resolv.conf", "search corp.test\nnameserver 192.0.2.1\n")
	listen := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	make := func(on bool) netip.AddrPort {
		s, err := dns.New(st, dns.Config{Listen: listen, ResolvConf: dir + "/resolv.conf", Settings: settings(t, fmt.Sprintf("cluster: {searchCompletion: %v}\nforward: {servers: [%q]}", on, up))})
		if err != nil {
			t.Fatal(err)
		}
		run(t, s)
		srv := s.Addrs()[0]
		eventually(t, "names", func() bool { return rcode(t, srv, "nosuch.testns.svc.cluster.local") == "NXDOMAIN" })
		return srv
	}
	srv, off := make(true), make(false)
	from := func(srv netip.AddrPort, client, name string, qtype uint16) string {
		t.Helper()
		n := miekg.Fqdn(name)
		c := &miekg.Client{Timeout: 20 * time.Second}
		c.Dialer = dialerFrom(client)
		m := new(miekg.Msg)
		m.SetQuestion(n, qtype)
		in, _, err := c.ExchangeContext(context.Background(), m, srv.String())
		if err != nil {
			t.Fatal(err)
		}
		return brief(in)
	}
	for _, c := range []struct {
		srv          netip.AddrPort
		client, name string
		qtype        uint16
		want         string
	}{
		{srv, "127.0.0.7", "svc6.testns.testns.svc.cluster.local", miekg.TypeAAAA, "NOERROR svc6.testns.svc.cluster.local. 1234:abcd::1"},
		{srv, "127.0.0.7", "svc1.testns.svc.testns.svc.cluster.local", miekg.TypeA, "NOERROR svc1.testns.svc.cluster.local. 10.0.0.1"},
		{srv, "127.0.0.7", "svc1.testns.svc.testns.svc.cluster.local", miekg.TypeAAAA, "NOERROR svc1.testns.svc.cluster.local."},
		{srv, "127.0.0.7", "example.com.testns.svc.cluster.local", miekg.TypeA, "NOERROR example.com. 5.6.7.8"},
		{srv, "127.0.0.7", "EXAMPLE.com.testns.svc.cluster.local", miekg.TypeA, "NOERROR example.com. 5.6.7.8"},
		{srv, "127.0.0.7", "nowhere.example.testns.svc.cluster.local", miekg.TypeA, "NXDOMAIN"},
		{srv, "127.0.0.7", "example.com.testns.svc.cluster.local", miekg.TypeSRV, "NXDOMAIN"},
		{srv, "127.0.0.7", "example.com.emptyns.svc.cluster.local", miekg.TypeA, "NXDOMAIN"}, // not its namespace
		{srv, "127.0.0.8", "example.com.testns.svc.cluster.local", miekg.TypeA, "NXDOMAIN"},  // nobody we know
		{off, "127.0.0.7", "example.com.testns.svc.cluster.local", miekg.TypeA, "NXDOMAIN"},
	} {
		if got := from(c.srv, c.client, c.name, c.qtype); got != c.want {
			t.Errorf("%s asks for %s %s: %s, want %s", c.client, c.name, miekg.TypeToString[c.qtype], got, c.want)
		}
	}
}
