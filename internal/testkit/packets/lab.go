package packets

import (
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/testkit"
)

// Lab is what one View looks at: its node, its Pods and the network, each in a network namespace. An engine puts its rules into Node.
// Pods and the network take what arrives and never answer.
type Lab struct {
	t    testing.TB
	node string // the name
	ns   [places]*testkit.NetNS
	raw  [places][2]int // sockets to send with, by family

	mu       sync.Mutex
	arrivals map[uint32][]arrival
	changed  chan struct{} // holds a token when something has arrived
}

// arrival is where a packet was seen.
type arrival struct {
	sighting
	at place
}

// NewLab makes the namespaces for a view. They are gone when the test ends.
func NewLab(t testing.TB, v *View) *Lab {
	l := &Lab{t: t, node: v.Node, arrivals: map[uint32][]arrival{}, changed: make(chan struct{}, 1)}
	for p := range places {
		l.ns[p] = testkit.NewNetNS(t)
	}
	node, pods, network := l.ns[onNode], l.ns[inPods], l.ns[inNetwork]
	for _, s := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		node.Sysctl("net/"+s, "1")
	}
	for _, s := range []string{"all", "default"} {
		node.Sysctl("net/ipv4/conf/"+s+"/rp_filter", "0")
		node.Sysctl("net/ipv4/conf/"+s+"/send_redirects", "0")
		network.Sysctl("net/ipv4/conf/"+s+"/rp_filter", "0")
		pods.Sysctl("net/ipv4/conf/"+s+"/rp_filter", "0")
	}
	// Each packet that is refused must be answered.
	node.Sysctl("net/ipv4/icmp_ratemask", "0")
	node.Sysctl("net/ipv6/icmp/ratemask", "\n")

	testkit.Join(node, "pods0", pods, "eth0")
	testkit.Join(node, "net0", network, "eth0")
	v4, v6 := Families[0], Families[1]
	own, router, podsEnd := nodeAddr(v4, v.Node).String(), "192.0.2.254", "192.0.2.253"
	node.AddAddr("net0", own+"/32")
	node.AddAddr("net0", nodeAddr(v6, v.Node).String()+"/128")
	if v.Node == "n1" {
		for _, f := range Families { // not one that the kernel would choose as a source by itself
			node.Run("ip", "addr", "add", secondAddr(f).String(), "dev", "net0", "preferred_lft", "0", "valid_lft", "forever")
		}
	}
	network.AddAddr("eth0", router+"/32")
	pods.AddAddr("eth0", podsEnd+"/32")
	for _, link := range []string{"pods0", "net0"} {
		node.AddAddr(link, "fe80::1/64")
	}
	pods.AddAddr("eth0", "fe80::2/64")
	network.AddAddr("eth0", "fe80::2/64")

	node.AddRoute(podsEnd+"/32", "", "pods0")
	here, here6 := podRange(v4, v.Node).String(), podRange(v6, v.Node).String()
	node.AddRoute(here, podsEnd, "pods0")
	node.AddRoute(here6, "fe80::2", "pods0")
	node.AddRoute(router+"/32", "", "net0")
	node.AddRoute("0.0.0.0/0", router, "net0")
	node.AddRoute("::/0", "fe80::2", "net0")
	for _, ns := range []*testkit.NetNS{pods, network} {
		ns.AddRoute(own+"/32", "", "eth0")
		ns.AddRoute("0.0.0.0/0", own, "eth0")
		ns.AddRoute("::/0", "fe80::1", "eth0")
		// What arrives has been seen by then. Only neighbours must find one another.
		ns.Run("nft", `table ip silent { chain sink { type filter hook prerouting priority raw; policy drop; }; }
table ip6 silent { chain sink { type filter hook prerouting priority raw; policy drop; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; }; }`)
	}
	for p := range places {
		l.open(p)
	}
	return l
}

// podRange is where the Pods of a node have their addresses.
func podRange(f Family, node string) netip.Prefix {
	bits := 24
	if f.IPv6 {
		bits = 64
	}
	p, _ := podAddr(f, string(rune('a'+node[1]-'1'))+"1").Prefix(bits)
	return p
}

// Node is the namespace that an engine works in.
func (l *Lab) Node() *testkit.NetNS { return l.ns[onNode] }

// open makes the sockets of one place: two to send with, and one that sees what arrives.
func (l *Lab) open(p place) {
	var watch int
	var err error
	l.ns[p].Do(func() {
		for i, domain := range []int{unix.AF_INET, unix.AF_INET6} {
			if l.raw[p][i], err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
				return
			}
		}
		if watch, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL))); err != nil {
			return
		}
		_ = unix.SetsockoptInt(watch, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		// Short, so that the reader sees that the test has ended.
		err = unix.SetsockoptTimeval(watch, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	})
	if err != nil {
		l.t.Fatalf("packets: open raw sockets in %s: %v", p, err)
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() { defer close(stopped); l.watch(p, watch, done) }()
	l.t.Cleanup(func() {
		close(done)
		<-stopped
		_, _, _ = unix.Close(watch), unix.Close(l.raw[p][0]), unix.Close(l.raw[p][1])
	})
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// watch notes what arrives in one place.
func (l *Lab) watch(p place, fd int, done <-chan struct{}) {
	b := make([]byte, 1<<16)
	for {
		select {
		case <-done:
			return
		default:
		}
		n, from, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			continue
		}
		if a, ok := from.(*unix.SockaddrLinklayer); !ok || a.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		s, ok := parse(b[:n])
		if !ok {
			continue
		}
		if p == onNode && !s.refusal {
			continue // on its way
		}
		l.mu.Lock()
		if _, sent := l.arrivals[s.number]; sent {
			l.arrivals[s.number] = append(l.arrivals[s.number], arrival{s, p})
		}
		l.mu.Unlock()
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
}

// send writes one packet from where the client is.
func (l *Lab) send(c Client, p *Packet, port uint16, number uint32) error {
	f := Family{p.To.Addr.Is6()}
	b := build(p.To.Protocol, netip.AddrPortFrom(c.Addr(f), port), netip.AddrPortFrom(p.To.Addr, p.To.Port), number)
	l.mu.Lock()
	l.arrivals[number] = nil
	l.mu.Unlock()
	fds := l.raw[c.where(l.node)]
	if f.IPv6 {
		return unix.Sendto(fds[1], b, 0, &unix.SockaddrInet6{Addr: p.To.Addr.As16()})
	}
	return unix.Sendto(fds[0], b, 0, &unix.SockaddrInet4{Addr: p.To.Addr.As4()})
}
