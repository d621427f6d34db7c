package zone

import (
	"cmp"
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/model"
)

// set is everything that is answered about one Service. It never changes, but for the turns of the rotation.
type set struct {
	// suffix is service.namespace.svc in wire form, without the zone.
	suffix []byte
	// cluster are the cluster addresses; none for a headless or external Service.
	cluster []netip.Addr
	// v4 and v6 are the records of the Service's own name.
	v4, v6 packed
	// ports are the Service's own, for SRV of a Service with cluster addresses; empty for the others.
	ports []servicePort
	// endpoints are the ready ones, ordered by address, then by host name, each once.
	endpoints []endpoint
	// hosts are the indexes of the endpoints with a host name, ordered by it.
	hosts []int32
	// endpointPorts say which endpoint serves which port.
	endpointPorts []endpointPort
	// alias is the external name in wire form, or nil.
	alias []byte
	// withheld says that cluster addresses are missing that will be there in a moment.
	withheld bool
	// turn is the rotation of SRV records, and of the addresses of a port.
	turn atomic.Uint32
}

// packed is a run of records of one size, owned by the name of the question.
type packed struct {
	rrs  []byte
	turn atomic.Uint32
}

const (
	sizeA    = 12 + 4
	sizeAAAA = 12 + 16
)

type servicePort struct {
	name     string
	protocol model.Protocol
	port     uint16
}

// endpointPort is one port of one or more slices; members are indexes of endpoints in order, nil for all of them.
type endpointPort struct {
	servicePort
	members []int32
}

type endpoint struct {
	addr netip.Addr
	host string
}

func (e endpoint) compare(o endpoint) int {
	return cmp.Or(e.addr.Compare(o.addr), strings.Compare(e.host, o.host))
}

// pack builds the set of a Service, or nil if it can have no name.
func pack(svc *model.Service, endpointSlices iter.Seq[*model.EndpointSlice], ttl uint32) *set {
	if !isLabel(svc.Name.Name) || !isLabel(svc.Name.Namespace) {
		return nil
	}
	s := &set{suffix: make([]byte, 0, len(svc.Name.Name)+len(svc.Name.Namespace)+6)}
	s.suffix = wire.AppendLabel(wire.AppendLabel(wire.AppendLabel(s.suffix, svc.Name.Name), svc.Name.Namespace), "svc")
	if svc.Type == model.ExternalName {
		if _, err := netip.ParseAddr(strings.TrimSuffix(svc.ExternalName, ".")); err == nil {
			return nil // an address is no name to point to
		}
		alias, err := wire.EncodeName(nil, svc.ExternalName)
		if err != nil || len(alias) == 1 {
			return nil
		}
		s.alias = alias
		return s
	}
	if !svc.Headless && len(svc.ClusterIPs) == 0 {
		return nil
	}
	s.gather(endpointSlices)
	if svc.Headless {
		var last netip.Addr
		for _, e := range s.endpoints {
			if e.addr != last {
				s.add(e.addr, ttl)
			}
			last = e.addr
		}
		return s
	}
	s.cluster = svc.ClusterIPs
	for _, a := range svc.ClusterIPs {
		s.add(a, ttl)
	}
	for _, p := range svc.Ports {
		s.ports = append(s.ports, servicePort{p.Name, p.Protocol, p.Port})
	}
	return s
}

func isLabel(s string) bool { return len(s) > 0 && len(s) <= 63 }

func (s *set) add(a netip.Addr, ttl uint32) {
	if a.Is4() {
		b := a.As4()
		s.v4.rrs = wire.AppendRecord(s.v4.rrs, wire.TypeA, ttl, b[:])
	} else {
		b := a.As16()
		s.v6.rrs = wire.AppendRecord(s.v6.rrs, wire.TypeAAAA, ttl, b[:])
	}
}

// gather merges the ready endpoints of all slices. An endpoint that several slices name is one endpoint with the ports of
// all of them.
func (s *set) gather(endpointSlices iter.Seq[*model.EndpointSlice]) {
	n := 0
	for sl := range endpointSlices {
		n += len(sl.Endpoints)
	}
	if n == 0 {
		return
	}
	s.endpoints = make([]endpoint, 0, n)
	for sl := range endpointSlices {
		for i := range sl.Endpoints {
			if e, ok := named(&sl.Endpoints[i]); ok {
				s.endpoints = append(s.endpoints, e)
			}
		}
	}
	slices.SortFunc(s.endpoints, endpoint.compare)
	s.endpoints = slices.Compact(s.endpoints)
	for i, e := range s.endpoints {
		if e.host != "" {
			s.hosts = append(s.hosts, int32(i))
		}
	}
	slices.SortStableFunc(s.hosts, func(a, b int32) int {
		return strings.Compare(s.endpoints[a].host, s.endpoints[b].host)
	})
	for sl := range endpointSlices {
		for _, p := range sl.Ports {
			s.serve(servicePort{p.Name, p.Protocol, p.Port}, sl)
		}
	}
	for i := range s.endpointPorts {
		p := &s.endpointPorts[i]
		slices.Sort(p.members)
		if p.members = slices.Compact(p.members); len(p.members) == len(s.endpoints) {
			p.members = nil
		} else {
			p.members = slices.Clip(p.members)
		}
	}
	s.endpointPorts = slices.DeleteFunc(s.endpointPorts, func(p endpointPort) bool { return p.members != nil && len(p.members) == 0 })
}

// serve notes that the endpoints of a slice serve a port.
func (s *set) serve(port servicePort, sl *model.EndpointSlice) {
	at := slices.IndexFunc(s.endpointPorts, func(p endpointPort) bool { return p.servicePort == port })
	if at < 0 {
		at = len(s.endpointPorts)
		s.endpointPorts = append(s.endpointPorts, endpointPort{servicePort: port, members: []int32{}})
	}
	p := &s.endpointPorts[at]
	for i := range sl.Endpoints {
		if e, ok := named(&sl.Endpoints[i]); ok {
			m, _ := slices.BinarySearchFunc(s.endpoints, e, endpoint.compare)
			p.members = append(p.members, int32(m))
		}
	}
}

// named gives what DNS keeps of an endpoint; ok is false if it has no name now.
func named(e *model.Endpoint) (endpoint, bool) {
	if !e.Ready || !e.Addr.IsValid() {
		return endpoint{}, false
	}
	out := endpoint{addr: e.Addr.Unmap().WithZone("")}
	if isLabel(e.Hostname) {
		out.host = strings.ToLower(e.Hostname)
	}
	return out, true
}

// key is the part of the suffix that services are found by: the labels of name and namespace.
func (s *set) key() []byte { return s.suffix[:len(s.suffix)-len("\x03svc")] }

// addrs yields every address that has a name here; those of several names come several times.
func (s *set) addrs() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, a := range s.cluster {
			if !yield(a) {
				return
			}
		}
		for _, e := range s.endpoints {
			if !yield(e.addr) {
				return
			}
		}
	}
}

func (s *set) has(a netip.Addr) bool {
	_, found := s.byAddr(a)
	return found || slices.Contains(s.cluster, a)
}

// byAddr gives the first endpoint of that address.
func (s *set) byAddr(a netip.Addr) (int, bool) {
	i, _ := slices.BinarySearchFunc(s.endpoints, a, func(e endpoint, a netip.Addr) int { return e.addr.Compare(a) })
	return i, i < len(s.endpoints) && s.endpoints[i].addr == a
}

// byHost gives the range of hosts that have that name.
func (s *set) byHost(label []byte) (lo, hi int) {
	compare := func(i int32, label []byte) int { return compareString(s.endpoints[i].host, label) }
	lo, found := slices.BinarySearchFunc(s.hosts, label, compare)
	if !found {
		return 0, 0
	}
	for hi = lo; hi < len(s.hosts) && s.endpoints[s.hosts[hi]].host == string(label); {
		hi++
	}
	return lo, hi
}

func compareString(s string, b []byte) int {
	switch {
	case s < string(b):
		return -1
	case s > string(b):
		return 1
	}
	return 0
}

// appendLabel appends the endpoint's label: its host name, or the address with dashes for the dots or colons. A label must not end in
// a dash, so an address that ends in a colon gets a 0 behind it.
func (e endpoint) appendLabel(b []byte) []byte {
	if e.host != "" {
		return append(append(b, byte(len(e.host))), e.host...)
	}
	at := len(b)
	b = e.addr.AppendTo(append(b, 0))
	for i := at + 1; i < len(b); i++ {
		if b[i] == '.' || b[i] == ':' {
			b[i] = '-'
		}
	}
	if b[len(b)-1] == '-' {
		b = append(b, '0')
	}
	b[at] = byte(len(b) - at - 1)
	return b
}

// appendPort appends the first six bytes of an SRV record's data.
func appendPort(b []byte, weight, port uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(append(b, 0, 0), weight), port)
}
