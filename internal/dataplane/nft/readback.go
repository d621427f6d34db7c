package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/plan"
)

// readBack reads one table's sets into the mirror. What makes no sense becomes stray, to be deleted with what nobody claims.
func (c *conn) readBack(f *family, table string, m *mirror) error {
	at := func(k plan.Key) *held {
		h := m.frontends[k]
		if h == nil {
			h = &held{}
			m.frontends[k] = h
		}
		return h
	}
	stray := func(set setID, e element) {
		e = element{key: slices.Clone(e.key), keyEnd: slices.Clone(e.keyEnd)}
		m.stray = append(m.stray, op{f, set, false, e})
	}
	readers := map[setID]func(element){
		services: func(e element) {
			k, _ := f.readKey(e.key)
			at(k).class = binary.NativeEndian.Uint32(e.value)
		},
		slots: func(e element) {
			k, n := f.readNumberedKey(e.key)
			h := at(k)
			if !putSlot(&h.in, &h.out, n, f.readBackend(e.value)) {
				stray(slots, e)
			}
		},
		sticky: func(e element) {
			k, _ := f.readKey(e.key)
			g := binary.NativeEndian.Uint32(e.value)
			at(k).stuck.group = g
			m.lastGroup = max(m.lastGroup, g&groupMask)
		},
		draws: func(e element) {
			k, n := f.readNumberedKey(e.key)
			s := &at(k).stuck
			if !putSlot(&s.draws, &s.drawsOutside, n, binary.NativeEndian.Uint32(e.value)) {
				stray(draws, e)
			}
		},
		live: func(e element) {
			k, n := f.readNumberedKey(e.key)
			at(k).stuck.live.put(n, f.readBackend(e.value))
		},
		liveOutside: func(e element) {
			k, n := f.readNumberedKey(e.key)
			at(k).stuck.liveOutside.put(n, f.readBackend(e.value))
		},
		sources: func(e element) {
			k, rest := f.readKey(e.key)
			last := rest
			if len(e.keyEnd) == len(e.key) {
				_, last = f.readKey(e.keyEnd)
			}
			p, ok := prefixOf(rest, last)
			if !ok {
				stray(sources, e)
				return
			}
			at(k).sources = append(at(k).sources, p)
		},
		clusterIPs: func(e element) {
			a, _ := netip.AddrFromSlice(e.key)
			m.clusterIPs.present[a] = struct{}{}
		},
		hairpins: func(e element) {
			a, _ := netip.AddrFromSlice(e.key[:f.addrLen])
			if string(hairpinKey(a)) != string(e.key) {
				stray(hairpins, e)
				return
			}
			m.hairpins.present[a] = struct{}{}
		},
	}
	for set, read := range readers {
		// Somebody who changes nftables all the time, in tables of their own, would keep the read from ever ending well. If ours were changed meanwhile,
		// the generation is not the one that was asked for before, so that the next look reads all of this again.
		if err := c.readElements(f, table, set, read); err != nil && !errors.Is(err, errInterrupted) {
			return fmt.Errorf("table %s %s: read %s: %w", f.name(), table, setSpecs[set].name, err)
		}
	}
	for k, h := range m.frontends {
		if k.Addr.Is6() == f.v6 {
			slices.SortFunc(h.sources, netip.Prefix.Compare)
		}
	}
	return nil
}

// putSlot notes what is in a slot of the inside clients or, from outsideSlots on, of the others. It is false if there is no such slot.
func putSlot[T any](in, out *[]T, n uint32, v T) bool {
	list := in
	if n >= outsideSlots {
		n, list = n-outsideSlots, out
	}
	if n >= outsideSlots {
		return false
	}
	for len(*list) <= int(n) {
		var missing T
		*list = append(*list, missing)
	}
	(*list)[n] = v
	return true
}

// prefixOf gives the prefix from first to last, if it is one.
func prefixOf(first, last []byte) (netip.Prefix, bool) {
	n := 0
	for i := range first {
		same := bits.LeadingZeros8(first[i] ^ last[i])
		n += same
		if same < 8 {
			break
		}
	}
	a, _ := netip.AddrFromSlice(first)
	p := netip.PrefixFrom(a, n)
	return p, p.Masked() == p && string(sourceElement(plan.Key{Addr: a}, p).keyEnd[len(first)+8:]) == string(last)
}

// name is the family's name in the nft command.
func (f *family) name() string {
	if f.v6 {
		return "ip6"
	}
	return "ip"
}

// readClasses reads what classes the table knows.
func (r *ruleset) readClasses(c *conn) error {
	err := c.readElements(r.family, r.table, inPicks, func(e element) {
		if class, ok := parseClass(e.comment); ok {
			r.classes.put(class, binary.NativeEndian.Uint32(e.key))
		}
	})
	if err != nil {
		return fmt.Errorf("table %s %s: read classes: %w", r.name(), r.table, err)
	}
	return nil
}

// layoutOf gives the layout that a table has, or "" when there is no such table.
func (c *conn) layoutOf(f *family, table string) (string, error) {
	found := ""
	err := c.get(unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK, f.proto, func(e *encoder) {
		e.str(unix.NFTA_TABLE_NAME, table)
	}, func(a []byte) {
		found = "unknown"
		if s := commentOf(attr(a, tableUserdata)); s != "" {
			found = s
		}
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return "", fmt.Errorf("table %s %s: look it up: %w", f.name(), table, err)
	}
	return found, nil
}

// Tables gives every table that a Dataplane of any version has made in the network namespace of the calling thread, such as "ip fairway".
func Tables() ([]string, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	defer c.close()
	var out []string
	for _, f := range families {
		err := c.get(unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP, f.proto, nil, func(a []byte) {
			if strings.HasPrefix(commentOf(attr(a, tableUserdata)), layoutMark) {
				out = append(out, f.name()+" "+strings.TrimRight(string(attr(a, unix.NFTA_TABLE_NAME)), "\x00"))
			}
		})
		if err != nil {
			return nil, fmt.Errorf("nftables: list %s tables: %w", f.name(), err)
		}
	}
	return out, nil
}

// hasChain tells whether a table has a chain.
func (c *conn) hasChain(f *family, table, chain string) (bool, error) {
	found := false
	err := c.get(unix.NFT_MSG_GETCHAIN, unix.NLM_F_ACK, f.proto, func(e *encoder) {
		e.str(unix.NFTA_CHAIN_TABLE, table)
		e.str(unix.NFTA_CHAIN_NAME, chain)
	}, func([]byte) { found = true })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return false, fmt.Errorf("table %s %s: look up chain %s: %w", f.name(), table, chain, err)
	}
	return found, nil
}

// fingerprint is the kernel's own description of a table's chains and rules. It changes when anybody changes them.
func (c *conn) fingerprint(f *family, table string) (string, error) {
	var all []byte
	collect := func(name uint16, drop ...uint16) func(a []byte) {
		return func(a []byte) {
			if string(attr(a, name)) != table+"\x00" {
				return
			}
			for k, v := range attrs(a) {
				if !slices.Contains(drop, k) {
					all = append(all, v...)
				}
			}
		}
	}
	if err := c.get(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, f.proto, nil,
		collect(unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_USE)); err != nil {
		return "", fmt.Errorf("table %s %s: read chains: %w", f.name(), table, err)
	}
	if err := c.get(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, f.proto, func(e *encoder) {
		e.str(unix.NFTA_RULE_TABLE, table)
	}, collect(unix.NFTA_RULE_TABLE)); err != nil {
		return "", fmt.Errorf("table %s %s: read rules: %w", f.name(), table, err)
	}
	return string(all), nil
}
