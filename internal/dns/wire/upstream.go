package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// AppendQuery appends a query of one question for a name in wire form, recursion desired, with an OPT of ServerUDP bytes.
func AppendQuery(dst []byte, id uint16, name []byte, t Type) []byte {
	dst = binary.BigEndian.AppendUint16(dst, id)
	dst = append(dst, flagRD>>8, 0, 0, 1, 0, 0, 0, 0, 0, 1)
	dst = append(dst, name...)
	dst = append(dst, byte(t>>8), byte(t), 0, ClassIN)
	return append(dst, 0, 0, byte(TypeOPT), ServerUDP>>8, ServerUDP&0xff, 0, 0, 0, 0, 0, 0)
}

// SetID overwrites the identifier of a message.
func SetID(msg []byte, id uint16) { binary.BigEndian.PutUint16(msg, id) }

// Responds tells whether msg is a response to the query: same identifier and same question, in any case of letters. A response
// without a question counts only if it reports an error, as some servers leave it out then.
func Responds(query, msg []byte) bool {
	if len(msg) < HeaderLen || len(query) < HeaderLen || msg[0] != query[0] || msg[1] != query[1] || msg[2]&(flagQR>>8) == 0 {
		return false
	}
	if binary.BigEndian.Uint16(msg[4:]) == 0 {
		return ResponseCode(msg) != NoError
	}
	end, ok := skipName(query, HeaderLen)
	if !ok || end+4 > len(query) || end+4 > len(msg) || binary.BigEndian.Uint16(msg[4:]) != 1 {
		return false
	}
	for i := HeaderLen; i < end; i++ {
		if Lower(query[i]) != Lower(msg[i]) {
			return false
		}
	}
	return bytes.Equal(query[end:end+4], msg[end:end+4])
}

// ResponseCode gives the lower four bits of a response's code.
func ResponseCode(msg []byte) Rcode { return Rcode(msg[3] & 15) }

// AnswerCount is the number of records in a response's answer section.
func AnswerCount(msg []byte) int { return int(binary.BigEndian.Uint16(msg[6:])) }

// IsTruncated tells whether a response has TC set.
func IsTruncated(msg []byte) bool { return msg[2]&(flagTC>>8) != 0 }

// Truncate cuts a response behind its question and sets TC, in place. The OPT goes too: a client takes this for a server without
// EDNS for the time of one question, and asks again over TCP.
func Truncate(msg []byte) []byte {
	end, ok := skipName(msg, HeaderLen)
	if !ok || end+4 > len(msg) || binary.BigEndian.Uint16(msg[4:]) != 1 {
		end = HeaderLen - 4
		msg[4], msg[5] = 0, 0
	}
	msg[2] |= flagTC >> 8
	clear(msg[6:HeaderLen])
	return msg[:end+4]
}

var errResponse = errors.New("malformed response")

// EachAnswer calls f with every record of class IN in the answer section of a response, names written out also within the
// data of the types of RFC 1035, SRV and DNAME. The slices are valid during the call. f ends the walk by returning false.
func EachAnswer(msg []byte, f func(owner []byte, t Type, ttl uint32, data []byte) bool) error {
	if len(msg) < HeaderLen {
		return errResponse
	}
	off, ok := HeaderLen, true
	for range binary.BigEndian.Uint16(msg[4:]) {
		if off, ok = skipName(msg, off); !ok {
			return errResponse
		}
		off += 4
	}
	var owner, data []byte
	for range binary.BigEndian.Uint16(msg[6:]) {
		if owner, off, ok = expandName(owner[:0], msg, off); !ok || off+10 > len(msg) {
			return errResponse
		}
		t, class := Type(binary.BigEndian.Uint16(msg[off:])), binary.BigEndian.Uint16(msg[off+2:])
		ttl, size := binary.BigEndian.Uint32(msg[off+4:]), int(binary.BigEndian.Uint16(msg[off+8:]))
		off += 10
		if off+size > len(msg) {
			return errResponse
		}
		if data, ok = expandData(data[:0], msg, off, size, t); !ok {
			return errResponse
		}
		off += size
		if class == ClassIN && !f(owner, t, ttl, data) {
			return nil
		}
	}
	return nil
}

// expandData appends a record's data with its names written out.
func expandData(dst, msg []byte, off, size int, t Type) ([]byte, bool) {
	lead, names := embedded(t)
	end := off + size
	if lead > size {
		return dst, false
	}
	dst = append(dst, msg[off:off+lead]...)
	off += lead
	for range names {
		var ok bool
		if dst, off, ok = expandName(dst, msg[:end], off); !ok {
			return dst, false
		}
	}
	return append(dst, msg[off:end]...), true
}

// embedded says how a record's data begins: with that many bytes and then that many names, which older servers may have compressed
// (RFC 3597 section 4).
func embedded(t Type) (lead, names int) {
	switch t {
	case TypeNS, TypeCNAME, TypePTR, TypeDNAME, 3, 4, 7, 8, 9: // and MD, MF, MB, MG, MR
		return 0, 1
	case TypeMX, 18, 21, 36: // and AFSDB, RT, KX
		return 2, 1
	case TypeSRV:
		return 6, 1
	case TypeSOA, 14, 17: // and MINFO, RP
		return 0, 2
	case 26: // PX
		return 2, 2
	}
	return 0, 0
}

// MixCase gives the letters of the question's name a random case, by bits from random, in place. It reports whether there are enough
// letters to make a difference.
func MixCase(msg []byte, random func() uint64) bool {
	end, ok := skipName(msg, HeaderLen)
	if !ok {
		return false
	}
	bits, left, letters := uint64(0), 0, 0
	for i := HeaderLen; i < end; i++ {
		c := msg[i] | 0x20
		if c < 'a' || c > 'z' {
			continue
		}
		if left == 0 {
			bits, left = random(), 64
		}
		msg[i] = c &^ byte(bits&1<<5)
		bits >>= 1
		left--
		letters++
	}
	return letters > 0
}

// SameCase tells whether a response repeats the question's name letter by letter. One without a question says nothing about that.
func SameCase(query, msg []byte) bool {
	if len(msg) < HeaderLen || binary.BigEndian.Uint16(msg[4:]) == 0 {
		return true
	}
	end, ok := skipName(query, HeaderLen)
	return ok && end <= len(msg) && bytes.Equal(query[HeaderLen:end], msg[HeaderLen:end])
}
