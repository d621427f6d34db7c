package testkit

import (
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Join lays a wire between two namespaces: a veth pair, up, its ends named as given (15 bytes at most), without addresses.
func Join(a *NetNS, aName string, b *NetNS, bName string) {
	a.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = aName
	attrs.Namespace = netlink.NsFd(a.fd.Fd())
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: bName, PeerNamespace: netlink.NsFd(b.fd.Fd())}
	if err := a.h.LinkAdd(veth); err != nil {
		a.t.Fatalf("testkit: join %s and %s: %v", aName, bName, err)
	}
	a.LinkUp(aName)
	b.LinkUp(bName)
	a.awaitCarrier(aName)
	b.awaitCarrier(bName)
}

// awaitCarrier waits until a link carries packets. The kernel tells its two ends of each other in a queue of its own, up to a second after
// both are up, and until then drops what is sent.
func (n *NetNS) awaitCarrier(name string) {
	n.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); n.link(name).Attrs().OperState != netlink.OperUp; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("testkit: %s has no carrier", name)
		}
	}
}

// LinkUp sets a link up.
func (n *NetNS) LinkUp(name string) {
	n.t.Helper()
	if err := n.h.LinkSetUp(n.link(name)); err != nil {
		n.t.Fatalf("testkit: set %s up: %v", name, err)
	}
}

// LinkDown sets a link down.
func (n *NetNS) LinkDown(name string) {
	n.t.Helper()
	if err := n.h.LinkSetDown(n.link(name)); err != nil {
		n.t.Fatalf("testkit: set %s down: %v", name, err)
	}
}

// AddLink makes a link that leads nowhere, up: a veth pair with both ends here, the other end named name+"-x".
func (n *NetNS) AddLink(name string) {
	n.t.Helper()
	Join(n, name, n, name+"-x")
}

// AddAddr gives a link an address with its prefix: "10.0.0.1/24", "fd00::1/64".
func (n *NetNS) AddAddr(link, addr string) {
	n.t.Helper()
	a := &netlink.Addr{IPNet: ipNet(n.prefix(addr))}
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD // usable at once, also while the kernel is busy
	}
	if err := n.h.AddrAdd(n.link(link), a); err != nil {
		n.t.Fatalf("testkit: add address %s to %s: %v", addr, link, err)
	}
}

// AddRoute routes a prefix through a link, by way of a gateway or, where via is "", straight onto the link.
func (n *NetNS) AddRoute(dst, via, link string) {
	n.t.Helper()
	r := &netlink.Route{Dst: ipNet(n.prefix(dst)), LinkIndex: n.link(link).Attrs().Index}
	if via != "" {
		r.Gw = net.ParseIP(via)
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := n.h.RouteAdd(r); err != nil {
		n.t.Fatalf("testkit: route %s via %q dev %s: %v", dst, via, link, err)
	}
}

func (n *NetNS) link(name string) netlink.Link {
	n.t.Helper()
	l, err := n.h.LinkByName(name)
	if err != nil {
		n.t.Fatalf("testkit: find link %s: %v", name, err)
	}
	return l
}

func (n *NetNS) prefix(s string) netip.Prefix {
	n.t.Helper()
	p, err := netip.ParsePrefix(s)
	if err != nil {
		n.t.Fatalf("testkit: %v", err)
	}
	return p
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
