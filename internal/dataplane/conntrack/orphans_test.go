package conntrack_test

import (
	"net/netip"
	"testing"

	"fairway.dev/fairway/internal/dataplane/conntrack"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/testkit"
)

// TestOrphans has the kernel hold flows of every kind: only those go that were translated, have a destination in the ranges of Services that nobody
// has now, and would not end by themselves.
func TestOrphans(t *testing.T) {
	t.Parallel()
	table := open(t, testkit.NewNetNS(t))
	o := conntrack.Orphans{
		Ranges: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd96::/112")},
		Known:  serving(map[string][]string{"10.96.0.1:53": {"10.1.0.1:53"}, "[fd96::1]:53": {"[fd00::1]:53"}}),
		Others: map[netip.Addr]struct{}{netip.MustParseAddr("10.96.0.9"): {}, netip.MustParseAddr("fd96::9"): {}},
	}
	orphans := 0
	for i, c := range []struct {
		protocol   model.Protocol
		to4, from4 string
		to6, from6 string
		state      byte
		orphan     bool
	}{
		{model.UDP, "10.96.0.2:53", "10.1.0.1:53", "[fd96::2]:53", "[fd00::1]:53", 0, true},         // a Service that is gone
		{model.UDP, "10.96.0.1:54", "10.1.0.1:53", "[fd96::1]:54", "[fd00::1]:53", 0, true},         // a port that is gone
		{model.TCP, "10.96.0.2:80", "10.1.0.1:80", "[fd96::2]:80", "[fd00::1]:80", 1, true},         // SYN_SENT
		{model.TCP, "10.96.0.2:81", "10.1.0.1:80", "[fd96::2]:81", "[fd00::1]:80", 3, false},        // established
		{model.UDP, "10.96.0.1:53", "10.1.0.1:53", "[fd96::1]:53", "[fd00::1]:53", 0, false},        // served
		{model.UDP, "10.96.0.9:53", "10.1.0.1:53", "[fd96::9]:53", "[fd00::1]:53", 0, false},        // somebody else's
		{model.UDP, "10.96.0.3:53", "10.96.0.3:53", "[fd96::3]:53", "[fd96::3]:53", 0, false},       // not translated
		{model.UDP, "192.0.2.1:30053", "10.1.0.1:53", "[2001:db8::1]:53", "[fd00::1]:53", 0, false}, // not to the ranges
	} {
		for _, tuple := range [][2]string{{c.to4, c.from4}, {c.to6, c.from6}} {
			f := conntrack.Flow{Protocol: c.protocol, To: netip.MustParseAddrPort(tuple[0]), From: netip.MustParseAddrPort(tuple[1]), HalfOpen: c.state == 1}
			if got := o.Stale(f); got != c.orphan {
				t.Errorf("%s %s from %s: orphan %t, want %t", c.protocol, f.To, f.From, got, c.orphan)
			}
			client := "192.0.2.77"
			if f.To.Addr().Is6() {
				client = "2001:db8::77"
			}
			if err := table.Make(f, netip.AddrPortFrom(netip.MustParseAddr(client), 1000+uint16(i)), c.state); err != nil {
				t.Fatal(err)
			}
			if c.orphan {
				orphans++
			}
		}
	}
	for _, want := range []int{orphans, 0} {
		if n, err := table.SweepOrphans(o); n != want || err != nil {
			t.Errorf("deleted %d flows, %v, want %d", n, err, want)
		}
	}
}
