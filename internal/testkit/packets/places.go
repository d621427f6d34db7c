package packets

import (
	"fmt"
	"net/netip"

	"fairway.dev/fairway/internal/model"
)

// Family is a set of addresses.
type Family struct{ IPv6 bool }

// Families are both.
var Families = []Family{{false}, {true}}

// String names the family.
func (f Family) String() string {
	if f.IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

func (f Family) label() string {
	if f.IPv6 {
		return "v6"
	}
	return "v4"
}

func (f Family) of(v4, v6 string) netip.Addr {
	if f.IPv6 {
		return netip.MustParseAddr(v6)
	}
	return netip.MustParseAddr(v4)
}

// Protocols are those that a Service port may have.
var Protocols = []model.Protocol{model.TCP, model.UDP, model.SCTP}

// nodes gives one node in each of three zones, and one without. The first has a second address of each family.
func nodes() (out []*model.Node) {
	for i, zone := range []string{"z1", "z2", "z3", ""} {
		n := &model.Node{Name: fmt.Sprintf("n%d", i+1), Zone: zone}
		for _, f := range Families {
			n.Addresses = append(n.Addresses, nodeAddr(f, n.Name))
		}
		if i == 0 {
			for _, f := range Families {
				n.Addresses = append(n.Addresses, secondAddr(f))
			}
		}
		out = append(out, n)
	}
	return out
}

// nodeAddr is a node's primary address.
func nodeAddr(f Family, node string) netip.Addr {
	return f.of("192.0.2."+node[1:], "2001:db8::"+node[1:])
}

// secondAddr is the other address of node n1.
func secondAddr(f Family) netip.Addr { return f.of("192.0.2.129", "2001:db8::129") }

// A Pod's name is a letter for its node and a number: a1 is on n1, b1 on n2.

func nodeOf(pod string) string { return fmt.Sprintf("n%d", 1+pod[0]-'a') }

func podAddr(f Family, pod string) netip.Addr {
	n := 1 + pod[0] - 'a'
	return f.of(fmt.Sprintf("10.244.%d.1%s", n, pod[1:]), fmt.Sprintf("fd00:10:244:%d::1%s", n, pod[1:]))
}

// Client is who sends: a Pod by its name, a node by its name, "outside" or "stranger", which are two machines elsewhere; or, written
// as an address, the node that looks, when it sends from there.
type Client string

func (c Client) literal() (netip.Addr, bool) {
	a, err := netip.ParseAddr(string(c))
	return a, err == nil
}

// isPod is true for names of Pods.
func (c Client) isPod() bool { return len(c) == 2 && c[0] != 'n' }

// isNode is true for names of nodes.
func (c Client) isNode() bool { return len(c) == 2 && c[0] == 'n' }

// Addr is the client's source address.
func (c Client) Addr(f Family) netip.Addr {
	if a, ok := c.literal(); ok {
		return a
	}
	switch {
	case c == "outside":
		return f.of("198.51.100.100", "2001:db8:c::100")
	case c == "stranger":
		return f.of("203.0.113.200", "2001:db8:d::200")
	case c.isNode():
		return nodeAddr(f, string(c))
	}
	return podAddr(f, string(c))
}

// where is the namespace that the client is in, seen from a node.
func (c Client) where(node string) place {
	_, literal := c.literal()
	switch {
	case string(c) == node, literal:
		return onNode
	case c.isPod() && nodeOf(string(c)) == node:
		return inPods
	}
	return inNetwork
}

// place is one of a Lab's namespaces.
type place int

const (
	onNode place = iota
	inPods
	inNetwork
	places
)

// String names the place.
func (p place) String() string { return [...]string{"the node", "the node's Pods", "the network"}[p] }
