package dns_test

import (
	"net/netip"
	"sync/atomic"
	"testing"

	miekg "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// TestReverseRanges: addresses of a ServiceCIDR and of a node's Pods are nobody else's as long as these objects are there: not a question
// about them goes to another server.
func TestReverseRanges(t *testing.T) {
	t.Parallel()
	var told atomic.Int32
	up := upstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		m := new(miekg.Msg)
		m.SetReply(q)
		if q.Question[0].Qtype == miekg.TypePTR {
			told.Add(1)
			m.Answer = []miekg.RR{&miekg.PTR{Hdr: miekg.RR_Header{Name: q.Question[0].Name, Rrtype: miekg.TypePTR, Class: miekg.ClassINET}, Ptr: "elsewhere."}}
		}
		_ = w.WriteMsg(m)
	})
	st := store.New()
	load(st, fixture(), false)
	srv := serve(t, st, dns.Config{Ranges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}, Upstreams: []netip.AddrPort{up}})
	const fixed, service, pod = "77.77.0.10.in-addr.arpa", "7.0.120.10.in-addr.arpa", "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.4.2.0.0.0.d.f.ip6.arpa"
	is := func(when string, want map[string]string) {
		t.Helper()
		for name, want := range want {
			eventually(t, when+": "+name, func() bool { return brief(ask(t, srv, "udp", name, "PTR")) == want })
		}
	}
	none, other := "NXDOMAIN", "NOERROR elsewhere."
	is("at first", map[string]string{fixed: none, service: other, pod: other})
	mustUpdate(st, func(tx *store.Txn) {
		tx.PutServiceCIDR(&model.ServiceCIDR{Name: "more", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.120.0.0/24")}})
		tx.PutNode(&model.Node{Name: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.3.0/24"), netip.MustParsePrefix("fd00:244::/64")}})
	})
	is("with the objects", map[string]string{fixed: none, service: none, pod: none, "9.3.244.10.in-addr.arpa": none})
	before := told.Load()
	is("with the objects", map[string]string{fixed: none, service: none, pod: none, "10.3.244.10.in-addr.arpa": none, "8.0.120.10.in-addr.arpa": none})
	if n := told.Load() - before; n != 0 {
		t.Errorf("%d questions went to another server", n)
	}
	mustUpdate(st, func(tx *store.Txn) { tx.DeleteServiceCIDR("more"); tx.DeleteNode("n1") })
	is("without them", map[string]string{fixed: none, service: other, pod: other})
}
