package wire

import "encoding/binary"

// Query is one parsed query. The zero value is ready for Parse, and one Query serves any number of them.
type Query struct {
	// Raw is the packet; Name, as the client wrote it, lies within it.
	Raw, Name []byte
	Type      Type
	Class     uint16
	// End is the offset behind the question, or 0 when the question could not be read.
	End int

	// EDNS is true when the query has an OPT; Version, Size (bytes of UDP payload) and DO are its fields.
	EDNS    bool
	Version uint8
	Size    uint16
	DO      bool

	opt    int // offset of the OPT's size field
	lower  [MaxName]byte
	labels [MaxName / 2]uint8
	n      int
}

// Lower is the name in lower case, in wire form with its final zero.
func (q *Query) Lower() []byte { return q.lower[:len(q.Name)] }

// Labels gives the offset of each label within Lower and Name, first label first.
func (q *Query) Labels() []uint8 { return q.labels[:q.n] }

// ID is the query's identifier.
func (q *Query) ID() uint16 { return binary.BigEndian.Uint16(q.Raw) }

func (q *Query) flags() uint16 { return binary.BigEndian.Uint16(q.Raw[2:]) }

// UDPLimit is how many bytes the client takes over UDP: 512 without an OPT, else what it says, but at least 512.
func (q *Query) UDPLimit() int {
	if !q.EDNS {
		return MinUDP
	}
	return max(MinUDP, int(q.Size))
}

// CapUDP lowers the UDP size that a copy of the query asks for to limit.
func (q *Query) CapUDP(copied []byte, limit uint16) {
	if q.EDNS && q.Size > limit {
		binary.BigEndian.PutUint16(copied[q.opt:], limit)
	}
}

// Parse reads a packet. If answer is false the packet is no query (too short, or itself a response) and must be met with
// silence. Otherwise rcode is NoError, or what the reply must say: FormatError, NotImplemented, BadVersion, or Refused
// for a class other than IN.
func (q *Query) Parse(raw []byte) (rcode Rcode, answer bool) {
	q.Raw, q.Name, q.Type, q.Class, q.End, q.n = raw, nil, 0, 0, 0, 0
	q.EDNS, q.Version, q.Size, q.DO = false, 0, 0, false
	if len(raw) < HeaderLen || q.flags()&flagQR != 0 {
		return 0, false
	}
	if q.flags()&maskOpcode != 0 {
		return NotImplemented, true
	}
	if binary.BigEndian.Uint16(raw[4:]) != 1 || !q.parseQuestion() {
		return FormatError, true
	}
	if !q.parseRecords() {
		return FormatError, true
	}
	switch {
	case q.Version != 0:
		return BadVersion, true
	case q.Class != ClassIN:
		return Refused, true
	}
	return NoError, true
}

// parseQuestion reads the name without compression: there is nothing before it that a pointer could mean.
func (q *Query) parseQuestion() bool {
	raw, off := q.Raw, HeaderLen
	for {
		if off >= len(raw) {
			return false
		}
		c := int(raw[off])
		at := off - HeaderLen
		if c > 63 || at+1+c > MaxName || off+1+c > len(raw) {
			return false
		}
		q.lower[at] = byte(c)
		if c == 0 {
			break
		}
		if at+1+c == MaxName { // no room for the final zero
			return false
		}
		q.labels[q.n] = uint8(at)
		q.n++
		for i, b := range raw[off+1 : off+1+c] {
			q.lower[at+1+i] = Lower(b)
		}
		off += 1 + c
	}
	off++
	if off+4 > len(raw) {
		return false
	}
	q.Name = raw[HeaderLen:off]
	q.Type = Type(binary.BigEndian.Uint16(raw[off:]))
	q.Class = binary.BigEndian.Uint16(raw[off+2:])
	q.End = off + 4
	return true
}

// parseRecords walks over whatever follows the question in search of one OPT.
func (q *Query) parseRecords() bool {
	raw, off := q.Raw, q.End
	an, ns, ar := binary.BigEndian.Uint16(raw[6:]), binary.BigEndian.Uint16(raw[8:]), binary.BigEndian.Uint16(raw[10:])
	for i := range int(an) + int(ns) + int(ar) {
		fixed, ok := skipName(raw, off)
		if !ok || fixed+10 > len(raw) {
			return false
		}
		end := fixed + 10 + int(binary.BigEndian.Uint16(raw[fixed+8:]))
		if end > len(raw) {
			return false
		}
		if Type(binary.BigEndian.Uint16(raw[fixed:])) == TypeOPT && i >= int(an)+int(ns) {
			if q.EDNS || raw[off] != 0 {
				return false
			}
			q.EDNS, q.opt = true, fixed+2
			q.Size = binary.BigEndian.Uint16(raw[fixed+2:])
			q.Version = raw[fixed+5]
			q.DO = binary.BigEndian.Uint16(raw[fixed+6:])&flagDO != 0
		}
		off = end
	}
	return true
}
