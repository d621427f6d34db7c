package static

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/dns/wire"
)

// Hosts are names with fixed addresses.
type Hosts struct {
	ttl   uint32
	names map[string]*addresses // by the name in wire form and lower case
	addrs map[string][][]byte   // names by the address's PTR name
}

type addresses struct{ v4, v6 [][]byte }

// NewHosts gives an empty set whose records have that TTL, in seconds; with reverse, PTR questions are answered too.
func NewHosts(ttl uint32, reverse bool) *Hosts {
	h := &Hosts{ttl: ttl, names: map[string]*addresses{}}
	if reverse {
		h.addrs = map[string][][]byte{}
	}
	return h
}

// Empty tells whether there is nothing to answer.
func (h *Hosts) Empty() bool { return len(h.names) == 0 }

// Add reads lines in the syntax of hosts(5): an address, and the names that it has. file is how errors call the text.
func (h *Hosts) Add(file string, text []byte) error {
	line := 0
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		line++
		s, _, _ := strings.Cut(sc.Text(), "#")
		f := strings.Fields(s)
		if len(f) == 0 {
			continue
		}
		a, err := netip.ParseAddr(f[0])
		if err != nil || a.Zone() != "" {
			return fmt.Errorf("%s:%d: %q is no address; a line is an address and its names", file, line, f[0])
		}
		if len(f) == 1 {
			return fmt.Errorf("%s:%d: %s has no name; a line is an address and its names", file, line, f[0])
		}
		for _, n := range f[1:] {
			name, err := wire.EncodeName(nil, n)
			if err != nil || len(name) == 1 {
				return fmt.Errorf("%s:%d: %q is no name", file, line, n)
			}
			h.add(a.Unmap(), name)
		}
	}
	return nil
}

func (h *Hosts) add(a netip.Addr, name []byte) {
	as := h.names[string(name)]
	if as == nil {
		as = &addresses{}
		h.names[string(name)] = as
	}
	list := &as.v4
	if a.Is6() {
		list = &as.v6
	}
	if !slices.ContainsFunc(*list, func(b []byte) bool { return bytes.Equal(a.AsSlice(), b) }) {
		*list = append(*list, a.AsSlice())
	}
	if h.addrs != nil {
		key := string(ReverseName(a))
		h.addrs[key] = append(h.addrs[key], name)
	}
}

// Answer answers for a name that has an entry; another type than an address's is answered with nothing. It reports whether it has.
func (h *Hosts) Answer(q *wire.Query, r *wire.Reply) bool {
	if as := h.names[string(q.Lower())]; as != nil {
		r.Authoritative = true
		switch q.Type {
		case wire.TypeA:
			h.records(r, q.Type, as.v4)
		case wire.TypeAAAA:
			h.records(r, q.Type, as.v6)
		}
		return true
	}
	if q.Type != wire.TypePTR || h.addrs == nil {
		return false
	}
	names := h.addrs[string(q.Lower())]
	if len(names) > 0 {
		r.Authoritative = true
		h.records(r, q.Type, names)
	}
	return len(names) > 0
}

func (h *Hosts) records(r *wire.Reply, t wire.Type, data [][]byte) {
	for _, d := range data {
		r.Record(wire.Answer, wire.Question, t, h.ttl, d)
	}
}

// ReverseName is the name below in-addr.arpa or ip6.arpa that an address's PTR record has, in wire form.
func ReverseName(a netip.Addr) []byte {
	var out []byte
	b := a.AsSlice()
	for i := len(b) - 1; i >= 0; i-- {
		if a.Is4() {
			out = wire.AppendLabel(out, fmt.Sprint(b[i]))
		} else {
			const digits = "0123456789abcdef"
			out = append(out, 1, digits[b[i]&15], 1, digits[b[i]>>4])
		}
	}
	if a.Is4() {
		out = wire.AppendLabel(out, "in-addr")
	} else {
		out = wire.AppendLabel(out, "ip6")
	}
	return append(wire.AppendLabel(out, "arpa"), 0)
}
