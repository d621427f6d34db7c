package nft

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// expr is one expression of a rule: the kernel's instruction that works on registers. A rule is a list of them; the first that does
// not match ends the rule.
type expr struct {
	name string
	fill func(*encoder)
}

// reg is a 32-bit register, counted from 0 to 15. Longer values take as many in a row as they need.
type reg uint32

func (r reg) n() uint32 { return unix.NFT_REG32_00 + uint32(r) }

// Payload bases.
const (
	network   = unix.NFT_PAYLOAD_NETWORK_HEADER
	transport = unix.NFT_PAYLOAD_TRANSPORT_HEADER
)

func payload(base, offset, length uint32, to reg) expr {
	return expr{"payload", func(e *encoder) {
		e.u32(unix.NFTA_PAYLOAD_DREG, to.n())
		e.u32(unix.NFTA_PAYLOAD_BASE, base)
		e.u32(unix.NFTA_PAYLOAD_OFFSET, offset)
		e.u32(unix.NFTA_PAYLOAD_LEN, length)
	}}
}

func meta(key uint32, to reg) expr {
	return expr{"meta", func(e *encoder) {
		e.u32(unix.NFTA_META_DREG, to.n())
		e.u32(unix.NFTA_META_KEY, key)
	}}
}

// ct loads a property of the flow: one that has no direction.
func ct(key uint32, to reg) expr {
	return expr{"ct", func(e *encoder) {
		e.u32(unix.NFTA_CT_DREG, to.n())
		e.u32(unix.NFTA_CT_KEY, key)
	}}
}

// original loads a property of the flow's original direction: what its first packet had before any translation.
func original(key uint32, to reg) expr {
	return expr{"ct", func(e *encoder) {
		e.u32(unix.NFTA_CT_DREG, to.n())
		e.u32(unix.NFTA_CT_KEY, key)
		e.u8(unix.NFTA_CT_DIRECTION, 0)
	}}
}

func compare(op uint32, r reg, value []byte) expr {
	return expr{"cmp", func(e *encoder) {
		e.u32(unix.NFTA_CMP_SREG, r.n())
		e.u32(unix.NFTA_CMP_OP, op)
		data(e, unix.NFTA_CMP_DATA, value)
	}}
}

func equal(r reg, value []byte) expr   { return compare(unix.NFT_CMP_EQ, r, value) }
func unequal(r reg, value []byte) expr { return compare(unix.NFT_CMP_NEQ, r, value) }

// mask keeps the bits of a register that are set in value.
func mask(r reg, value []byte) expr {
	return expr{"bitwise", func(e *encoder) {
		e.u32(unix.NFTA_BITWISE_SREG, r.n())
		e.u32(unix.NFTA_BITWISE_DREG, r.n())
		e.u32(unix.NFTA_BITWISE_LEN, uint32(len(value)))
		data(e, unix.NFTA_BITWISE_MASK, value)
		data(e, unix.NFTA_BITWISE_XOR, make([]byte, len(value)))
	}}
}

func data(e *encoder, kind uint16, value []byte) {
	at := e.nest(kind)
	e.bytes(unix.NFTA_DATA_VALUE, value)
	e.close(at)
}

// random gives a number from base to base+n-1.
func random(n, base uint32, to reg) expr {
	return expr{"numgen", func(e *encoder) {
		e.u32(unix.NFTA_NG_DREG, to.n())
		e.u32(unix.NFTA_NG_MODULUS, n)
		e.u32(unix.NFTA_NG_TYPE, unix.NFT_NG_RANDOM)
		e.u32(unix.NFTA_NG_OFFSET, base)
	}}
}

// find looks a key up in a map and loads its value; it does not match when the key is absent.
func find(set string, key, to reg) expr {
	return expr{"lookup", func(e *encoder) {
		e.str(unix.NFTA_LOOKUP_SET, set)
		e.u32(unix.NFTA_LOOKUP_SREG, key.n())
		e.u32(unix.NFTA_LOOKUP_DREG, to.n())
	}}
}

// carry puts a number that was looked up into the packet's priority, from where carried loads it to look up something else. The
// number could stay in a register, but the nft command (1.0.6) aborts when it must print a lookup of a looked up value, and
// everybody must be able to list the ruleset. Only the first packet of a flow to a Service is used so; putDown leaves its
// priority 0.
func carry(from reg) expr {
	return expr{"meta", func(e *encoder) {
		e.u32(unix.NFTA_META_KEY, unix.NFT_META_PRIORITY)
		e.u32(unix.NFTA_META_SREG, from.n())
	}}
}

func carried(to reg) expr { return meta(unix.NFT_META_PRIORITY, to) }

func putDown(scratch reg) []expr { return []expr{load(scratch, native(0)), carry(scratch)} }

// findClass looks a frontend's class up and does what the verdict map says of it.
func findClass(key, scratch reg, verdicts setID) []expr {
	return slices.Concat(
		[]expr{find(setSpecs[services].name, key, scratch), carry(scratch), carried(key)},
		putDown(scratch), []expr{dispatch(setSpecs[verdicts].name, key)})
}

// load puts a constant into a register.
func load(to reg, value []byte) expr {
	return expr{"immediate", func(e *encoder) {
		e.u32(unix.NFTA_IMMEDIATE_DREG, to.n())
		data(e, unix.NFTA_IMMEDIATE_DATA, value)
	}}
}

// dispatch looks a key up in a verdict map and does what it says.
func dispatch(set string, key reg) expr {
	return expr{"lookup", func(e *encoder) {
		e.str(unix.NFTA_LOOKUP_SET, set)
		e.u32(unix.NFTA_LOOKUP_SREG, key.n())
		e.u32(unix.NFTA_LOOKUP_DREG, unix.NFT_REG_VERDICT)
	}}
}

// in matches when the key is in a set, or with not when it is absent.
func in(set string, key reg, not bool) expr {
	return expr{"lookup", func(e *encoder) {
		e.str(unix.NFTA_LOOKUP_SET, set)
		e.u32(unix.NFTA_LOOKUP_SREG, key.n())
		if not {
			e.u32(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV)
		}
	}}
}

// remember adds a key to a dynamic set, or refreshes its time.
func remember(set string, key reg, timeout uint64) expr {
	return dynset(unix.NFT_DYNSET_OP_UPDATE, set, key, nil, timeout)
}

// rememberValue is remember for a map. A key that is there keeps its value. It does not match when the map is full.
func rememberValue(set string, key, value reg, timeout uint64) expr {
	return dynset(unix.NFT_DYNSET_OP_UPDATE, set, key, &value, timeout)
}

// forget removes a key from a dynamic map. The kernel wants a value register for maps here too.
func forget(set string, key, value reg) expr {
	return dynset(opDelete, set, key, &value, 0)
}

// opDelete is the kernel's NFT_DYNSET_OP_DELETE (since 5.3).
const opDelete = 2

// dynset changes a set from the packet path; timeout is in milliseconds.
func dynset(op uint32, set string, key reg, value *reg, timeout uint64) expr {
	return expr{"dynset", func(e *encoder) {
		e.str(unix.NFTA_DYNSET_SET_NAME, set)
		e.u32(unix.NFTA_DYNSET_OP, op)
		e.u32(unix.NFTA_DYNSET_SREG_KEY, key.n())
		if value != nil {
			e.u32(unix.NFTA_DYNSET_SREG_DATA, value.n())
		}
		if timeout > 0 {
			e.u64(unix.NFTA_DYNSET_TIMEOUT, timeout)
		}
	}}
}

// dnat sends the flow to the address and port in two registers.
func dnat(family uint32, addr, port reg) expr {
	return expr{"nat", func(e *encoder) {
		e.u32(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
		e.u32(unix.NFTA_NAT_FAMILY, family)
		e.u32(unix.NFTA_NAT_REG_ADDR_MIN, addr.n())
		e.u32(unix.NFTA_NAT_REG_ADDR_MAX, addr.n())
		e.u32(unix.NFTA_NAT_REG_PROTO_MIN, port.n())
		e.u32(unix.NFTA_NAT_REG_PROTO_MAX, port.n())
		e.u32(unix.NFTA_NAT_FLAGS, unix.NF_NAT_RANGE_PROTO_SPECIFIED)
	}}
}

// masquerade takes a random free port: two flows that start at once on two cores would else race for the next one.
func masquerade() expr {
	return expr{"masq", func(e *encoder) {
		e.u32(unix.NFTA_MASQ_FLAGS, unix.NF_NAT_RANGE_PROTO_RANDOM_FULLY)
	}}
}

func rejectReset() expr {
	return expr{"reject", func(e *encoder) { e.u32(unix.NFTA_REJECT_TYPE, unix.NFT_REJECT_TCP_RST) }}
}

// rejectUnreachable answers with the family's ICMP "port unreachable".
func rejectUnreachable(code uint8) expr {
	return expr{"reject", func(e *encoder) {
		e.u32(unix.NFTA_REJECT_TYPE, unix.NFT_REJECT_ICMP_UNREACH)
		e.u8(unix.NFTA_REJECT_ICMP_CODE, code)
	}}
}

// sourceType loads what the routing table says of the packet's source (rtnetlink's RTN_LOCAL and so on).
func sourceType(to reg) expr {
	return expr{"fib", func(e *encoder) {
		e.u32(unix.NFTA_FIB_DREG, to.n())
		e.u32(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_ADDRTYPE)
		e.u32(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_SADDR)
	}}
}

// Verdicts.
const (
	drop  = uint32(0)
	leave = ^uint32(4) // NFT_RETURN, -5
	goTo  = ^uint32(3) // NFT_GOTO, -4
)

// verdict ends the rule; chain is for goTo alone.
func verdict(code uint32, chain string) expr {
	return expr{"immediate", func(e *encoder) {
		e.u32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		at := e.nest(unix.NFTA_IMMEDIATE_DATA)
		verdictData(e, code, chain)
		e.close(at)
	}}
}

func verdictData(e *encoder, code uint32, chain string) {
	at := e.nest(unix.NFTA_DATA_VERDICT)
	e.u32(unix.NFTA_VERDICT_CODE, code)
	if chain != "" {
		e.str(unix.NFTA_VERDICT_CHAIN, chain)
	}
	e.close(at)
}

// native gives a number as registers hold those that do not come from a packet.
func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// rule appends a rule to a chain.
func (b *batch) rule(table string, family byte, chain, comment string, exprs ...expr) {
	b.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, family)
	b.str(unix.NFTA_RULE_TABLE, table)
	b.str(unix.NFTA_RULE_CHAIN, chain)
	list := b.nest(unix.NFTA_RULE_EXPRESSIONS)
	for _, x := range exprs {
		one := b.nest(unix.NFTA_LIST_ELEM)
		b.str(unix.NFTA_EXPR_NAME, x.name)
		args := b.nest(unix.NFTA_EXPR_DATA)
		x.fill(&b.encoder)
		b.close(args)
		b.close(one)
	}
	b.close(list)
	b.comment(unix.NFTA_RULE_USERDATA, comment)
	b.end()
}
