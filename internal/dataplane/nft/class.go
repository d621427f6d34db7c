package nft

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"fairway.dev/fairway/internal/plan"
)

// class is all that the rules need to know of a frontend besides its backends' addresses. Frontends that are alike share one, so
// that there are a few dozen classes and as many chains, whatever the number of Services. The map services gives a
// frontend's class by number; three small verdict maps give what the class does. A number is never used for another class as long
// as the table exists.
type class struct {
	// in is for the node and for Pods, out for all others.
	in, out pool
	// split is true when in and out have slots of their own.
	split bool
	// sticky is the affinity timeout, in whole seconds; 0 means none.
	sticky uint32
	// restricted is true when only the ranges in the set sources may come in.
	restricted bool
	masquerade plan.Masquerade
}

// pool is a number of backends, or why there is none.
type pool int

const (
	poolReject pool = -1
	poolDrop   pool = -2
)

func poolOf(c plan.Choice) pool {
	switch c.Verdict {
	case plan.Reject:
		return poolReject
	case plan.Drop:
		return poolDrop
	}
	return pool(len(c.Backends))
}

func (p pool) String() string {
	switch p {
	case poolReject:
		return "reject"
	case poolDrop:
		return "drop"
	}
	return strconv.Itoa(int(p))
}

func parsePool(s string) (pool, bool) {
	switch s {
	case "reject":
		return poolReject, true
	case "drop":
		return poolDrop, true
	}
	n, err := strconv.Atoi(s)
	return pool(n), err == nil && n > 0
}

func classOf(f *plan.Frontend) class {
	c := class{
		in: poolOf(f.Inside), out: poolOf(f.Outside), split: f.Split, restricted: len(f.Sources) > 0, masquerade: f.Masquerade,
		sticky: uint32(f.Affinity / time.Second),
	}
	if c.in <= 0 && c.out <= 0 {
		c.sticky, c.masquerade = 0, plan.MasqueradeNone // nobody to stick to
	}
	return c
}

// String is the comment that the class carries in the kernel, from which parseClass reads it back after a restart.
func (c class) String() string {
	var b strings.Builder
	b.WriteString("backends " + c.in.String())
	if c.split {
		b.WriteString(" outside " + c.out.String())
	}
	if c.masquerade != plan.MasqueradeNone {
		b.WriteString(" masquerade " + c.masquerade.String())
	}
	if c.sticky > 0 {
		fmt.Fprintf(&b, " affinity %d", c.sticky)
	}
	if c.restricted {
		b.WriteString(" sources listed")
	}
	return b.String()
}

func parseClass(s string) (c class, ok bool) {
	words := strings.Fields(s)
	if len(words)%2 != 0 || len(words) == 0 {
		return c, false
	}
	for i := 0; i < len(words); i += 2 {
		ok = false
		switch v := words[i+1]; words[i] {
		case "backends":
			c.in, ok = parsePool(v)
			c.out = c.in
		case "outside":
			c.out, ok = parsePool(v)
			c.split = true
		case "masquerade":
			for m := plan.MasqueradeNonPods; m <= plan.MasqueradeNode; m++ {
				if m.String() == v {
					c.masquerade, ok = m, true
				}
			}
		case "affinity":
			n, err := strconv.ParseUint(v, 10, 32)
			c.sticky, ok = uint32(n), err == nil && n > 0
		case "sources":
			c.restricted, ok = true, v == "listed"
		}
		if !ok {
			return c, false
		}
	}
	return c, c.String() == s
}

// The chains of a class. A chain's name says all that is in it.

// inChain is where clients in the network start.
func (c class) inChain() string {
	name := c.insideChain()
	if c.split {
		name = "split-" + name + "-" + c.outsideChain()
	}
	return c.guarded(name)
}

// nodeChain is where clients on the node start: they always count as inside.
func (c class) nodeChain() string {
	name := c.insideChain()
	if name == chainRefuse {
		name = chainRefuseNode
	}
	return c.guarded(name)
}

func (c class) guarded(chain string) string {
	if c.restricted {
		return "from-listed-" + chain
	}
	return chain
}

func (c class) insideChain() string { return c.pickChain(c.in, "") }

// outsideChain is for the clients from outside only.
func (c class) outsideChain() string {
	if !c.split {
		return c.insideChain()
	}
	return c.pickChain(c.out, "-outside")
}

func (c class) pickChain(p pool, suffix string) string {
	switch {
	case p == poolDrop:
		return chainDiscard
	case p <= 0:
		return chainRefuse
	case c.sticky > 0:
		return fmt.Sprintf("stick-%d-of-%d%s", c.sticky, p, suffix)
	}
	return fmt.Sprintf("pick-%d%s", p, suffix)
}

func (c class) masqueradeChain() string {
	return "masquerade-" + c.masquerade.String()
}

// registry knows the classes that the kernel knows.
type registry struct {
	number map[class]uint32 // class → number in the maps
	class  map[uint32]class // number → class
}

func newRegistry() *registry {
	return &registry{number: map[class]uint32{}, class: map[uint32]class{}}
}

func (r *registry) put(c class, n uint32) { r.number[c], r.class[n] = n, c }

// free proposes a number for a class that has none: for the commonest ones it is the number of backends, for people.
func (r *registry) free(c class) uint32 {
	const uncommon = 1 << 20
	n := uint32(uncommon)
	if c == (class{in: c.in, out: c.in, masquerade: plan.MasqueradeNonPods}) && c.in > 0 && c.in < uncommon {
		n = uint32(c.in)
	}
	for {
		if _, taken := r.class[n]; !taken {
			return n
		}
		n = max(n+1, uncommon)
	}
}
