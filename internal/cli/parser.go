package cli

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"fairway.dev/fairway/internal/app"
)

// parser reads flag values and keeps the first error.
type parser struct{ err error }

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

func (p *parser) addr(flag, s string) netip.AddrPort {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 {
		p.fail("%s %q: give ADDRESS:PORT, such as 127.0.0.1:6443 or [::1]:6443", flag, s)
	}
	return a
}

func (p *parser) addrs(flag, s string) (out []netip.AddrPort) {
	if s == "" || s == "off" {
		return nil
	}
	for one := range strings.SplitSeq(s, ",") {
		out = append(out, p.addr(flag, one))
	}
	return out
}

func (p *parser) cidrs(flag string, ss []string) []netip.Prefix {
	out := p.ranges(flag, ss)
	if len(out) == 0 || len(out) > 2 || len(out) == 2 && out[0].Addr().Is4() == out[1].Addr().Is4() {
		p.fail("%s: give one range, or one of IPv4 and one of IPv6", flag)
	}
	return out
}

// ranges is for any number of them.
func (p *parser) ranges(flag string, ss []string) (out []netip.Prefix) {
	for _, s := range ss {
		c, err := netip.ParsePrefix(s)
		if err != nil {
			p.fail("%s %q: give ADDRESS/BITS, such as 10.96.0.0/16", flag, s)
			return nil
		}
		if c != c.Masked() {
			p.fail("%s %s: the range begins at %s", flag, c, c.Masked())
		}
		out = append(out, c)
	}
	return out
}

// sameFamilies holds Services and Pods to the same address families.
func (p *parser) sameFamilies(services, pods []netip.Prefix) {
	if p.err != nil {
		return
	}
	if len(services) != len(pods) {
		p.fail("--service-cidr and --pod-cidr: give ranges of the same address families for both")
		return
	}
	for i := range services {
		if services[i].Addr().Is4() != pods[i].Addr().Is4() {
			p.fail("--service-cidr and --pod-cidr: give the address families in the same order")
		}
		for j := range pods {
			if services[i].Overlaps(pods[j]) {
				p.fail("--service-cidr %s overlaps --pod-cidr %s", services[i], pods[j])
			}
		}
	}
}

// ips reads addresses without ports.
func (p *parser) ips(flag string, ss []string) (out []netip.Addr) {
	for _, s := range ss {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsLoopback() {
			p.fail("%s %q: give the cluster's DNS address, such as 10.96.0.10", flag, s)
		}
		out = append(out, a.Unmap())
	}
	return out
}

// file makes the path of a file absolute: it may be read again later, wherever the process is by then.
func (p *parser) file(flag, s string) string {
	if s == "" {
		return ""
	}
	abs, err := filepath.Abs(s)
	if err != nil {
		p.fail("%s %q: %v", flag, s, err)
	}
	return abs
}

func (p *parser) upstreams(ss []string) (out []netip.AddrPort) {
	for _, s := range ss {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.AddrPortFrom(a, 53))
			continue
		}
		out = append(out, p.addr("--dns-upstream", s))
	}
	return out
}

// roomForDNS holds Service ranges to a size that has the address of cluster DNS in it, the tenth.
func (p *parser) roomForDNS(flag string, services []netip.Prefix) {
	for _, c := range services {
		if c.Addr().BitLen()-c.Bits() < 4 {
			p.fail("%s %s: too small, since cluster DNS has the tenth address; give at least 16 addresses", flag, c)
		}
	}
}

// one refuses an address that means all of the machine's: whoever opens the API to others says to which network.
func (p *parser) one(flag string, a netip.AddrPort) {
	if p.err == nil && a.Addr().IsUnspecified() {
		p.fail("%s %s: name the one address to listen on", flag, a)
	}
}

// published holds addresses to what a node's EndpointSlices can say: one address of each family, one that others reach, on one port.
func (p *parser) published(flag string, as []netip.AddrPort) {
	if p.err != nil {
		return
	}
	for i, a := range as {
		switch {
		case a.Addr().IsUnspecified() || a.Addr().IsLoopback():
			p.fail("%s %s: give the node's own address, at which Pods reach it", flag, a)
		case i > 0 && a.Port() != as[0].Port():
			p.fail("%s: give one port for all addresses", flag)
		case i > 1 || i > 0 && a.Addr().Is4() == as[0].Addr().Is4():
			p.fail("%s: give one address, or one of IPv4 and one of IPv6", flag)
		}
	}
}

// node reads the name of a Node: a DNS name in lower case, as the API has it.
func (p *parser) node(flag, s string) string {
	if len(validation.IsDNS1123Subdomain(s)) > 0 {
		p.fail("%s %q: use lower-case letters, digits, dashes and dots", flag, s)
	}
	return s
}

// domain reads a domain, with or without a dot at its end.
func (p *parser) domain(flag, s string) string {
	s = strings.TrimSuffix(s, ".")
	if len(validation.IsDNS1123Subdomain(s)) > 0 {
		p.fail("%s %q: give a domain in lower case, such as cluster.local", flag, s)
	}
	return s
}

// hostDNS reads a way to resolve the cluster's names on the machine itself.
func (p *parser) hostDNS(flag, s string) app.HostDNSMode {
	m, ok := app.ParseHostDNS(s)
	if !ok {
		p.fail("%s %q: give auto, off, resolved or resolv.conf", flag, s)
	}
	return m
}
