package service

import (
	"net/netip"
	"testing"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

func TestAddressRange(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		prefix, first, last string
		outside             []string
	}{
		{"10.96.0.0/12", "10.96.0.1", "10.111.255.254", []string{"10.96.0.0", "10.111.255.255", "10.112.0.1", "10.95.255.255", "fd00::1"}},
		{"10.0.0.3/29", "10.0.0.1", "10.0.0.6", []string{"10.0.0.0", "10.0.0.7"}},
		{"0.0.0.0/0", "0.0.0.1", "255.255.255.254", []string{"255.255.255.255"}},
		{"fd00:96::/108", "fd00:96::1", "fd00:96::f:ffff", []string{"fd00:96::", "fd00:96::10:0", "10.96.0.1"}},
		{"fd00:96::/64", "fd00:96::1", "fd00:96::ffff:ffff:ffff:ffff", []string{"fd00:96::", "fd00:96:0:1::"}},
		{"10.0.0.0/30", "10.0.0.1", "10.0.0.2", []string{"10.0.0.0", "10.0.0.3"}},
	} {
		r, err := newAddressRange(netip.MustParsePrefix(test.prefix))
		if err != nil {
			t.Errorf("%s: %v", test.prefix, err)
			continue
		}
		for n, want := range map[uint64]string{0: test.first, r.size - 1: test.last} {
			if got := r.address(n); got.String() != want {
				t.Errorf("%s: address %d is %s, want %s", test.prefix, n, got, want)
			}
			if got, ok := r.number(netip.MustParseAddr(want)); !ok || got != n {
				t.Errorf("%s: number of %s is %d, %v, want %d", test.prefix, want, got, ok, n)
			}
		}
		for _, addr := range test.outside {
			if n, ok := r.number(netip.MustParseAddr(addr)); ok {
				t.Errorf("%s: %s has number %d, but is not for Services", test.prefix, addr, n)
			}
		}
	}
	for _, prefix := range []string{"10.0.0.0/31", "10.0.0.0/32", "fd00::/128"} {
		if r, err := newAddressRange(netip.MustParsePrefix(prefix)); err != nil || r.size != 0 {
			t.Errorf("%s has room for Services, or is refused: %+v, %v", prefix, r, err)
		}
	}
	if _, err := newAddressRange(netip.MustParsePrefix("fd00::/63")); err == nil {
		t.Error("fd00::/63 was accepted")
	}
}

func TestPortRange(t *testing.T) {
	t.Parallel()
	for _, bad := range []utilnet.PortRange{{Base: 0, Size: 10}, {Base: 30000, Size: 0}, {Base: 65000, Size: 537}} {
		if _, err := newPortRange(bad); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	r, err := newPortRange(utilnet.PortRange{Base: 65000, Size: 536})
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []int32{65000, 65535} {
		if n, ok := r.number(port); !ok || r.port(n) != port {
			t.Errorf("port %d: %d, %v", port, n, ok)
		}
	}
	for _, port := range []int32{-1, 0, 64999, 65536, 1 << 30} {
		if n, ok := r.number(port); ok {
			t.Errorf("port %d has number %d", port, n)
		}
	}
}
