package forward

import (
	"bufio"
	"bytes"
	"net/netip"
	"strings"
)

// ParseResolvConf gives the nameservers of a resolv.conf(5), each with port 53; lines that make no sense are passed over, as
// the C library does.
func ParseResolvConf(text []byte) []Address {
	var out []Address
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			out = append(out, Address{AddrPort: netip.AddrPortFrom(a.Unmap(), 53)})
		}
	}
	return out
}

// ParseSearch gives the search path of a resolv.conf(5), without final dots.
func ParseSearch(text []byte) (out []string) {
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) == 0 || f[0] != "search" && f[0] != "domain" {
			continue
		}
		out = nil // the last line counts
		for _, d := range f[1:] {
			if d = strings.TrimSuffix(d, "."); d != "" {
				out = append(out, d)
			}
		}
	}
	return out
}
