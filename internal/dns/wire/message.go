package wire

import (
	"encoding/binary"
	"slices"
)

// Record is one resource record with its names written out.
type Record struct {
	Owner []byte
	Type  Type
	Class uint16
	TTL   uint32
	Data  []byte
}

// Message is a response read in full: all but its identifier, its question and its OPT, whose upper bits of the response code are
// in Rcode.
type Message struct {
	Rcode                                   Rcode
	Authoritative, Truncated, Authenticated bool
	Sections                                [3][]Record
}

// ParseMessage reads a response. Records of classes other than IN are left out, and so are signatures of the transaction (TSIG, SIG(0)),
// which are between two servers.
func ParseMessage(msg []byte) (*Message, error) {
	if len(msg) < HeaderLen {
		return nil, errResponse
	}
	flags := binary.BigEndian.Uint16(msg[2:])
	m := &Message{Rcode: Rcode(flags & 15), Authoritative: flags&flagAA != 0, Truncated: flags&flagTC != 0, Authenticated: flags&flagAD != 0}
	off, ok := HeaderLen, true
	for range binary.BigEndian.Uint16(msg[4:]) {
		if off, ok = skipName(msg, off); !ok {
			return nil, errResponse
		}
		off += 4
	}
	for s := range m.Sections {
		for range binary.BigEndian.Uint16(msg[6+2*s:]) {
			var r Record
			if r, off, ok = parseRecord(msg, off); !ok {
				return nil, errResponse
			}
			switch {
			case r.Type == TypeOPT:
				m.Rcode |= Rcode(r.TTL>>24) << 4
			case r.Class == ClassIN && r.Type != typeTSIG:
				m.Sections[s] = append(m.Sections[s], r)
			}
		}
	}
	return m, nil
}

func parseRecord(msg []byte, off int) (r Record, next int, ok bool) {
	if r.Owner, off, ok = expandName(nil, msg, off); !ok || off+10 > len(msg) {
		return r, 0, false
	}
	r.Type, r.Class = Type(binary.BigEndian.Uint16(msg[off:])), binary.BigEndian.Uint16(msg[off+2:])
	r.TTL = binary.BigEndian.Uint32(msg[off+4:])
	size := int(binary.BigEndian.Uint16(msg[off+8:]))
	off += 10
	if off+size > len(msg) {
		return r, 0, false
	}
	if r.TTL>>31 != 0 && r.Type != TypeOPT { // RFC 2181 section 8
		r.TTL = 0
	}
	r.Data, ok = expandData(nil, msg, off, size, r.Type)
	return r, off + size, ok
}

// Body is the part of a message behind its question, compressed, and good behind any spelling of the same name.
type Body struct {
	// Bytes starts behind the question; its compression pointers count the header and the question.
	Bytes []byte
	Count [3]uint16
	// TTL are the offsets within Bytes of each record's TTL, in order. What ends a record is 4+2 bytes behind its TTL and the
	// length that stands there.
	TTL []uint16
}

// Pack writes the records behind a question for a name in wire form. What does not fit a message is cut, record by record.
func (m *Message) Pack(name []byte) Body {
	p := packer{base: HeaderLen + len(name) + 4, names: make(map[string]int)}
	p.remember(lowered(name), HeaderLen)
	var b Body
	for s, records := range m.Sections {
		for _, r := range records {
			start := len(p.buf)
			p.name(r.Owner)
			ttl := len(p.buf) + 4
			p.buf = appendFixed(p.buf, r.Type, r.TTL, 0)
			p.data(r)
			if p.base+len(p.buf) > MaxMessage-optLen {
				p.buf = p.buf[:start]
				b.Bytes = p.buf
				return b
			}
			binary.BigEndian.PutUint16(p.buf[ttl+4:], uint16(len(p.buf)-ttl-6))
			b.TTL = append(b.TTL, uint16(ttl))
			b.Count[s]++
		}
	}
	b.Bytes = slices.Clip(p.buf)
	return b
}

// packer compresses names against those that were written before.
type packer struct {
	buf   []byte
	base  int
	names map[string]int
}

func lowered(name []byte) []byte {
	out := make([]byte, len(name))
	for i, c := range name {
		out[i] = Lower(c)
	}
	return out
}

// remember notes where the name in lower case, and each name above it, stands in the message.
func (p *packer) remember(name []byte, at int) {
	for i := 0; name[i] != 0; i += 1 + int(name[i]) {
		if _, had := p.names[string(name[i:])]; had || at+i >= 0x4000 {
			return
		}
		p.names[string(name[i:])] = at + i
	}
}

func (p *packer) name(name []byte) {
	low := lowered(name)
	at := p.base + len(p.buf)
	for i := 0; name[i] != 0; i += 1 + int(name[i]) {
		if to, ok := p.names[string(low[i:])]; ok {
			p.buf = binary.BigEndian.AppendUint16(append(p.buf, name[:i]...), uint16(0xc000|to))
			p.remember(low, at)
			return
		}
	}
	p.buf = append(p.buf, name...)
	p.remember(low, at)
}

// data writes a record's data; names are compressed only where every reader has to understand that (RFC 3597 section 4).
func (p *packer) data(r Record) {
	lead, names := embedded(r.Type)
	switch r.Type {
	case TypeNS, TypeCNAME, TypePTR, TypeMX, TypeSOA:
	default:
		p.buf = append(p.buf, r.Data...)
		return
	}
	rest := r.Data
	p.buf = append(p.buf, rest[:lead]...)
	rest = rest[lead:]
	for range names {
		n := nameLen(rest)
		p.name(rest[:n])
		rest = rest[n:]
	}
	p.buf = append(p.buf, rest...)
}

// nameLen is the length of the name, in wire form without compression, that b starts with.
func nameLen(b []byte) int {
	i := 0
	for b[i] != 0 {
		i += 1 + int(b[i])
	}
	return i + 1
}

// EachName calls f with each name within the record's data and puts what f gives in its place.
func (r *Record) EachName(f func([]byte) []byte) {
	lead, names := embedded(r.Type)
	if names == 0 || len(r.Data) < lead {
		return
	}
	out, rest := slices.Clone(r.Data[:lead]), r.Data[lead:]
	for range names {
		n := nameLen(rest)
		out = append(out, f(rest[:n])...)
		rest = rest[n:]
	}
	r.Data = append(out, rest...)
}

// Recursion tells whether the client asks for recursion (RD).
func (q *Query) Recursion() bool { return q.flags()&flagRD != 0 }

// CheckingDisabled tells whether the client wants answers that failed validation, too (CD).
func (q *Query) CheckingDisabled() bool { return q.flags()&flagCD != 0 }

// WantsAuthentic tells whether the client understands AD in a response (RFC 6840 section 5.7).
func (q *Query) WantsAuthentic() bool { return q.DO || q.flags()&flagAD != 0 }

// SetName makes the query one for another name, given in wire form without compression: everything else stays. buf is where the packet
// is built, and must not be that of q.
func (q *Query) SetName(buf, name []byte) (Rcode, bool) {
	b := append(append(buf[:0], q.Raw[:HeaderLen]...), name...)
	b = append(b, q.Raw[q.End-4:]...)
	return q.Parse(b)
}

// AppendRelay appends the query that puts q's question to an upstream resolver: recursion desired and checking disabled as the client
// says, an OPT of ServerUDP bytes with its DO bit, and nothing else of what the client sent.
func (q *Query) AppendRelay(dst []byte, id uint16) []byte {
	start := len(dst)
	dst = AppendQuery(dst, id, q.Lower(), q.Type)
	flags := q.flags() & (flagRD | flagCD)
	if q.WantsAuthentic() {
		flags |= flagAD
	}
	binary.BigEndian.PutUint16(dst[start+2:], flags)
	if q.DO {
		dst[len(dst)-4] = flagDO >> 8
	}
	return dst
}

// EDE is the info code of an extended DNS error (RFC 8914); 0 stands for none.
type EDE uint16

// The codes that are given with old answers (RFC 8914 sections 4.4 and 4.20).
const (
	StaleAnswer   EDE = 3
	StaleNXDomain EDE = 19
)

// Aged says how to write a Body that was received some time ago.
type Aged struct {
	Rcode                    Rcode
	Authenticated, Truncated bool
	// Age is how many seconds to take off every TTL; Fixed, if not 0, is the TTL of all records instead.
	Age, Fixed uint32
	EDE        EDE
	// Turn moves the first of several addresses in the answer on; see rotate.
	Turn uint32
}

// Replay writes the reply to q from a body that was packed for the same name, in buf, which grows if it is too small. The message has at
// most limit bytes; what does not fit is cut behind a record, with TC if the client needs it.
func (q *Query) Replay(buf []byte, limit int, b *Body, a Aged) []byte {
	buf = append(buf[:0], q.Raw[:q.End]...)
	if q.EDNS {
		limit -= optLen
		if a.EDE != 0 {
			limit -= 6
		}
	}
	flags := flagQR | flagRA | q.flags()&(flagRD|flagCD) | uint16(a.Rcode&15)
	if a.Authenticated && q.WantsAuthentic() {
		flags |= flagAD
	}
	if a.Truncated {
		flags |= flagTC
	}
	size, count := len(b.Bytes), b.Count
	if q.End+size > limit {
		var cut bool
		if size, count, cut = b.fit(limit - q.End); cut {
			flags |= flagTC
		}
	}
	buf = append(buf, b.Bytes[:size]...)
	for _, at := range b.TTL {
		if int(at) >= size {
			break
		}
		t := buf[q.End+int(at):]
		if a.Fixed != 0 {
			binary.BigEndian.PutUint32(t, a.Fixed)
		} else if a.Age > 0 {
			ttl := binary.BigEndian.Uint32(t)
			binary.BigEndian.PutUint32(t, ttl-min(ttl, a.Age))
		}
	}
	if count[Answer] > 1 && a.Turn != 0 {
		b.rotate(buf[q.End:q.End+size], int(count[Answer]), a.Turn)
	}
	if q.EDNS {
		buf = q.appendOPT(buf, a)
		count[Additional]++
	}
	binary.BigEndian.PutUint16(buf[2:], flags)
	binary.BigEndian.PutUint16(buf[4:], 1)
	for i, n := range count {
		binary.BigEndian.PutUint16(buf[6+2*i:], n)
	}
	return buf
}

func (q *Query) appendOPT(buf []byte, a Aged) []byte {
	do, extra := byte(0), byte(0)
	if q.DO {
		do = flagDO >> 8
	}
	if a.EDE != 0 {
		extra = 6
	}
	buf = append(buf, 0, 0, byte(TypeOPT), ServerUDP>>8, ServerUDP&0xff, byte(a.Rcode>>4), 0, do, 0, 0, extra)
	if a.EDE != 0 {
		buf = append(buf, 0, 15, 0, 2, byte(a.EDE>>8), byte(a.EDE))
	}
	return buf
}

// end is the offset behind record i.
func (b *Body) end(i int) int {
	at := int(b.TTL[i]) + 4
	return at + 2 + int(binary.BigEndian.Uint16(b.Bytes[at:]))
}

// fit gives the records that have room; cut is false if all that is missing is additional.
func (b *Body) fit(room int) (size int, count [3]uint16, cut bool) {
	i := 0
	for s, n := range b.Count {
		for range n {
			end := b.end(i)
			if end > room {
				return size, count, Section(s) != Additional
			}
			size = end
			count[s]++
			i++
		}
	}
	return size, count, false
}

// rotate exchanges the data of the run of equal-sized address records that ends the answer section, so that each comes first as often as
// the others. Nothing moves but addresses, so that signatures and aliases stay where they are.
func (b *Body) rotate(bytes []byte, answers int, turn uint32) {
	first := answers
	for first > 0 && b.address(first-1, bytes) && b.typeAt(first-1, bytes) == b.typeAt(answers-1, bytes) &&
		string(b.owner(first-1, bytes)) == string(b.owner(answers-1, bytes)) {
		first--
	}
	n := answers - first
	if n < 2 {
		return
	}
	shift := int(turn % uint32(n))
	// Three reversals turn the run without room for a copy.
	b.reverse(bytes, first, first+shift)
	b.reverse(bytes, first+shift, answers)
	b.reverse(bytes, first, answers)
}

// owner is how record i's owner is written.
func (b *Body) owner(i int, bytes []byte) []byte {
	start := 0
	if i > 0 {
		start = b.end(i - 1)
	}
	return bytes[start : b.TTL[i]-4]
}

func (b *Body) typeAt(i int, bytes []byte) Type {
	return Type(binary.BigEndian.Uint16(bytes[b.TTL[i]-4:]))
}

func (b *Body) address(i int, bytes []byte) bool {
	t := b.typeAt(i, bytes)
	size := b.end(i) - int(b.TTL[i]) - 6
	return t == TypeA && size == 4 || t == TypeAAAA && size == 16
}

func (b *Body) reverse(bytes []byte, lo, hi int) {
	for hi--; lo < hi; lo, hi = lo+1, hi-1 {
		x, y := bytes[b.TTL[lo]+6:b.end(lo)], bytes[b.TTL[hi]+6:b.end(hi)]
		for k := range x {
			x[k], y[k] = y[k], x[k]
		}
	}
}
