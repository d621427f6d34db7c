package conntrack_test

import (
	"net/netip"
	"testing"

	"fairway.dev/fairway/internal/dataplane/conntrack"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// serving makes a Serving of both protocols; an IPv4 or IPv6 address with a port is a key.
func serving(entries map[string][]string) conntrack.Serving {
	s := conntrack.Serving{}
	for k, backends := range entries {
		at := netip.MustParseAddrPort(k)
		var list []netip.AddrPort
		for _, b := range backends {
			list = append(list, netip.MustParseAddrPort(b))
		}
		for _, p := range []model.Protocol{model.UDP, model.TCP} {
			s[plan.Key{Addr: at.Addr(), Protocol: p, Port: at.Port()}] = list
		}
	}
	return s
}

func TestStale(t *testing.T) {
	t.Parallel()
	const nodePort, external, balancer = "192.0.2.1:30053", "203.0.113.1:53", "203.0.113.2:53"
	s := serving(map[string][]string{
		"10.96.0.10:53": {"10.1.0.1:53", "10.1.0.2:53"}, "10.96.0.11:53": nil, "[fd96::10]:53": {"[fd00::1]:53"},
		nodePort: {"10.1.0.1:53"}, external: {"10.1.0.1:53"}, balancer: {"10.1.0.1:53"},
	})
	type half bool // TCP: only its SYN has been seen
	for _, c := range []struct {
		name     string
		to, from string
		want     bool
	}{
		{"a serving backend", "10.96.0.10:53", "10.1.0.2:53", false},
		{"a backend that is gone", "10.96.0.10:53", "10.1.0.3:53", true},
		{"the right address, the wrong port", "10.96.0.10:53", "10.1.0.1:54", true},
		{"begun before the Service was there", "10.96.0.10:53", "10.96.0.10:53", true},
		{"refused while it had no backend", "10.96.0.10:53", "127.0.0.1:0", true},
		{"a Service without backends", "10.96.0.11:53", "10.1.0.1:53", true},
		{"NodePort, serving", nodePort, "10.1.0.1:53", false},
		{"NodePort, gone", nodePort, "10.1.0.2:53", true},
		{"NodePort on an address where it is not served", "192.0.2.9:30053", "192.0.2.9:30053", false},
		{"external IP, serving", external, "10.1.0.1:53", false},
		{"external IP, gone", external, "10.1.0.2:53", true},
		{"external IP, begun before", external, external, true},
		{"load-balancer IP, gone", balancer, "10.1.0.2:53", true},
		{"another port of the Service's address", "10.96.0.10:54", "10.1.0.3:53", false},
		{"not a Service", "10.1.0.3:53", "10.1.0.3:53", false},
		{"IPv6, serving", "[fd96::10]:53", "[fd00::1]:53", false},
		{"IPv6, gone", "[fd96::10]:53", "[fd00::2]:53", true},
		{"IPv4 written as IPv6", "[::ffff:10.96.0.10]:53", "[::ffff:10.1.0.1]:53", false},
	} {
		f := conntrack.Flow{To: netip.MustParseAddrPort(c.to), From: netip.MustParseAddrPort(c.from)}
		for _, k := range []struct {
			name     string
			protocol model.Protocol
			half     half
			want     bool
		}{
			{"UDP", model.UDP, false, c.want}, {"half-open TCP", model.TCP, true, c.want},
			{"TCP", model.TCP, false, false}, {"SCTP", model.SCTP, false, false}, {"ICMP", 1, false, false},
		} {
			f.Protocol, f.HalfOpen = k.protocol, bool(k.half)
			if got := s.Stale(f); got != k.want {
				t.Errorf("%s, %s: stale %v, want %v", c.name, k.name, got, k.want)
			}
		}
	}
}

// TestOf takes the backends that may keep flows from plans: also where new flows are sent nowhere, never those of protocols that end by themselves.
func TestOf(t *testing.T) {
	t.Parallel()
	frontend := func(addr string, p model.Protocol, serving ...netip.AddrPort) plan.Frontend {
		return plan.Frontend{Key: plan.Key{Addr: netip.MustParseAddr(addr), Protocol: p, Port: 53}, Serving: serving}
	}
	b := netip.MustParseAddrPort("10.1.0.1:53")
	s := conntrack.Of(
		&plan.Service{Frontends: []plan.Frontend{frontend("10.96.0.1", model.UDP, b), frontend("10.96.0.1", model.SCTP, b)}},
		&plan.Service{Frontends: []plan.Frontend{frontend("10.96.0.2", model.TCP)}})
	if len(s) != 2 || len(s[frontend("10.96.0.1", model.UDP).Key]) != 1 {
		t.Errorf("%v", s)
	}
	if list, there := s[frontend("10.96.0.2", model.TCP).Key]; !there || len(list) != 0 {
		t.Errorf("a Service without endpoints: %v, %v", list, there)
	}
}
