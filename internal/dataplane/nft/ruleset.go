package nft

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// layout changes whenever a new binary could not adopt the sets of an old one: another set, another key, another meaning of a number. Rules may
// change without it, for they are written anew at each start. A table of another layout, older or newer, is replaced whole.
const (
	layout     = layoutMark + "2"
	layoutMark = "fairway, layout " // what the comment of every table begins with
)

const tableUserdata = 6 // NFTA_TABLE_USERDATA

// The chains that every table has.
const (
	chainRefuse       = "refuse"
	chainRefuseNode   = "refuse-node" // for clients on the node
	chainDiscard      = "discard"
	chainSecondChance = "second-chance"
	chainPrerouting   = "prerouting" // a base chain, as is the next
	chainOutput       = "output"
)

// How long the kernel remembers the flows that had their second chance: longer than the client's first retransmission of SYN
// (1 s, RFC 6298) takes to be answered, and much shorter than the time before a client uses a port again.
const secondChanceFor = 3000 // ms

// ruleset writes the rules of one table. What it has written is in chains; elements of the sets are not its business.
type ruleset struct {
	*family
	table         string
	layout        string // layout, but for tests
	serviceRanges []netip.Prefix
	podRanges     []netip.Prefix
	classes       *registry
	chains        map[string]struct{}
	unwritten     []class // known to classes, but not yet to the kernel
	base          bool    // the base chains are there
	empty         bool    // when it was adopted there were no sets of this layout
}

func ofFamily(f *family, ps []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range ps {
		if p.Addr().Is6() == f.v6 {
			out = append(out, p.Masked())
		}
	}
	return out
}

// remove deletes the table, which must exist.
func (r *ruleset) remove(b *batch) {
	b.message(unix.NFT_MSG_DELTABLE, 0, r.proto)
	b.str(unix.NFTA_TABLE_NAME, r.table)
	b.end()
}

// write makes the table, its sets and all rules of all known classes, whether or not any of it is there already; those of the base
// chains, through which packets enter, only if these are there.
func (r *ruleset) write(b *batch) {
	b.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, r.proto)
	b.str(unix.NFTA_TABLE_NAME, r.table)
	b.comment(tableUserdata, r.layout)
	b.end()
	for id := range setSpecs {
		r.set(b, setID(id))
	}
	b.message(unix.NFT_MSG_DELRULE, 0, r.proto) // all of the table
	b.str(unix.NFTA_RULE_TABLE, r.table)
	b.end()
	r.chains = map[string]struct{}{}
	r.shared(b)
	for n, c := range r.classes.class {
		r.writeClass(b, c, n)
	}
	if r.base {
		r.writeBase(b)
	}
}

func (r *ruleset) set(b *batch, id setID) {
	s := &setSpecs[id]
	key := s.key(r.family)
	flags := uint32(0)
	if len(key) > 1 {
		flags |= 0x80 // NFT_SET_CONCAT
	}
	if s.ranges {
		flags |= unix.NFT_SET_INTERVAL
	}
	if s.dynamic {
		flags |= unix.NFT_SET_TIMEOUT | unix.NFT_SET_EVAL
	}
	if s.value != nil {
		flags |= unix.NFT_SET_MAP
	}
	b.message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, r.proto)
	b.str(unix.NFTA_SET_TABLE, r.table)
	b.str(unix.NFTA_SET_NAME, s.name)
	b.u32(unix.NFTA_SET_ID, uint32(id)+1)
	b.u32(unix.NFTA_SET_FLAGS, flags)
	b.u32(unix.NFTA_SET_KEY_TYPE, concatType(key))
	b.u32(unix.NFTA_SET_KEY_LEN, concatLen(key))
	var value []uint32
	if s.value != nil {
		value = s.value(r.family)
		b.u32(unix.NFTA_SET_DATA_TYPE, concatType(value))
		if value[0] != typeVerdict {
			b.u32(unix.NFTA_SET_DATA_LEN, concatLen(value))
		}
	}
	desc := b.nest(unix.NFTA_SET_DESC)
	if s.dynamic {
		b.u32(unix.NFTA_SET_DESC_SIZE, 1<<18) // packets fill it, so it needs a bound
	}
	if len(key) > 1 {
		fields := b.nest(unix.NFTA_SET_DESC_SIZE + 1) // NFTA_SET_DESC_CONCAT
		for _, t := range key {
			field := b.nest(unix.NFTA_LIST_ELEM)
			b.u32(1, typeSize(t)) // NFTA_SET_FIELD_LEN
			b.close(field)
		}
		b.close(fields)
	}
	b.close(desc)
	// Tell the nft command which numbers are not in network order, so that it prints them right.
	var udata []byte
	for i, t := range [][]uint32{key, value} {
		if len(t) == 1 && t[0] == typeMark {
			udata = append(udata, byte(i), 4) // NFTNL_UDATA_SET_KEYBYTEORDER, NFTNL_UDATA_SET_DATABYTEORDER
			udata = append(udata, native(1)...)
		}
	}
	if udata != nil {
		b.bytes(unix.NFTA_SET_USERDATA, udata)
	}
	b.end()
}

// concatType is how the nft command numbers a concatenation: six bits a field.
func concatType(ts []uint32) (n uint32) {
	if len(ts) == 1 {
		return ts[0]
	}
	for _, t := range ts {
		n = n<<6 | t
	}
	return n
}

func concatLen(ts []uint32) (n uint32) {
	if len(ts) == 1 {
		return typeSize(ts[0])
	}
	for _, t := range ts {
		n += (typeSize(t) + 3) &^ 3
	}
	return n
}

func (r *ruleset) chain(b *batch, name string) {
	b.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, r.proto)
	b.str(unix.NFTA_CHAIN_TABLE, r.table)
	b.str(unix.NFTA_CHAIN_NAME, name)
	b.end()
}

func (r *ruleset) baseChain(b *batch, name, kind string, hook uint32, priority int32) {
	b.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, r.proto)
	b.str(unix.NFTA_CHAIN_TABLE, r.table)
	b.str(unix.NFTA_CHAIN_NAME, name)
	at := b.nest(unix.NFTA_CHAIN_HOOK)
	b.u32(unix.NFTA_HOOK_HOOKNUM, hook)
	b.u32(unix.NFTA_HOOK_PRIORITY, uint32(priority))
	b.close(at)
	b.str(unix.NFTA_CHAIN_TYPE, kind)
	b.end()
}

func (r *ruleset) add(b *batch, chain, comment string, exprs ...expr) {
	b.rule(r.table, r.proto, chain, comment, exprs...)
}

// shared writes the chains that do not depend on any class.
func (r *ruleset) shared(b *batch) {
	for _, c := range []string{chainRefuse, chainRefuseNode, chainDiscard, chainSecondChance} {
		r.chain(b, c)
	}
	r.add(b, chainRefuse, "a reset is never rate-limited", meta(unix.NFT_META_L4PROTO, 0), equal(0, []byte{byte(model.TCP)}), rejectReset())
	r.add(b, chainRefuse, "", rejectUnreachable(r.unreach))
	// A packet that ends in the output hook is a failed system call to its sender, EPERM, whatever answer is sent beside it. So on the
	// node a datagram goes to port 0 of the loopback address, which nobody can have: the kernel's own UDP answers "port unreachable",
	// conntrack translates that back, and the sender sees ECONNREFUSED as from any other machine.
	w := r.words()
	r.add(b, chainRefuseNode, "port 0 is nobody's: port unreachable", meta(unix.NFT_META_L4PROTO, 0), equal(0, []byte{byte(model.UDP)}),
		load(0, r.loopback.AsSlice()), load(w, []byte{0, 0}), dnat(uint32(r.proto), 0, w))
	r.add(b, chainRefuseNode, "", verdict(goTo, chainRefuse))
	r.add(b, chainDiscard, "", verdict(drop, ""))

	// A backend that refuses a connection has most likely just died. Conntrack has already forgotten the flow when it sees that
	// the only reply is a reset. Kept from the client, the reset makes it send its SYN again, which is then a new flow and
	// picks a backend anew. The second reset of the same flow goes through.
	r.add(b, chainSecondChance, "of flows to Services only, once for each",
		slices.Concat(r.originalFrontend(0), []expr{find(setSpecs[services].name, 0, 2*w+2)},
			[]expr{
				original(r.ctSource, 0), original(unix.NFT_CT_PROTO_SRC, w),
				original(r.ctDest, w+1), original(unix.NFT_CT_PROTO_DST, 2*w+1),
				in(setSpecs[secondChances].name, 0, true), remember(setSpecs[secondChances].name, 0, secondChanceFor), verdict(drop, ""),
			})...)
}

// writeBase writes the base chains. Their priorities are netfilter's own names: dstnat, srcnat and mangle, the last one being after
// conntrack and before the translation of replies.
func (r *ruleset) writeBase(b *batch) {
	w := r.words()
	for _, h := range []struct {
		name   string
		hook   uint32
		picks  setID
		refuse string
	}{
		{chainPrerouting, unix.NF_INET_PRE_ROUTING, inPicks, chainRefuse},
		{chainOutput, unix.NF_INET_LOCAL_OUT, nodePicks, chainRefuseNode},
	} {
		r.baseChain(b, h.name, "nat", h.hook, -100)
		r.add(b, h.name, "", slices.Concat(r.frontend(0), findClass(0, w+2, h.picks))...)
		r.add(b, h.name, "a port that the Service does not have",
			r.dest(0), in(setSpecs[clusterIPs].name, 0, false), verdict(goTo, h.refuse))
		for _, p := range r.serviceRanges {
			r.add(b, h.name, "an address that no Service has", append(r.within(r.daddr, p), verdict(goTo, chainDiscard))...)
		}
	}

	r.baseChain(b, "postrouting", "nat", unix.NF_INET_POST_ROUTING, 100)
	r.add(b, "postrouting", "", ct(unix.NFT_CT_STATUS, 0), mask(0, native(statusDNAT)), equal(0, native(0)), verdict(leave, ""))
	r.add(b, "postrouting", "a Pod that is its own backend",
		payload(network, r.saddr, r.addrLen, 0), r.dest(w), in(setSpecs[hairpins].name, 0, false), masquerade())
	r.add(b, "postrouting", "", slices.Concat(r.originalFrontend(0), findClass(0, w+2, masquerades))...)

	for _, h := range []struct {
		name string
		hook uint32
	}{{"answers-in", unix.NF_INET_PRE_ROUTING}, {"answers-out", unix.NF_INET_LOCAL_OUT}} {
		r.baseChain(b, h.name, "filter", h.hook, -150)
		const finSynRstAck, rstAck = 0x17, 0x14
		r.add(b, h.name, "a reset that answers a SYN (RFC 9293, 3.10.7.1)",
			meta(unix.NFT_META_L4PROTO, 0), equal(0, []byte{byte(model.TCP)}),
			payload(transport, 13, 1, 0), mask(0, []byte{finSynRstAck}), equal(0, []byte{rstAck}),
			payload(transport, 4, 4, 0), equal(0, []byte{0, 0, 0, 0}),
			ct(unix.NFT_CT_DIRECTION, 0), equal(0, []byte{1}),
			ct(unix.NFT_CT_STATUS, 0), mask(0, native(statusDNAT)), unequal(0, native(0)),
			verdict(goTo, chainSecondChance))
	}
}

const statusDNAT = 1 << 5 // IPS_DST_NAT

// writeClass writes the chains that a class needs and are not there, and what leads to them.
func (r *ruleset) writeClass(b *batch, c class, n uint32) {
	w := r.words()
	once := func(name string) bool {
		if _, have := r.chains[name]; have {
			return false
		}
		r.chains[name] = struct{}{}
		r.chain(b, name)
		return true
	}
	pool := func(name string, p pool, base uint32, alive setID) {
		if p > 0 && once(name) {
			if c.sticky > 0 {
				r.stick(b, name, p, base, alive, c.sticky)
			}
			r.pick(b, name, p, base)
		}
	}
	pool(c.insideChain(), c.in, 0, live)
	if c.split {
		pool(c.outsideChain(), c.out, outsideSlots, liveOutside)
		open := c
		open.restricted = false
		if name := open.inChain(); once(name) {
			for _, p := range r.podRanges {
				r.add(b, name, "", append(r.within(r.saddr, p), verdict(goTo, c.insideChain()))...)
			}
			r.add(b, name, "", verdict(goTo, c.outsideChain()))
		}
	}
	if c.restricted {
		open := c
		open.restricted = false
		for _, to := range []string{open.inChain(), open.nodeChain()} {
			if name := c.guarded(to); once(name) {
				r.add(b, name, "", append(r.frontend(0), payload(network, r.saddr, r.addrLen, w+2),
					in(setSpecs[sources].name, 0, true), verdict(drop, ""))...)
				r.add(b, name, "", verdict(goTo, to))
			}
		}
	}
	if name := c.masqueradeChain(); once(name) {
		switch c.masquerade {
		case plan.MasqueradeNonPods:
			for _, p := range r.podRanges {
				r.add(b, name, "", append(r.within(r.saddr, p), verdict(leave, ""))...)
			}
			r.add(b, name, "", masquerade())
		case plan.MasqueradeAll:
			r.add(b, name, "", masquerade())
		case plan.MasqueradeNode:
			r.add(b, name, "", sourceType(0), equal(0, native(unix.RTN_LOCAL)), masquerade())
		}
	}
	for set, chain := range map[setID]string{inPicks: c.inChain(), nodePicks: c.nodeChain(), masquerades: c.masqueradeChain()} {
		b.elements(r.family, r.table, unix.NFT_MSG_NEWSETELEM, set, []element{{key: native(n), chain: chain, comment: c.String()}})
	}
}

// pick writes the rules that choose one of n backends with equal chance.
func (r *ruleset) pick(b *batch, chain string, n pool, base uint32) {
	w := r.words()
	// A transaction may come between the lookup that led here and the lookup of the slot, and may have taken the last slot
	// away: then try among those that are left for sure. If there is none the client's next packet will find what is.
	for _, n := range []uint32{uint32(n), uint32(max(n-1, 1))} {
		r.add(b, chain, "", append(r.frontend(0), random(n, base, w+2),
			find(setSpecs[slots].name, 0, 0), dnat(uint32(r.proto), 0, w))...)
	}
	r.add(b, chain, "", verdict(drop, ""))
}

// frontend loads the packet's destination as the key of a frontend.
func (r *ruleset) frontend(to reg) []expr {
	return []expr{r.dest(to), meta(unix.NFT_META_L4PROTO, to+r.words()), payload(transport, 2, 2, to+r.words()+1)}
}

// originalFrontend loads the destination of the flow's first packet.
func (r *ruleset) originalFrontend(to reg) []expr {
	return []expr{
		original(r.ctDest, to), meta(unix.NFT_META_L4PROTO, to+r.words()), original(unix.NFT_CT_PROTO_DST, to+r.words()+1),
	}
}

func (r *ruleset) dest(to reg) expr { return payload(network, r.daddr, r.addrLen, to) }

// within matches an address of the packet against a range.
func (r *ruleset) within(offset uint32, p netip.Prefix) []expr {
	out := []expr{payload(network, offset, r.addrLen, 0)}
	if p.Bits() < p.Addr().BitLen() {
		m := make([]byte, r.addrLen)
		for i := range p.Bits() {
			m[i/8] |= 0x80 >> (i % 8)
		}
		out = append(out, mask(0, m))
	}
	return append(out, equal(0, p.Addr().AsSlice()))
}
