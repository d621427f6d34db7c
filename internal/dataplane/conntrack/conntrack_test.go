package conntrack_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"fairway.dev/fairway/internal/dataplane/conntrack"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/testkit"
)

func serving(entries map[string][]string) conntrack.Serving {
	s := conntrack.Serving{}
	for k, backends := range entries {
		at := netip.MustParseAddrPort(k)
		var list []netip.AddrPort
		for _, b := range backends {
			list = append(list, netip.MustParseAddrPort(b))
		}
		s[plan.Key{Addr: at.Addr(), Protocol: model.UDP, Port: at.Port()}] = list
	}
	return s
}

func TestStale(t *testing.T) {
	t.Parallel()
	s := serving(map[string][]string{
		"10.96.0.10:53": {"10.1.0.1:53", "10.1.0.2:53"}, "10.96.0.11:53": nil, "[fd96::10]:53": {"[fd00::1]:53"},
	})
	for _, c := range []struct {
		name     string
		protocol model.Protocol
		to, from string
		want     bool
	}{
		{"a serving backend", model.UDP, "10.96.0.10:53", "10.1.0.2:53", false},
		{"a backend that is gone", model.UDP, "10.96.0.10:53", "10.1.0.3:53", true},
		{"the right address, the wrong port", model.UDP, "10.96.0.10:53", "10.1.0.1:54", true},
		{"begun before the Service was there", model.UDP, "10.96.0.10:53", "10.96.0.10:53", true},
		{"a Service without backends", model.UDP, "10.96.0.11:53", "10.1.0.1:53", true},
		{"another port of the Service's address", model.UDP, "10.96.0.10:54", "10.1.0.3:53", false},
		{"not a Service", model.UDP, "10.1.0.3:53", "10.1.0.3:53", false},
		{"TCP", model.TCP, "10.96.0.10:53", "10.1.0.3:53", false},
		{"IPv6, serving", model.UDP, "[fd96::10]:53", "[fd00::1]:53", false},
		{"IPv6, gone", model.UDP, "[fd96::10]:53", "[fd00::2]:53", true},
		{"IPv4 written as IPv6", model.UDP, "[::ffff:10.96.0.10]:53", "[::ffff:10.1.0.1]:53", false},
	} {
		if got := s.Stale(c.protocol, netip.MustParseAddrPort(c.to), netip.MustParseAddrPort(c.from)); got != c.want {
			t.Errorf("%s: stale %v, want %v", c.name, got, c.want)
		}
	}
}

// TestSweep makes real flows in a namespace and finds the stale ones deleted, and no other.
func TestSweep(t *testing.T) {
	t.Parallel()
	ns := testkit.NewNetNS(t)
	// Conntrack works in a namespace only where somebody asks for it.
	ns.Run("nft", "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c ct state new counter")
	flow := func(network, to string) {
		c, err := ns.Dial(t.Context(), network, to)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	var open []net.PacketConn
	for _, addr := range []string{"127.0.0.1:5301", "127.0.0.1:5302", "127.0.0.2:5301", "[::1]:5301"} {
		p, err := ns.ListenPacket("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, p)
		flow("udp", addr)
	}
	defer func() {
		for _, p := range open {
			_ = p.Close()
		}
	}()
	l, err := ns.Listen("tcp", "127.0.0.1:5301")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	flow("tcp", "127.0.0.1:5301")

	var table *conntrack.Table
	ns.Do(func() { table, err = conntrack.Open() })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = table.Close() }()
	sweep := func(s conntrack.Serving, want int) {
		t.Helper()
		if n, err := table.Sweep(s); n != want || err != nil {
			t.Errorf("deleted %d flows, %v, want %d", n, err, want)
		}
	}
	sweep(nil, 0)
	sweep(serving(map[string][]string{"127.0.0.1:5301": {"127.0.0.1:5301"}, "[::1]:5301": {"[::1]:5301"}}), 0)
	sweep(serving(map[string][]string{"127.0.0.1:5301": {"127.0.0.9:5301"}, "[::1]:5301": nil}), 2)
	sweep(serving(map[string][]string{"127.0.0.1:5301": nil, "[::1]:5301": nil}), 0) // they are gone
	many := map[string][]string{"127.0.0.1:5302": nil}
	for i := range 100 {
		many[fmt.Sprintf("10.96.0.%d:53", i)] = nil
	}
	sweep(serving(many), 1)
	sweep(serving(map[string][]string{"127.0.0.2:5301": nil}), 1)
}
