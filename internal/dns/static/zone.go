package static

import (
	"bytes"
	"fmt"

	"github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns/wire"
)

// Zone is a zone that was read from a master file.
type Zone struct {
	origin []byte
	// names are all names of the zone, in lower case, also those that only have others below them.
	names map[string]map[wire.Type][]record
	soa   []record
}

type record struct {
	ttl  uint32
	data []byte
}

// maxAliases is how many aliases are followed within a zone.
const maxAliases = 10

// ParseZone reads a master file (RFC 1035 section 5) for the zone origin, in wire form and lower case. file is how errors call it. The file
// must have the zone's SOA record and nothing outside of the zone; $INCLUDE is refused.
func ParseZone(origin []byte, file string, text []byte) (*Zone, error) {
	z := &Zone{origin: origin, names: map[string]map[wire.Type][]record{}}
	name := wire.NameString(origin)
	p := dns.NewZoneParser(bytes.NewReader(text), name, file)
	buf := make([]byte, wire.MaxMessage)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		h := rr.Header()
		n, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			return nil, fmt.Errorf("%s: record %s: %w", file, rr, err)
		}
		owner, data, ok := splitRecord(buf[:n])
		if !ok || !below(owner, origin) {
			return nil, fmt.Errorf("%s: record of %s: it is outside of the zone %s", file, h.Name, name)
		}
		if h.Class != dns.ClassINET {
			return nil, fmt.Errorf("%s: record of %s: class %s; only IN is served", file, h.Name, dns.ClassToString[h.Class])
		}
		z.add(owner, wire.Type(h.Rrtype), record{h.Ttl, data})
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if z.soa = z.names[string(origin)][wire.TypeSOA]; len(z.soa) != 1 {
		return nil, fmt.Errorf("%s: zone %s has %d SOA records; a zone has one", file, name, len(z.soa))
	}
	for n, types := range z.names {
		if len(types[wire.TypeCNAME]) > 0 && len(types) > 1 || len(types[wire.TypeCNAME]) > 1 {
			return nil, fmt.Errorf("%s: %s: it is an alias and has other records; an alias is alone", file, wire.NameString([]byte(n)))
		}
	}
	return z, nil
}

// splitRecord takes an uncompressed record apart: its owner in lower case, and its data.
func splitRecord(b []byte) (owner, data []byte, ok bool) {
	i := 0
	for b[i] != 0 {
		i += 1 + int(b[i])
	}
	i++
	owner = make([]byte, i)
	for k, c := range b[:i] {
		owner[k] = wire.Lower(c)
	}
	return owner, bytes.Clone(b[i+10:]), len(b) >= i+10
}

// below tells whether a name is a zone's or below it.
func below(name, zone []byte) bool {
	for len(name) > len(zone) {
		name = name[1+name[0]:]
	}
	return bytes.Equal(name, zone)
}

func (z *Zone) add(owner []byte, t wire.Type, r record) {
	types := z.types(owner)
	for _, had := range types[t] {
		if bytes.Equal(had.data, r.data) {
			return
		}
	}
	types[t] = append(types[t], r)
	for n := owner; len(n) > len(z.origin); {
		n = n[1+n[0]:]
		z.types(n)
	}
}

func (z *Zone) types(name []byte) map[wire.Type][]record {
	types := z.names[string(name)]
	if types == nil {
		types = map[wire.Type][]record{}
		z.names[string(name)] = types
	}
	return types
}

// Origin is the zone's name in wire form and lower case.
func (z *Zone) Origin() []byte { return z.origin }

// Has tells whether a name in lower case is the zone's or below it.
func (z *Zone) Has(name []byte) bool { return below(name, z.origin) }

// Answer answers a question for a name that the zone Has. If that ends at an alias of a name outside, it gives that name: what is missing
// is its records.
func (z *Zone) Answer(q *wire.Query, r *wire.Reply) (chase []byte) {
	r.Authoritative = true
	if q.Type == wire.TypeAXFR || q.Type == wire.TypeIXFR {
		r.Authoritative, r.Rcode = false, wire.Refused
		return nil
	}
	name := q.Lower()
	for i := 0; ; i++ {
		if cut, ns := z.cut(name); ns != nil {
			z.refer(q, r, cut, ns, i == 0)
			return nil
		}
		types, exists := z.find(name)
		if !exists {
			r.Rcode = wire.NameError
			z.deny(r)
			return nil
		}
		if rrs := types[q.Type]; len(rrs) > 0 {
			z.write(q, r, wire.Answer, name, q.Type, rrs)
			return nil
		}
		alias := types[wire.TypeCNAME]
		if len(alias) == 0 || i == maxAliases {
			z.deny(r)
			return nil
		}
		z.write(q, r, wire.Answer, name, wire.TypeCNAME, alias)
		target := lower(alias[0].data)
		if !z.Has(target) {
			return target
		}
		name = target
	}
}

func lower(name []byte) []byte {
	out := make([]byte, len(name))
	for i, c := range name {
		out[i] = wire.Lower(c)
	}
	return out
}

// find gives what stands at a name, or what a wildcard has for it (RFC 4592).
func (z *Zone) find(name []byte) (map[wire.Type][]record, bool) {
	if types, ok := z.names[string(name)]; ok {
		return types, true
	}
	for len(name) > len(z.origin) {
		name = name[1+name[0]:]
		if _, ok := z.names[string(name)]; ok { // the closest that exists: only a wildcard right below it counts
			types, ok := z.names["\x01*"+string(name)]
			return types, ok
		}
	}
	return nil, false
}

// cut gives the highest delegation at or above a name.
func (z *Zone) cut(name []byte) (at []byte, ns []record) {
	for n := name; len(n) > len(z.origin); n = n[1+n[0]:] {
		if found := z.names[string(n)][wire.TypeNS]; len(found) > 0 {
			at, ns = n, found
		}
	}
	return at, ns
}

// refer says who knows: the servers of the part of the zone that was given away, and their addresses.
func (z *Zone) refer(q *wire.Query, r *wire.Reply, cut []byte, ns []record, whole bool) {
	if whole {
		r.Authoritative = false
	}
	z.write(q, r, wire.Authority, cut, wire.TypeNS, ns)
	for _, s := range ns {
		glue := z.names[string(lower(s.data))]
		for _, t := range []wire.Type{wire.TypeA, wire.TypeAAAA} {
			z.write(q, r, wire.Additional, lower(s.data), t, glue[t])
		}
	}
}

// deny adds the SOA record, whose TTL is for how long the answer is good (RFC 2308 section 3).
func (z *Zone) deny(r *wire.Reply) {
	soa := z.soa[0]
	n := len(soa.data)
	minimum := uint32(soa.data[n-4])<<24 | uint32(soa.data[n-3])<<16 | uint32(soa.data[n-2])<<8 | uint32(soa.data[n-1])
	r.Named(wire.Authority, z.origin, wire.TypeSOA, min(soa.ttl, minimum), soa.data)
}

// write adds records; the question's own name is repeated as the client wrote it.
func (z *Zone) write(q *wire.Query, r *wire.Reply, s wire.Section, owner []byte, t wire.Type, rrs []record) {
	asked := bytes.Equal(owner, q.Lower())
	for _, rr := range rrs {
		if asked {
			r.Record(s, wire.Question, t, rr.ttl, rr.data)
		} else {
			r.Named(s, owner, t, rr.ttl, rr.data)
		}
	}
}
