package zone

import (
	"cmp"
	"net/netip"
	"slices"

	"fairway.dev/fairway/internal/dns/wire"
)

// reverse is what a name under in-addr.arpa or ip6.arpa means.
type reverse struct {
	// prefix are the addresses at or below the name, as far as its labels are numbers.
	prefix netip.Prefix
	// arpa is the number of the label at which in-addr.arpa or ip6.arpa starts; step is how many bits a label has.
	arpa, step int
	// whole is false if more labels follow than an address has, or some that are no numbers: nothing is there.
	whole bool
}

// answerReverse answers for addresses: the name of the Service whose cluster address it is, else the name of the endpoint in each
// Service that has it. Every other address is somebody else's, unless it is in the cluster's own ranges.
func (z *Zone) answerReverse(q *wire.Query, r *wire.Reply) Outcome {
	v, ok := parseReverse(q.Lower(), q.Labels())
	if !ok {
		return NotOurs
	}
	owner, ours := z.reverseZone(q, &v)
	a := v.prefix.Addr()
	if !v.whole || v.prefix.Bits() < a.BitLen() {
		if !ours {
			return NotOurs
		}
		return z.answerAbove(q, r, &v, owner)
	}
	b := a.As16()
	key := b[:]
	if a.Is4() {
		key = b[12:]
	}
	owners, found := z.addrs.get(key)
	switch {
	case found:
	case !z.synced.Load():
		r.Rcode = wire.ServerFailure
		return Answered
	case !ours:
		return NotOurs
	default:
		z.denyReverse(r, wire.NameError, owner)
		return Answered
	}
	r.Authoritative = true
	if q.Type != wire.TypePTR {
		z.denyReverse(r, wire.NoError, owner)
		return Answered
	}
	for _, o := range owners {
		s := o.set.Load()
		for _, c := range s.cluster {
			if c == a {
				r.Record(wire.Answer, wire.Question, wire.TypePTR, z.ttl(), s.suffix, z.origin)
				return Answered
			}
		}
	}
	for _, o := range owners {
		s := o.set.Load()
		i, _ := s.byAddr(a)
		for ; i < len(s.endpoints) && s.endpoints[i].addr == a; i++ {
			var buf [64]byte
			r.Record(wire.Answer, wire.Question, wire.TypePTR, z.ttl(), s.endpoints[i].appendLabel(buf[:0]), s.suffix, z.origin)
		}
	}
	if r.Count(wire.Answer) == 0 && !r.Truncated() { // taken away between the two lookups
		if ours {
			z.denyReverse(r, wire.NameError, owner)
			return Answered
		}
		r.Authoritative = false
		return NotOurs
	}
	return Answered
}

// answerAbove answers for names of our ranges that are no address: a part of one is an empty name, anything else does not exist.
func (z *Zone) answerAbove(q *wire.Query, r *wire.Reply, v *reverse, owner uint16) Outcome {
	switch {
	case !v.whole:
		z.denyReverse(r, wire.NameError, owner)
	case q.Type == wire.TypeSOA && owner == wire.Question:
		r.Authoritative = true
		z.soa(r, wire.Answer, wire.Question, 0, min(z.ttl(), 300))
	default:
		z.denyReverse(r, wire.NoError, owner)
	}
	return Answered
}

func (z *Zone) denyReverse(r *wire.Reply, code wire.Rcode, owner uint16) {
	r.Authoritative, r.Rcode = true, code
	z.soa(r, wire.Authority, owner, 0, min(z.ttl(), 300))
}

// reverseZone gives the pointer to the zone that a name is in, within the question, and whether it is in one of our ranges: then the zone is
// the longest name that has the whole range below it.
func (z *Zone) reverseZone(q *wire.Query, v *reverse) (owner uint16, ours bool) {
	at := v.arpa
	ranges := *z.ranges.Load()
	i, found := slices.BinarySearchFunc(ranges, v.prefix.Addr(), func(p netip.Prefix, a netip.Addr) int { return p.Addr().Compare(a) })
	if !found {
		i-- // the last one that starts before the address
	}
	if i >= 0 {
		if p := ranges[i]; p.Contains(v.prefix.Addr()) && p.Bits() <= v.prefix.Bits() {
			at, ours = v.arpa-p.Bits()/v.step, true
		}
	}
	return wire.Question + uint16(q.Labels()[at]), ours
}

// SetRanges says which ranges are the cluster's besides those of Config, in place of what it said before.
func (z *Zone) SetRanges(more []netip.Prefix) {
	var all []netip.Prefix
	for _, p := range slices.Concat(z.cfg.Ranges, more) {
		all = append(all, p.Masked())
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	// Without those that lie in another one, at most one range has an address: the last that does not start behind it.
	apart := all[:0]
	for _, p := range all {
		if n := len(apart); n == 0 || !apart[n-1].Contains(p.Addr()) {
			apart = append(apart, p)
		}
	}
	z.ranges.Store(&apart)
}

// parseReverse reads a name in lower case; ok is false if it is not under in-addr.arpa or ip6.arpa.
func parseReverse(name []byte, labels []uint8) (v reverse, ok bool) {
	n := len(labels) - 2
	if n < 0 {
		return v, false
	}
	switch string(name[labels[n]:]) {
	case "\x07in-addr\x04arpa\x00":
		var b [4]byte
		i := 0
		for ; i < 4 && i < n; i++ {
			l := label(name, labels, n-1-i)
			number, ok := parseByte(l)
			if !ok {
				break
			}
			b[i] = number
		}
		return reverse{netip.PrefixFrom(netip.AddrFrom4(b), 8*i), n, 8, i == n}, true
	case "\x03ip6\x04arpa\x00":
		var b [16]byte
		i := 0
		for ; i < 32 && i < n; i++ {
			l := label(name, labels, n-1-i)
			if len(l) != 1 || hexDigit(l[0]) < 0 {
				break
			}
			b[i/2] |= byte(hexDigit(l[0])) << (4 * (1 - i%2))
		}
		return reverse{netip.PrefixFrom(netip.AddrFrom16(b), 4*i), n, 4, i == n}, true
	}
	return v, false
}

// parseByte reads a decimal number below 256 in its one spelling, without a leading zero.
func parseByte(l []byte) (byte, bool) {
	if len(l) > 3 || len(l) > 1 && l[0] == '0' {
		return 0, false
	}
	n := 0
	for _, c := range l {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return byte(n), n < 256
}
