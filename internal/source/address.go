package source

import (
	stdnet "net"
	"net/netip"

	"k8s.io/utils/net"
)

// addr reads an address as the API does, which takes leading zeros in objects from before it refused them (CVE-2021-29923) and
// holds ::ffff:10.0.0.1 for an IPv4 address. "" and "None" are no addresses.
func addr(s string) (netip.Addr, bool) {
	if s == "" || s == "None" {
		return netip.Addr{}, false
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone(""), true
	}
	a, ok := netip.AddrFromSlice(net.ParseIPSloppy(s))
	return a.Unmap(), ok
}

func addrs(list []string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		if a, ok := addr(s); ok {
			out = append(out, a)
		}
	}
	return out
}

func prefix(ip stdnet.IP, mask stdnet.IPMask) netip.Prefix {
	a, _ := netip.AddrFromSlice(ip)
	ones, _ := mask.Size()
	return netip.PrefixFrom(a, ones)
}

// port takes a port number; ok is false for 0 and whatever else is none.
func port(n int32) (p uint16, ok bool) {
	if n < 1 || n > 65535 {
		return 0, false
	}
	return uint16(n), true
}
