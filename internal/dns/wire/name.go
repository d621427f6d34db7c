package wire

import (
	"fmt"
	"strings"
)

// EncodeName appends a name given with dots, with or without the final one, in wire form and lower case. It fails on an
// empty label, on a label over 63 bytes and on a name over 255. Escapes are not read: Kubernetes names have none.
func EncodeName(dst []byte, name string) ([]byte, error) {
	start := len(dst)
	for rest := strings.TrimSuffix(name, "."); rest != ""; {
		label, more, dots := strings.Cut(rest, ".")
		if len(label) == 0 || len(label) > 63 || dots && more == "" {
			return dst[:start], fmt.Errorf("name %q: label %q is not between 1 and 63 bytes", name, label)
		}
		dst = AppendLabel(dst, label)
		rest = more
	}
	dst = append(dst, 0)
	if len(dst)-start > MaxName {
		return dst[:start], fmt.Errorf("name %q: longer than %d bytes", name, MaxName)
	}
	return dst, nil
}

// AppendLabel appends one label of at most 63 bytes in lower case.
func AppendLabel(dst []byte, label string) []byte {
	dst = append(dst, byte(len(label)))
	for i := range len(label) {
		dst = append(dst, Lower(label[i]))
	}
	return dst
}

// Lower gives the ASCII lower case of a byte: names are compared that way (RFC 4343).
func Lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// NameString writes a name in wire form with dots, for people; bytes that do not print are escaped as \DDD.
func NameString(name []byte) string {
	var b strings.Builder
	for len(name) > 0 && name[0] != 0 && int(name[0]) < len(name) {
		for _, c := range name[1 : 1+name[0]] {
			switch {
			case c == '.' || c == '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c <= ' ' || c > '~':
				fmt.Fprintf(&b, "\\%03d", c)
			default:
				b.WriteByte(c)
			}
		}
		b.WriteByte('.')
		name = name[1+name[0]:]
	}
	if b.Len() == 0 {
		return "."
	}
	return b.String()
}

// skipName gives the offset behind the name at off, which may end in a compression pointer; ok is false if it does not end
// within msg.
func skipName(msg []byte, off int) (next int, ok bool) {
	for off < len(msg) {
		switch c := int(msg[off]); {
		case c == 0:
			return off + 1, true
		case c >= 0xc0:
			return off + 2, off+2 <= len(msg)
		case c > 63:
			return 0, false
		default:
			off += 1 + c
		}
	}
	return 0, false
}

// expandName appends the name at off of msg to dst with its compression undone, as it is written, and gives the offset behind it. A
// pointer must point backwards, which also ends every loop.
func expandName(dst, msg []byte, off int) (out []byte, next int, ok bool) {
	start, low := len(dst), off
	for {
		if off >= len(msg) {
			return dst[:start], 0, false
		}
		switch c := int(msg[off]); {
		case c == 0:
			dst = append(dst, 0)
			if next == 0 {
				next = off + 1
			}
			return dst, next, len(dst)-start <= MaxName
		case c >= 0xc0:
			if off+2 > len(msg) {
				return dst[:start], 0, false
			}
			if next == 0 {
				next = off + 2
			}
			to := (c&0x3f)<<8 | int(msg[off+1])
			if to >= low {
				return dst[:start], 0, false
			}
			off, low = to, to
		case c > 63 || off+1+c > len(msg) || len(dst)-start+1+c > MaxName:
			return dst[:start], 0, false
		default:
			dst = append(dst, msg[off:off+1+c]...)
			off += 1 + c
		}
	}
}
