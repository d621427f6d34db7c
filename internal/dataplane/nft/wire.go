package nft

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// encoder builds netlink messages of the nf_tables subsystem (linux/netfilter/nf_tables.h) one after the other in one buffer.
// Numbers in attributes are big-endian, numbers in headers are the machine's own.
type encoder struct {
	b     []byte
	start int // of the message being built
}

const attrLen = unix.SizeofNlAttr

func (e *encoder) begin(kind uint16, flags uint16, family byte, seq uint32) {
	e.start = len(e.b)
	e.b = binary.NativeEndian.AppendUint32(e.b, 0) // length, known at the end
	e.b = binary.NativeEndian.AppendUint16(e.b, kind)
	e.b = binary.NativeEndian.AppendUint16(e.b, unix.NLM_F_REQUEST|flags)
	e.b = binary.NativeEndian.AppendUint32(e.b, seq)
	e.b = binary.NativeEndian.AppendUint32(e.b, 0) // to the kernel
	e.b = append(e.b, family, unix.NFNETLINK_V0, 0, 0)
}

func (e *encoder) end() {
	binary.NativeEndian.PutUint32(e.b[e.start:], uint32(len(e.b)-e.start))
}

func (e *encoder) head(kind uint16, n int) {
	e.b = binary.NativeEndian.AppendUint16(e.b, uint16(attrLen+n))
	e.b = binary.NativeEndian.AppendUint16(e.b, kind)
}

func (e *encoder) pad() {
	for len(e.b)%4 != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) bytes(kind uint16, v []byte) {
	e.head(kind, len(v))
	e.b = append(e.b, v...)
	e.pad()
}

func (e *encoder) str(kind uint16, s string) {
	e.head(kind, len(s)+1)
	e.b = append(e.b, s...)
	e.b = append(e.b, 0)
	e.pad()
}

func (e *encoder) u8(kind uint16, v uint8) { e.bytes(kind, []byte{v}) }

func (e *encoder) u32(kind uint16, v uint32) {
	e.head(kind, 4)
	e.b = binary.BigEndian.AppendUint32(e.b, v)
}

func (e *encoder) u64(kind uint16, v uint64) {
	e.head(kind, 8)
	e.b = binary.BigEndian.AppendUint64(e.b, v)
}

// nest opens a nested attribute; close it with the value returned.
func (e *encoder) nest(kind uint16) int {
	at := len(e.b)
	e.head(kind|unix.NLA_F_NESTED, 0)
	return at
}

func (e *encoder) close(at int) {
	binary.NativeEndian.PutUint16(e.b[at:], uint16(len(e.b)-at))
}

// room tells whether n more bytes fit into the nested attribute opened at: an attribute's length has 16 bits.
func (e *encoder) room(at, n int) bool { return len(e.b)-at+n < 1<<16 }

// comment adds user data in the form in which the nft command keeps comments: type 0, length, text with its final zero.
func (e *encoder) comment(kind uint16, text string) {
	if text == "" {
		return
	}
	const most = 127 // the nft command refuses longer ones
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	e.head(kind, 2+len(text)+1)
	e.b = append(e.b, 0, byte(len(text)+1))
	e.b = append(e.b, text...)
	e.b = append(e.b, 0)
	e.pad()
}

// attrs yields the attributes in b; what is malformed ends it.
func attrs(b []byte) func(yield func(kind uint16, v []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= attrLen {
			n := int(binary.NativeEndian.Uint16(b))
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if n < attrLen || n > len(b) {
				return
			}
			if !yield(kind, b[attrLen:n]) {
				return
			}
			b = b[min((n+3)&^3, len(b)):]
		}
	}
}

// attr gives the first attribute of a kind, or nil.
func attr(b []byte, kind uint16) []byte {
	for k, v := range attrs(b) {
		if k == kind {
			return v
		}
	}
	return nil
}

// commentOf reads back what comment wrote.
func commentOf(udata []byte) string {
	for len(udata) >= 2 && len(udata) >= 2+int(udata[1]) {
		if udata[0] == 0 {
			return strings.TrimRight(string(udata[2:2+int(udata[1])]), "\x00")
		}
		udata = udata[2+int(udata[1]):]
	}
	return ""
}
