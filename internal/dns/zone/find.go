package zone

import (
	"net/netip"

	"fairway.dev/fairway/internal/model"
)

// kind says what stands at a name.
type kind uint8

const (
	nothing   kind = iota // no such name
	unknown               // no such name as far as is known: it would be a Service's or a port's, and name is its key
	pending               // a Service whose name is withheld
	empty                 // a name without records, because something is below it
	apex                  // the zone itself
	version               // dns-version
	server                // ns.dns, the addresses of the DNS Service
	whole                 // a Service
	port                  // a named port of a Service
	endpoints             // one label under a Service
	pod                   // an address spelt out
)

// node is what stands at a name: nothing is copied, all of it points into a set.
type node struct {
	kind kind
	set  *set
	// name and protocol are those of a port.
	name     []byte
	protocol model.Protocol
	// members are the endpoints that the label means; one is used when the label spells an address.
	members []int32
	one     int32
	// first is where the rotation is.
	first int
	addr  netip.Addr
}

// under tells whether a name in lower case is the zone's or below it.
func (z *Zone) under(name []byte, labels []uint8) bool {
	n := len(labels) - z.depth
	if n < 0 {
		return false
	}
	at := len(name) - len(z.origin)
	return at >= 0 && (n == len(labels) || int(labels[n]) == at) && string(name[at:]) == string(z.origin)
}

// find looks up a name in lower case that is under the zone.
func (z *Zone) find(name []byte, labels []uint8) node {
	n := len(labels) - z.depth
	if n == 0 {
		return node{kind: apex}
	}
	switch top := label(name, labels, n-1); string(top) {
	case "svc":
		switch n {
		case 1:
			return node{kind: empty}
		case 2:
			return z.findNamespace(name, labels)
		}
		return z.findService(name, labels, n)
	case "pod":
		return z.findPod(name, labels, n)
	case "dns":
		switch {
		case n == 1:
			return node{kind: empty}
		case n == 2 && string(label(name, labels, 0)) == "ns":
			return node{kind: server, set: z.serverSet()}
		}
	case "dns-version":
		if n == 1 {
			return node{kind: version}
		}
	}
	return node{}
}

// findNamespace looks up the label in front of svc or pod.
func (z *Zone) findNamespace(name []byte, labels []uint8) node {
	n := len(labels) - z.depth
	if _, exists := z.namespaces.get(name[labels[n-2]:labels[n-1]]); exists {
		return node{kind: empty}
	}
	return node{}
}

func (z *Zone) findService(name []byte, labels []uint8, n int) node {
	svc, exists := z.services.get(name[labels[n-3]:labels[n-1]])
	if !exists {
		return z.findNameless(name, labels, n)
	}
	s := svc.set.Load()
	if s.alias == nil && len(s.cluster) == 0 && len(s.endpoints) == 0 {
		return node{} // headless with nothing ready: no such name (specification 2.4.1)
	}
	switch {
	case n == 3:
		return node{kind: whole, set: s}
	case s.alias != nil:
		return node{}
	case n == 4:
		return s.findLabel(label(name, labels, 0))
	case n == 5:
		return s.findPort(label(name, labels, 0), label(name, labels, 1))
	}
	return node{}
}

// findNameless tells a Service that has no name, or not yet, from one that nobody has put. That a Service was not put says nothing of the
// names that end in other words of this world, "example.com" tried with a search path, so those do not count: an endpoint's name cannot
// exist before its Service is known, as it takes time to become ready.
func (z *Zone) findNameless(name []byte, labels []uint8, n int) node {
	if n != 3 && (n != 5 || name[labels[0]+1] != '_' || name[labels[1]+1] != '_') {
		return node{}
	}
	key := name[labels[n-3]:labels[n-1]]
	switch withheld, known := z.nameless.get(key); {
	case withheld:
		return node{kind: pending}
	case known || !isHostLabel(label(name, labels, n-3)) || !isHostLabel(label(name, labels, n-2)):
		return node{}
	}
	return node{kind: unknown, name: key}
}

// isHostLabel tells whether a label in lower case could name an object of the API.
func isHostLabel(l []byte) bool {
	for _, c := range l {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return l[0] != '-' && l[len(l)-1] != '-'
}

// findLabel looks up one label under a Service: the name of an endpoint, or a protocol that has named ports below.
func (s *set) findLabel(l []byte) node {
	if lo, hi := s.byHost(l); hi > lo {
		return node{kind: endpoints, set: s, members: s.hosts[lo:hi]}
	}
	if a, ok := parseLabel(l); ok {
		// An endpoint without a host name comes first among those of its address.
		if i, found := s.byAddr(a); found && s.endpoints[i].host == "" {
			return node{kind: endpoints, set: s, one: int32(i)}
		}
	}
	if p, ok := parseProtocol(l); ok && l[0] == '_' && s.hasPort(func(q servicePort) bool { return q.protocol == p && q.name != "" }) {
		return node{kind: empty}
	}
	return node{}
}

// findPort looks up a port's name and protocol; the underscores may be missing.
func (s *set) findPort(name, protocol []byte) node {
	p, ok := parseProtocol(protocol)
	if name[0] == '_' {
		name = name[1:]
	}
	if !ok || len(name) == 0 || !s.hasPort(func(q servicePort) bool { return q.protocol == p && q.name == string(name) }) {
		return node{}
	}
	return node{kind: port, set: s, name: name, protocol: p}
}

// hasPort asks the Service's own ports, or those of a headless Service's endpoints.
func (s *set) hasPort(want func(servicePort) bool) bool {
	if len(s.cluster) > 0 {
		for _, p := range s.ports {
			if want(p) {
				return true
			}
		}
		return false
	}
	for i := range s.endpointPorts {
		if want(s.endpointPorts[i].servicePort) {
			return true
		}
	}
	return false
}

// wants tells whether a node asks for a port: every port counts unless the node names one.
func (n *node) wants(p servicePort) bool {
	return n.kind != port || p.protocol == n.protocol && p.name == string(n.name)
}

// each calls f with the index of each endpoint that the node means, in order, from the one that rotate chose around to the one before it,
// until f says that it is enough.
func (n *node) each(f func(i int32) (more bool)) {
	count, at := n.count(), n.first
	for more := true; more && count > 0; {
		switch {
		case n.kind != endpoints:
			more = f(int32(at))
		case n.members == nil:
			more = f(n.one)
		default:
			more = f(n.members[at])
		}
		if at++; at == n.count() {
			at = 0
		}
		count--
	}
}

func (n *node) count() int {
	switch {
	case n.kind != endpoints:
		return len(n.set.endpoints)
	case n.members == nil:
		return 1
	}
	return len(n.members)
}

// rotate chooses where each starts: with the next endpoint each time, but not in the midst of those of one address.
func (n *node) rotate() {
	count := n.count()
	if count < 2 {
		return
	}
	n.first = int(n.set.turn.Add(1) % uint32(count))
	if n.kind != endpoints {
		for all := n.set.endpoints; n.first > 0 && all[n.first].addr == all[n.first-1].addr; {
			n.first--
		}
	}
}

func parseProtocol(l []byte) (model.Protocol, bool) {
	if len(l) > 0 && l[0] == '_' {
		l = l[1:]
	}
	switch string(l) {
	case "tcp":
		return model.TCP, true
	case "udp":
		return model.UDP, true
	case "sctp":
		return model.SCTP, true
	}
	return 0, false
}

// serverSet gives the DNS Service's records, or nil.
func (z *Zone) serverSet() *set {
	if svc, ok := z.services.get(z.serverKey); ok {
		return svc.set.Load()
	}
	return nil
}
