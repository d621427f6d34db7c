package zone

import (
	"bytes"
	"net/netip"
)

// parseLabel reads an address whose dots or colons are written as dashes. Every spelling of an address is taken; a label
// with dots or colons of its own is none.
func parseLabel(label []byte) (netip.Addr, bool) {
	if bytes.Count(label, []byte{'-'}) == 3 && !bytes.Contains(label, []byte("--")) {
		return parse4(label, '-')
	}
	return parse6(label)
}

// parse4 reads four decimal numbers without leading zeros. It does what netip.ParseAddr does, without a string.
func parse4(b []byte, sep byte) (netip.Addr, bool) {
	var out [4]byte
	field, n, digits := 0, 0, 0
	for _, c := range b {
		switch {
		case c == sep:
			if digits == 0 || field == 3 {
				return netip.Addr{}, false
			}
			out[field] = byte(n)
			field, n, digits = field+1, 0, 0
		case '0' <= c && c <= '9':
			if digits > 0 && n == 0 {
				return netip.Addr{}, false
			}
			if n, digits = n*10+int(c-'0'), digits+1; n > 255 {
				return netip.Addr{}, false
			}
		default:
			return netip.Addr{}, false
		}
	}
	if field != 3 || digits == 0 {
		return netip.Addr{}, false
	}
	out[3] = byte(n)
	return netip.AddrFrom4(out), true
}

// parse6 reads groups of hexadecimal digits with one dash between them, and at most one run of two dashes for zeros. The
// digits must be in lower case, as they are in a name made ready for comparing.
func parse6(b []byte) (netip.Addr, bool) {
	var groups [8]uint16
	n, gap := 0, -1
	if bytes.HasPrefix(b, []byte("--")) {
		b, gap = b[2:], 0
	}
	for len(b) > 0 {
		v, digits := 0, 0
		for digits < len(b) && b[digits] != '-' {
			d := hexDigit(b[digits])
			if d < 0 || digits == 4 {
				return netip.Addr{}, false
			}
			v, digits = v<<4|d, digits+1
		}
		if digits == 0 || n == 8 {
			return netip.Addr{}, false
		}
		groups[n] = uint16(v)
		n++
		if b = b[digits:]; len(b) == 0 {
			break
		}
		if b = b[1:]; len(b) == 0 {
			return netip.Addr{}, false // one dash at the end
		}
		if b[0] == '-' {
			if gap >= 0 {
				return netip.Addr{}, false
			}
			b, gap = b[1:], n
		}
	}
	if (gap < 0) != (n == 8) || n > 8 {
		return netip.Addr{}, false
	}
	var out [16]byte
	for i, g := range groups[:n] {
		at := i
		if gap >= 0 && i >= gap {
			at = 8 - n + i
		}
		out[2*at], out[2*at+1] = byte(g>>8), byte(g)
	}
	return netip.AddrFrom16(out), true
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// label gives the bytes of one label.
func label(name []byte, labels []uint8, i int) []byte {
	at := int(labels[i])
	return name[at+1 : at+1+int(name[at])]
}
