package zone_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/dns/zone"
	"fairway.dev/fairway/internal/model"
)

func newZone(t testing.TB, cfg zone.Config) *zone.Zone {
	t.Helper()
	cfg.TTL = 5
	z, err := zone.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	z.SetSynced(true)
	z.Touch(1)
	return z
}

// outcome asks and gives what Answer says, beside the code.
func outcome(t testing.TB, z *zone.Zone, name string, qtype wire.Type) (zone.Outcome, wire.Rcode, int) {
	t.Helper()
	var q wire.Query
	var r wire.Reply
	if code, ok := q.Parse(packet(t, name, qtype)); !ok || code != wire.NoError {
		t.Fatalf("parse %s: %v", name, code)
	}
	r.Start(&q, nil, wire.MaxMessage)
	out, _ := z.Answer(&q, &r)
	return out, r.Rcode, r.Count(wire.Answer)
}

// TestPodsVerified: the name of a Pod is answered while a Pod of that namespace has the address (rule 37), whoever else has it, too.
func TestPodsVerified(t *testing.T) {
	t.Parallel()
	z := newZone(t, zone.Config{Pods: zone.PodsVerified})
	z.PutNamespace("a")
	z.PutNamespace("b")
	pod := func(ns, name string, addrs ...string) *model.Pod {
		p := &model.Pod{Name: model.Name{Namespace: ns, Name: name}}
		for _, a := range addrs {
			p.Addresses = append(p.Addresses, netip.MustParseAddr(a))
		}
		return p
	}
	is := func(when, name string, qtype wire.Type, want wire.Rcode, count int) {
		t.Helper()
		if out, code, n := outcome(t, z, name+".pod.cluster.local", qtype); out != zone.Answered || code != want || n != count {
			t.Errorf("%s: %s is %v with %d records, want %v with %d", when, name, code, n, want, count)
		}
	}
	is("no Pod", "10-0-0-1.a", wire.TypeA, wire.NameError, 0)
	z.PutPod(pod("a", "one", "10.0.0.1", "fd00::1"))
	is("a Pod", "10-0-0-1.a", wire.TypeA, wire.NoError, 1)
	is("a Pod", "10-0-0-1.A", wire.TypeA, wire.NoError, 1)
	is("a Pod", "10-0-0-1.a", wire.TypeAAAA, wire.NoError, 0)
	is("a Pod", "fd00--1.a", wire.TypeAAAA, wire.NoError, 1)
	is("a Pod elsewhere", "10-0-0-1.b", wire.TypeA, wire.NameError, 0)
	is("a Pod elsewhere", "10-0-0-1.nowhere", wire.TypeA, wire.NameError, 0)
	z.PutPod(pod("a", "two", "10.0.0.1")) // both on the host's network
	z.DeletePod(model.Name{Namespace: "a", Name: "one"})
	is("the other one's", "10-0-0-1.a", wire.TypeA, wire.NoError, 1)
	is("no Pod any more", "fd00--1.a", wire.TypeAAAA, wire.NameError, 0)
	z.PutPod(pod("a", "two", "10.0.0.2"))
	is("another address", "10-0-0-1.a", wire.TypeA, wire.NameError, 0)
	is("another address", "10-0-0-2.a", wire.TypeA, wire.NoError, 1)
	z.DeletePod(model.Name{Namespace: "a", Name: "two"})
	z.DeletePod(model.Name{Namespace: "a", Name: "two"})
	is("none left", "10-0-0-2.a", wire.TypeA, wire.NameError, 0)
	for range z.Pods() {
		t.Error("a Pod is left")
	}
}

// TestPodsDisabled: there are no names of Pods (rule 37).
func TestPodsDisabled(t *testing.T) {
	t.Parallel()
	z := newZone(t, zone.Config{Pods: zone.PodsDisabled})
	z.PutNamespace("a")
	for name, want := range map[string]wire.Rcode{
		"10-0-0-1.a.pod.cluster.local": wire.NameError, "a.pod.cluster.local": wire.NameError, "pod.cluster.local": wire.NoError, "b.pod.cluster.local": wire.NameError,
	} {
		if _, code, n := outcome(t, z, name, wire.TypeA); code != want || n != 0 {
			t.Errorf("%s: %v with %d records, want %v", name, code, n, want)
		}
	}
}

// TestRanges: of the cluster's own addresses, what has no name does not exist, the names above are empty, and nothing is anybody else's
// to answer; the zone's cut is where the range is.
func TestRanges(t *testing.T) {
	t.Parallel()
	z := newZone(t, zone.Config{Ranges: []netip.Prefix{
		netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("10.244.3.0/24"), netip.MustParsePrefix("fd66:96::/108"),
	}})
	z.PutService(&model.Service{Name: model.Name{Namespace: "a", Name: "web"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}}, slices.Values([]*model.EndpointSlice(nil)))
	const six = "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.6.6.d.f.ip6.arpa"
	for name, want := range map[string]wire.Rcode{
		"1.0.96.10.in-addr.arpa": wire.NoError, "2.0.96.10.in-addr.arpa": wire.NameError, "255.255.111.10.in-addr.arpa": wire.NameError,
		"9.3.244.10.in-addr.arpa": wire.NameError, "3.244.10.in-addr.arpa": wire.NoError, "0.96.10.in-addr.arpa": wire.NoError, "96.10.in-addr.arpa": wire.NoError,
		"x.0.96.10.in-addr.arpa": wire.NameError, "1.1.0.96.10.in-addr.arpa": wire.NameError, "01.0.96.10.in-addr.arpa": wire.NameError, "256.0.96.10.in-addr.arpa": wire.NameError,
		"9.0.0.0." + six: wire.NameError, "0." + six: wire.NoError, "z." + six: wire.NameError,
	} {
		if out, code, _ := outcome(t, z, name, wire.TypePTR); out != zone.Answered || code != want {
			t.Errorf("%s: outcome %d, %v, want %v", name, out, code, want)
		}
	}
	for _, name := range []string{
		"1.0.112.10.in-addr.arpa", "1.4.244.10.in-addr.arpa", "244.10.in-addr.arpa", "10.in-addr.arpa", "in-addr.arpa", "x.10.in-addr.arpa", "ip6.arpa",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.9.0.0.6.6.d.f.ip6.arpa", "96.10.in-addr.example",
	} {
		if out, _, _ := outcome(t, z, name, wire.TypePTR); out != zone.NotOurs {
			t.Errorf("%s: outcome %d, want somebody else's", name, out)
		}
	}
	z.SetSynced(false)
	if out, code, _ := outcome(t, z, "2.0.96.10.in-addr.arpa", wire.TypePTR); out != zone.Answered || code != wire.ServerFailure {
		t.Errorf("before all is known: outcome %d, %v", out, code)
	}
}

// TestMoreRanges: ranges come and go beside those from the start, in any order, next to each other, within each other and twice.
func TestMoreRanges(t *testing.T) {
	t.Parallel()
	z := newZone(t, zone.Config{Ranges: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}})
	ours := func(when string, want map[string]bool) {
		t.Helper()
		for name, want := range want {
			out, code, _ := outcome(t, z, name, wire.TypePTR)
			if got := out == zone.Answered && code == wire.NameError; got != want || !want && out != zone.NotOurs {
				t.Errorf("%s: %s: outcome %d, %v; ours: %t", when, name, out, code, want)
			}
		}
	}
	ours("at first", map[string]bool{"1.0.96.10.in-addr.arpa": true, "1.0.97.10.in-addr.arpa": false, "1.9.244.10.in-addr.arpa": false})
	var more []netip.Prefix
	for _, s := range []string{"fd00:96::/112", "10.244.9.0/24", "10.96.7.0/24", "10.97.0.0/17", "10.97.5.5/24", "10.96.0.0/16", "192.168.0.0/30"} {
		more = append(more, netip.MustParsePrefix(s))
	}
	z.SetRanges(more)
	ours("with more", map[string]bool{
		"1.0.95.10.in-addr.arpa": false, "1.0.96.10.in-addr.arpa": true, "1.7.96.10.in-addr.arpa": true, "255.255.96.10.in-addr.arpa": true,
		"0.0.97.10.in-addr.arpa": true, "1.5.97.10.in-addr.arpa": true, "1.6.97.10.in-addr.arpa": true, "0.128.97.10.in-addr.arpa": false,
		"255.8.244.10.in-addr.arpa": false, "0.9.244.10.in-addr.arpa": true, "255.9.244.10.in-addr.arpa": true, "0.10.244.10.in-addr.arpa": false,
		"3.0.168.192.in-addr.arpa": true, "4.0.168.192.in-addr.arpa": false, "1.0.0.9.in-addr.arpa": false,
		"7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa": true, "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.9.0.0.0.0.d.f.ip6.arpa": false,
	})
	z.SetRanges(nil)
	ours("without", map[string]bool{"1.0.96.10.in-addr.arpa": true, "1.0.97.10.in-addr.arpa": false, "1.9.244.10.in-addr.arpa": false})
}

// TestUnknown: which names a Service that nobody has put could have, and which are withheld.
func TestUnknown(t *testing.T) {
	t.Parallel()
	z := newZone(t, zone.Config{})
	none := slices.Values([]*model.EndpointSlice(nil))
	z.PutNamespace("a")
	svc := func(name string, ips ...string) *model.Service {
		s := &model.Service{Name: model.Name{Namespace: "a", Name: name}, Type: model.ClusterIP, Ports: []model.Port{{Name: "http", Protocol: model.TCP, Port: 80}}}
		for _, ip := range ips {
			s.ClusterIPs = append(s.ClusterIPs, netip.MustParseAddr(ip))
		}
		return s
	}
	z.PutService(svc("web", "10.0.0.1"), none)
	z.PutService(svc("waiting"), none)
	z.PutPart(svc("held"), none)
	z.PutPart(svc("half", "10.0.0.2"), none)
	head := svc("head")
	head.Headless = true
	z.PutService(head, none)
	const dom = ".svc.cluster.local"
	check := func(qtype wire.Type, want map[string]zone.Outcome) {
		t.Helper()
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if out, code, _ := outcome(t, z, name+dom, qtype); out != want[name] || out == zone.Unknown && code != wire.NameError {
				t.Errorf("%s: outcome %d (%v), want %d", name, out, code, want[name])
			}
		}
	}
	check(wire.TypeA, map[string]zone.Outcome{
		"web.a": zone.Answered, "x.web.a": zone.Answered, "_x._tcp.web.a": zone.Answered, "head.a": zone.Answered, "waiting.a": zone.Answered, "half.a": zone.Answered,
		"new.a": zone.Unknown, "NEW.a": zone.Unknown, "new.b": zone.Unknown, "_http._tcp.new.a": zone.Unknown, "b": zone.Answered,
		// What a search path makes of other people's names.
		"www.example.com": zone.Answered, "example.com.a": zone.Answered, "x.y.www.example.a": zone.Answered, "http.tcp.new.a": zone.Answered,
		// What no object can be called.
		"*.a": zone.Answered, "_tcp.a": zone.Answered, "-x.a": zone.Answered,
		"held.a": zone.Pending, "_http._tcp.held.a": zone.Pending, "x.held.a": zone.Answered,
	})
	check(wire.TypeAAAA, map[string]zone.Outcome{"half.a": zone.Pending, "web.a": zone.Answered})
	check(wire.TypeTXT, map[string]zone.Outcome{"half.a": zone.Answered, "new.a": zone.Unknown})
	z.PutService(svc("half", "10.0.0.2", "fd00::2"), none)
	z.PutService(svc("held", "10.0.0.3"), none)
	z.DeleteService(model.Name{Namespace: "a", Name: "waiting"})
	check(wire.TypeAAAA, map[string]zone.Outcome{"half.a": zone.Answered, "held.a": zone.Answered, "waiting.a": zone.Unknown})
	for n := range z.Names() {
		z.DeleteService(n)
	}
	check(wire.TypeA, map[string]zone.Outcome{"half.a": zone.Unknown, "held.a": zone.Unknown, "head.a": zone.Unknown})
	z.SetSynced(false)
	if out, code, _ := outcome(t, z, "new.a"+dom, wire.TypeA); out != zone.Answered || code != wire.ServerFailure {
		t.Errorf("before all is known: outcome %d, %v", out, code)
	}
}

// TestFairTurns: whatever part of a large set fits, over many questions every endpoint comes equally often, and first equally often.
func TestFairTurns(t *testing.T) {
	t.Parallel()
	z := newZone(t, zone.Config{})
	const count = 300
	sl := &model.EndpointSlice{Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 80}}}
	for i := range count {
		sl.Endpoints = append(sl.Endpoints, model.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), Ready: true})
	}
	z.PutService(&model.Service{Name: model.Name{Namespace: "a", Name: "head"}, Headless: true}, slices.Values([]*model.EndpointSlice{sl}))
	for _, q := range []struct {
		name  string
		qtype wire.Type
		limit int
	}{
		{"head.a.svc.cluster.local", wire.TypeA, 1232}, {"head.a.svc.cluster.local", wire.TypeA, 512},
		{"_http._tcp.head.a.svc.cluster.local", wire.TypeSRV, 1232}, {"_http._tcp.head.a.svc.cluster.local", wire.TypeA, 1232},
	} {
		var query wire.Query
		var r wire.Reply
		if code, ok := query.Parse(packet(t, q.name, q.qtype)); !ok || code != wire.NoError {
			t.Fatal(code)
		}
		first, seen := map[string]int{}, map[string]int{}
		each := 0
		for range count {
			r.Start(&query, nil, q.limit)
			z.Answer(&query, &r)
			if !r.Truncated() {
				t.Fatalf("%v: %d endpoints fit into %d bytes", q, count, q.limit)
			}
			i := 0
			msg := r.Finish()
			if len(msg) > q.limit {
				t.Fatalf("%v: %d bytes", q, len(msg))
			}
			if err := wire.EachAnswer(msg, func(_ []byte, _ wire.Type, _ uint32, data []byte) bool {
				if i == 0 {
					first[string(data)]++
				}
				seen[string(data)]++
				i++
				return true
			}); err != nil {
				t.Fatal(err)
			}
			each = max(each, i)
		}
		if len(first) != count || len(seen) != count {
			t.Errorf("%v: %d come first and %d at all, want %d", q, len(first), len(seen), count)
		}
		for a, n := range seen {
			// How many fit differs by the length of their names.
			if n < each-each/4-1 || n > each+1 || first[a] != 1 {
				t.Fatalf("%v: one comes %d times where the others come up to %d times, and first %d times", q, n, each, first[a])
			}
		}
	}
}
