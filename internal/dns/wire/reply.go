package wire

import "encoding/binary"

// optLen is the length of the OPT that a reply carries: root name, type, size, TTL, no options.
const optLen = 11

// ServerUDP is the UDP payload that the server says it takes (RFC 6891 section 6.2.3); 1232 avoids fragments on every link.
const ServerUDP = 1232

// Question is what a compression pointer to the name of the question looks like: it always follows the header.
const Question = 0xc000 | HeaderLen

// Reply builds one response in order: answers, then authority, then additional records, then Finish. Start readies it, any
// number of times.
//
// Records are added whole or not at all. An answer or authority record that does not fit sets TC; an additional record
// that does not fit is merely left out, as RFC 2181 section 9 asks.
type Reply struct {
	// Authoritative, Recursion (is available) and Rcode are what the header will say.
	Authoritative, Recursion bool
	Rcode                    Rcode

	q         *Query
	buf       []byte
	limit     int
	truncated bool
	count     [3]uint16
}

// Section is one of the three sections after the question.
type Section uint8

// The sections in the order of a message.
const (
	Answer Section = iota
	Authority
	Additional
)

// Start begins the reply to q in buf, which is overwritten and grows if its capacity is below what is added. The whole
// message will have at most limit bytes.
func (r *Reply) Start(q *Query, buf []byte, limit int) {
	*r = Reply{q: q, buf: append(buf[:0], q.Raw[:max(HeaderLen, q.End)]...), limit: limit}
	if q.EDNS {
		r.limit -= optLen
	}
}

// Len is the length so far; a record added next starts there. It fits a compression pointer only below 0x4000.
func (r *Reply) Len() int { return len(r.buf) }

// Truncated tells whether something was left out that the client needs.
func (r *Reply) Truncated() bool { return r.truncated }

// Count is the number of records in a section.
func (r *Reply) Count(s Section) int { return int(r.count[s]) }

// Room asks for n bytes; false means that they are not there, and sets TC unless s is Additional.
func (r *Reply) room(s Section, n int) bool {
	if len(r.buf)+n <= r.limit {
		return true
	}
	if s != Additional {
		r.truncated = true
	}
	return false
}

// Mark remembers a point to which Rewind returns.
type Mark struct {
	len       int
	truncated bool
	count     [3]uint16
}

// Mark gives the point reached.
func (r *Reply) Mark() Mark { return Mark{len(r.buf), r.truncated, r.count} }

// Rewind takes away everything added since m.
func (r *Reply) Rewind(m Mark) { r.buf, r.truncated, r.count = r.buf[:m.len], m.truncated, m.count }

// Packed adds records of one size that were packed before with owner Question, starting from record number first and
// wrapping around, each with the given owner pointer. As many as fit are added.
func (r *Reply) Packed(s Section, owner uint16, rrs []byte, size, first int) {
	n := len(rrs) / size
	fit := n
	if free := r.limit - len(r.buf); free < len(rrs) {
		fit = max(free, 0) / size
		r.room(s, len(rrs))
	}
	at := len(r.buf)
	tail := min(fit, n-first)
	r.buf = append(r.buf, rrs[first*size:(first+tail)*size]...)
	r.buf = append(r.buf, rrs[:(fit-tail)*size]...)
	r.count[s] += uint16(fit)
	if owner != Question {
		for ; at < len(r.buf); at += size {
			binary.BigEndian.PutUint16(r.buf[at:], owner)
		}
	}
}

// Record adds one record whose data is the concatenation of the given parts; owner is a compression pointer. It reports
// whether there was room.
func (r *Reply) Record(s Section, owner uint16, t Type, ttl uint32, data ...[]byte) bool {
	n := 0
	for _, d := range data {
		n += len(d)
	}
	if !r.room(s, 12+n) {
		return false
	}
	r.buf = appendFixed(binary.BigEndian.AppendUint16(r.buf, owner), t, ttl, n)
	for _, d := range data {
		r.buf = append(r.buf, d...)
	}
	r.count[s]++
	return true
}

// Named adds one record like Record, with the owner's name written out.
func (r *Reply) Named(s Section, owner []byte, t Type, ttl uint32, data []byte) bool {
	if !r.room(s, len(owner)+10+len(data)) {
		return false
	}
	r.buf = append(appendFixed(append(r.buf, owner...), t, ttl, len(data)), data...)
	r.count[s]++
	return true
}

// appendFixed appends what stands between the owner and the data of a record of class IN.
func appendFixed(b []byte, t Type, ttl uint32, n int) []byte {
	return append(b, byte(t>>8), byte(t), 0, ClassIN, byte(ttl>>24), byte(ttl>>16), byte(ttl>>8), byte(ttl), byte(n>>8), byte(n))
}

// AppendRecord appends to b one record owned by the name of the question, as Packed takes it.
func AppendRecord(b []byte, t Type, ttl uint32, data []byte) []byte {
	return append(appendFixed(binary.BigEndian.AppendUint16(b, Question), t, ttl, len(data)), data...)
}

// Finish writes header and OPT and gives the message, which lies in the buffer of Start unless that was too small.
func (r *Reply) Finish() []byte {
	flags := flagQR | r.q.flags()&(maskOpcode|flagRD|flagCD) | uint16(r.Rcode&15)
	if r.Authoritative {
		flags |= flagAA
	}
	if r.Recursion {
		flags |= flagRA
	}
	if r.truncated {
		flags |= flagTC
	}
	additional := r.count[Additional]
	if r.q.EDNS {
		do := byte(0)
		if r.q.DO {
			do = flagDO >> 8
		}
		r.buf = append(r.buf, 0, 0, byte(TypeOPT), ServerUDP>>8, ServerUDP&0xff, byte(r.Rcode>>4), 0, do, 0, 0, 0)
		additional++
	}
	b := r.buf
	binary.BigEndian.PutUint16(b[2:], flags)
	questions := uint16(0)
	if r.q.End > 0 {
		questions = 1
	}
	binary.BigEndian.PutUint16(b[4:], questions)
	binary.BigEndian.PutUint16(b[6:], r.count[Answer])
	binary.BigEndian.PutUint16(b[8:], r.count[Authority])
	binary.BigEndian.PutUint16(b[10:], additional)
	return b
}
