package zone

import (
	"slices"

	"fairway.dev/fairway/internal/dns/wire"
)

// Outcome says what Answer has done.
type Outcome uint8

const (
	// Answered: the reply is complete.
	Answered Outcome = iota
	// NotOurs: the name is in no zone of ours; the reply is as it was.
	NotOurs
	// Chase: the name is an alias of one outside; the reply has the alias, what is missing is the target's records.
	Chase
	// Unknown: the reply is complete and denies a name that would be a Service's, because nobody has put that Service. Whoever can find out
	// whether there is one may do so first.
	Unknown
	// Pending: the reply is complete and denies what is withheld for a moment. Whoever can wait should, and ask again.
	Pending
)

const (
	versionTTL  = 28800
	versionText = "\x051.1.0"
	// maxAliases is how many aliases are followed within the zone.
	maxAliases = 10
)

// Answer adds to a started reply all that the zone has to say. The query must have been parsed without an error. For the
// outcome Chase it gives the target in wire form, for the outcome Unknown the Service's name and namespace as labels; they must not be changed.
func (z *Zone) Answer(q *wire.Query, r *wire.Reply) (Outcome, []byte) {
	name, labels := q.Lower(), q.Labels()
	if q.Type == wire.TypeAXFR || q.Type == wire.TypeIXFR {
		r.Rcode = wire.Refused
		return Answered, nil
	}
	if !z.under(name, labels) {
		return z.answerReverse(q, r), nil
	}
	n := z.find(name, labels)
	switch n.kind {
	case nothing:
		z.deny(q, r, wire.NameError)
		return Answered, nil
	case unknown:
		z.deny(q, r, wire.NameError)
		if r.Rcode == wire.ServerFailure {
			return Answered, nil
		}
		return Unknown, n.name
	case pending:
		z.deny(q, r, wire.NameError)
		return Pending, nil
	}
	r.Authoritative = true
	switch {
	case n.kind == whole && n.set.alias != nil:
		return z.answerAlias(q, r, n.set)
	case q.Type == wire.TypeA || q.Type == wire.TypeAAAA:
		z.addresses(r, wire.Answer, wire.Question, &n, q.Type)
	case q.Type == wire.TypeSRV:
		z.answerSRV(q, r, &n)
	case n.kind == apex:
		z.answerApex(q, r)
	case n.kind == version && q.Type == wire.TypeTXT:
		r.Record(wire.Answer, wire.Question, wire.TypeTXT, versionTTL, []byte(versionText))
	}
	if r.Count(wire.Answer) == 0 && !r.Truncated() {
		z.deny(q, r, wire.NoError)
		if n.set != nil && n.set.withheld && (q.Type == wire.TypeA || q.Type == wire.TypeAAAA) {
			return Pending, nil
		}
	}
	return Answered, nil
}

// Doubt denies a name like Answer with the outcome Unknown, but so that nobody remembers it: for when it could not be found out whether the
// Service exists. The reply must be as it was started.
func (z *Zone) Doubt(q *wire.Query, r *wire.Reply) {
	r.Authoritative, r.Rcode = true, wire.NameError
	z.soa(r, wire.Authority, z.zonePointer(q), z.zonePointer(q), 0)
}

// deny says that a name does not exist, or has no records of the type that was asked for: with the SOA record that tells for how
// long. As long as not everything is known, that a name does not exist cannot be said.
func (z *Zone) deny(q *wire.Query, r *wire.Reply, code wire.Rcode) {
	if code == wire.NameError && !z.synced.Load() {
		r.Rcode = wire.ServerFailure
		return
	}
	r.Authoritative = true
	r.Rcode = code
	z.soa(r, wire.Authority, z.zonePointer(q), z.zonePointer(q), min(z.ttl(), 300))
}

// zonePointer is the compression pointer to the zone within the question.
func (z *Zone) zonePointer(q *wire.Query) uint16 {
	return wire.Question + uint16(len(q.Name)-len(z.origin))
}

// zoneAs is the zone's name as the client wrote it.
func (z *Zone) zoneAs(q *wire.Query) []byte { return q.Name[len(q.Name)-len(z.origin):] }

// soa adds the SOA record. origin is a pointer to the zone's name, or 0 to have it written out.
func (z *Zone) soa(r *wire.Reply, s wire.Section, owner, origin uint16, ttl uint32) {
	var pointer, times [20]byte
	tail := z.origin
	if origin != 0 {
		pointer[0], pointer[1] = byte(origin>>8), byte(origin)
		tail = pointer[:2]
	}
	t := appendUint32(times[:0], z.serial.Load())
	t = appendUint32(appendUint32(appendUint32(t, 7200), 1800), 86400)
	t = appendUint32(t, z.ttl())
	r.Record(s, owner, wire.TypeSOA, ttl, []byte("\x02ns\x03dns"), tail, []byte("\x0ahostmaster"), tail, t)
}

func appendUint32(b []byte, v uint32) []byte {
	return append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// answerApex answers NS and SOA of the zone itself.
func (z *Zone) answerApex(q *wire.Query, r *wire.Reply) {
	origin := z.zonePointer(q)
	switch q.Type {
	case wire.TypeSOA:
		z.soa(r, wire.Answer, wire.Question, origin, min(z.ttl(), 300))
	case wire.TypeNS:
		dns := z.serverSet()
		name := []byte("\x02ns\x03dns")
		if dns != nil {
			name = dns.suffix
		}
		target := wire.Question&0xc000 | uint16(r.Len()+12)
		r.Record(wire.Answer, wire.Question, wire.TypeNS, z.ttl(), name, []byte{byte(origin >> 8), byte(origin)})
		if dns != nil {
			glue := node{kind: whole, set: dns}
			z.addresses(r, wire.Additional, target, &glue, wire.TypeA)
			z.addresses(r, wire.Additional, target, &glue, wire.TypeAAAA)
		}
	}
}

// answerAlias answers for an ExternalName Service. Aliases within the zone are followed here; where that ends in nothing, or
// does not end, the answer is empty, aliases and all.
func (z *Zone) answerAlias(q *wire.Query, r *wire.Reply, s *set) (Outcome, []byte) {
	switch q.Type {
	case wire.TypeCNAME:
		r.Record(wire.Answer, wire.Question, wire.TypeCNAME, z.ttl(), s.alias)
		return Answered, nil
	case wire.TypeA, wire.TypeAAAA:
	default:
		z.deny(q, r, wire.NoError)
		return Answered, nil
	}
	var (
		chain  [maxAliases]*set
		n      int
		buf    [wire.MaxName / 2]uint8
		end    node
		chased bool
	)
	for more := true; more; {
		if n == maxAliases || slices.Contains(chain[:n], s) {
			z.deny(q, r, wire.NoError)
			return Answered, nil
		}
		chain[n], n = s, n+1
		labels := split(buf[:0], s.alias)
		if chased = !z.under(s.alias, labels); chased {
			break
		}
		end = z.find(s.alias, labels)
		if more = end.kind == whole && end.set.alias != nil; more {
			s = end.set
		}
	}
	start, owner := r.Mark(), uint16(wire.Question)
	for _, s := range chain[:n] {
		target := wire.Question&0xc000 | uint16(r.Len()+12)
		if !r.Record(wire.Answer, owner, wire.TypeCNAME, z.ttl(), s.alias) {
			return Answered, nil
		}
		owner = target
	}
	if chased {
		return Chase, s.alias
	}
	z.addresses(r, wire.Answer, owner, &end, q.Type)
	if r.Count(wire.Answer) == n && !r.Truncated() {
		r.Rewind(start)
		z.deny(q, r, wire.NoError)
	}
	return Answered, nil
}

// split appends the offset of each label of a name.
func split(labels []uint8, name []byte) []uint8 {
	for i := 0; name[i] != 0; i += 1 + int(name[i]) {
		labels = append(labels, uint8(i))
	}
	return labels
}
