package zone

import (
	"net/netip"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/dns/wire"
)

// addresses adds the A or AAAA records of a node, each owned by the name that the pointer means.
func (z *Zone) addresses(r *wire.Reply, s wire.Section, owner uint16, n *node, t wire.Type) {
	switch n.kind {
	case server, whole:
		if n.set != nil {
			n.set.rotate(r, s, owner, t)
		}
	case pod:
		z.address(r, s, owner, n.addr, t)
	case port:
		if len(n.set.cluster) > 0 {
			n.set.rotate(r, s, owner, t)
			return
		}
		var last netip.Addr
		n.rotate()
		n.each(func(i int32) bool {
			if a := n.set.endpoints[i].addr; a != last && n.serves(i) {
				z.address(r, s, owner, a, t)
				last = a
			}
			return !r.Truncated()
		})
	case endpoints:
		n.rotate()
		n.each(func(i int32) bool {
			z.address(r, s, owner, n.set.endpoints[i].addr, t)
			return !r.Truncated()
		})
	}
}

// rotate adds the records of the Service's own name, starting from the next one each time. Clients take the first address; so each
// comes first equally often.
func (s *set) rotate(r *wire.Reply, sec wire.Section, owner uint16, t wire.Type) {
	p, size := &s.v4, sizeA
	if t == wire.TypeAAAA {
		p, size = &s.v6, sizeAAAA
	}
	n, first := len(p.rrs)/size, 0
	if n == 0 {
		return
	}
	if n > 1 {
		first = int(p.turn.Add(1) % uint32(n))
	}
	r.Packed(sec, owner, p.rrs, size, first)
}

func (z *Zone) address(r *wire.Reply, s wire.Section, owner uint16, a netip.Addr, t wire.Type) {
	switch b := a.As16(); {
	case a.Is4() && t == wire.TypeA:
		r.Record(s, owner, t, z.ttl(), b[12:])
	case a.Is6() && t == wire.TypeAAAA:
		r.Record(s, owner, t, z.ttl(), b[:])
	}
}

// serves tells whether an endpoint serves a port that the node wants.
func (n *node) serves(i int32) bool {
	for k := range n.set.endpointPorts {
		if p := &n.set.endpointPorts[k]; n.wants(p.servicePort) && p.has(i) {
			return true
		}
	}
	return false
}

func (p *endpointPort) has(i int32) bool {
	if p.members == nil {
		return true
	}
	_, found := slices.BinarySearch(p.members, i)
	return found
}

// answerSRV answers for a Service, a named port of it or an endpoint: one record for each target and port, all of
// priority 0 and equal weight, 100 shared among the addresses. The targets' addresses follow as additional records.
func (z *Zone) answerSRV(q *wire.Query, r *wire.Reply, n *node) {
	switch {
	case n.kind != whole && n.kind != port && n.kind != endpoints:
	case n.kind != endpoints && len(n.set.cluster) > 0:
		z.serviceSRV(q, r, n)
	default:
		z.endpointSRV(q, r, n)
	}
}

func (z *Zone) serviceSRV(q *wire.Query, r *wire.Reply, n *node) {
	total := 0
	for _, p := range n.set.ports {
		if n.wants(p) {
			total += len(n.set.cluster)
		}
	}
	if total == 0 {
		return
	}
	for _, p := range n.set.ports {
		if n.wants(p) {
			z.srv(q, r, n.set, nil, p.port, weight(total))
		}
	}
	owner := z.servicePointer(q)
	n.set.rotate(r, wire.Additional, owner, wire.TypeA)
	n.set.rotate(r, wire.Additional, owner, wire.TypeAAAA)
}

func (z *Zone) endpointSRV(q *wire.Query, r *wire.Reply, n *node) {
	total := 0
	for k := range n.set.endpointPorts {
		switch p := &n.set.endpointPorts[k]; {
		case !n.wants(p.servicePort):
		case n.kind == endpoints:
			n.each(func(i int32) bool {
				if p.has(i) {
					total++
				}
				return true
			})
		case p.members == nil:
			total += len(n.set.endpoints)
		default:
			total += len(p.members)
		}
	}
	if total == 0 {
		return
	}
	var label [64]byte
	n.rotate()
	for k := range n.set.endpointPorts {
		p := &n.set.endpointPorts[k]
		if !n.wants(p.servicePort) {
			continue
		}
		n.each(func(i int32) bool {
			if p.has(i) && n.set.firstOfHost(p, i) {
				z.srv(q, r, n.set, n.set.endpoints[i].appendLabel(label[:0]), p.port, weight(total))
			}
			return !r.Truncated()
		})
	}
	at := z.servicePointer(q)
	n.each(func(i int32) bool {
		if r.Truncated() || !n.serves(i) {
			return !r.Truncated()
		}
		e := n.set.endpoints[i]
		owner := append(e.appendLabel(label[:0]), byte(at>>8), byte(at))
		b := e.addr.As16()
		if e.addr.Is4() {
			return r.Named(wire.Additional, owner, wire.TypeA, z.ttl(), b[12:])
		}
		return r.Named(wire.Additional, owner, wire.TypeAAAA, z.ttl(), b[:])
	})
}

// firstOfHost tells whether no earlier endpoint serves the port under the same host name: such endpoints are one target.
func (s *set) firstOfHost(p *endpointPort, i int32) bool {
	host := s.endpoints[i].host
	if host == "" {
		return true
	}
	lo, _ := slices.BinarySearchFunc(s.hosts, host, func(i int32, host string) int {
		return strings.Compare(s.endpoints[i].host, host)
	})
	for ; s.hosts[lo] != i; lo++ { // hosts of one name are in the order of endpoints
		if p.has(s.hosts[lo]) {
			return false
		}
	}
	return true
}

// srv adds one SRV record. Its target is written out (RFC 2782) in lower case, the zone as the client wrote it.
func (z *Zone) srv(q *wire.Query, r *wire.Reply, s *set, label []byte, port, weight uint16) {
	if r.Truncated() {
		return
	}
	var b [6]byte
	r.Record(wire.Answer, wire.Question, wire.TypeSRV, z.ttl(), appendPort(b[:0], weight, port), label, s.suffix, z.zoneAs(q))
}

// servicePointer is the compression pointer to the Service's name within the question.
func (z *Zone) servicePointer(q *wire.Query) uint16 {
	labels := q.Labels()
	return wire.Question + uint16(labels[len(labels)-z.depth-3])
}

func weight(addresses int) uint16 { return uint16(max(1, 100/addresses)) }
