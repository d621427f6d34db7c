package zone

import (
	"net/netip"

	"fairway.dev/fairway/internal/model"
)

// kind says what stands at a name.
type kind uint8

const (
	nothing   kind = iota // no such name
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
	addr    netip.Addr
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

func (z *Zone) findPod(name []byte, labels []uint8, n int) node {
	switch {
	case n == 1:
		return node{kind: empty}
	case z.cfg.Pods == PodsDisabled || n > 3:
		return node{}
	}
	space := z.findNamespace(name, labels)
	if n == 2 || space.kind == nothing {
		return space
	}
	a, ok := parseLabel(label(name, labels, 0))
	if !ok {
		return node{}
	}
	return node{kind: pod, addr: a}
}

func (z *Zone) findService(name []byte, labels []uint8, n int) node {
	svc, exists := z.services.get(name[labels[n-3]:labels[n-1]])
	if !exists {
		return node{}
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

// each calls f with the index of each endpoint that the node means, in order.
func (n *node) each(f func(i int32)) {
	switch {
	case n.kind != endpoints:
		for i := range n.set.endpoints {
			f(int32(i))
		}
	case n.members == nil:
		f(n.one)
	default:
		for _, i := range n.members {
			f(i)
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
