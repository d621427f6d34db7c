package conntrack

import (
	"encoding/binary"
	"net/netip"

	"github.com/mdlayher/netlink"
	"github.com/ti-mo/netfilter"

	"fairway.dev/fairway/internal/model"
)

// Walks is how often the kernel was asked for a list.
func (t *Table) Walks() int { return t.walks }

// Make adds a flow to the kernel's table, as if its packets had been seen. state is that of TCP.
func (t *Table) Make(f Flow, client netip.AddrPort, state byte) error {
	family, source, dest := netfilter.ProtoIPv4, uint16(ipSource4), uint16(ipDestination4)
	if f.To.Addr().Is6() {
		family, source, dest = netfilter.ProtoIPv6, ipSource6, ipDestination6
	}
	port := func(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }
	tuple := func(kind uint16, from, to netip.AddrPort) netfilter.Attribute {
		return netfilter.Attribute{Type: kind, Nested: true, Children: []netfilter.Attribute{
			{Type: tupleIP, Nested: true, Children: []netfilter.Attribute{
				{Type: source, Data: from.Addr().AsSlice()}, {Type: dest, Data: to.Addr().AsSlice()}}},
			{Type: tupleProto, Nested: true, Children: []netfilter.Attribute{
				{Type: protoNumber, Data: []byte{byte(f.Protocol)}}, {Type: protoSource, Data: port(from.Port())}, {Type: protoDest, Data: port(to.Port())}}},
		}}
	}
	const msgNew, ctaTimeout, confirmed = 0, 7, 1 << 3
	status := uint32(confirmed)
	if f.Protocol == model.TCP && !f.HalfOpen {
		status |= statusSeenReply
	}
	a := []netfilter.Attribute{
		tuple(ctaTupleOrig, client, f.To), tuple(ctaTupleReply, f.From, client),
		{Type: ctaTimeout, Data: binary.BigEndian.AppendUint32(nil, 600)},
		{Type: ctaStatus, Data: binary.BigEndian.AppendUint32(nil, status)},
	}
	if f.Protocol == model.TCP {
		a = append(a, netfilter.Attribute{Type: ctaProtoInfo, Nested: true, Children: []netfilter.Attribute{
			{Type: protoInfoTCP, Nested: true, Children: []netfilter.Attribute{{Type: protoInfoTCPState, Data: []byte{state}}}}}})
	}
	_, err := t.query(family, msgNew, netlink.Request|netlink.Acknowledge|netlink.Create|netlink.Excl, a)
	return err
}

// Count gives how many flows there are to the same destination.
func (t *Table) Count(like Flow) (n int, err error) {
	all, err := t.flows(ask{netfilter.ProtoIPv4, like.Protocol, like.To.Port()})
	for _, f := range all {
		if f.To == like.To {
			n++
		}
	}
	return n, err
}
