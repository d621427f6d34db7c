package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"github.com/ti-mo/netfilter"
	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// Table is the kernel's connection table of one network namespace. It belongs to one goroutine.
type Table struct {
	conn *netfilter.Conn
}

// Open opens the table of the network namespace of the calling thread. Close it when done.
func Open() (*Table, error) {
	c, err := netfilter.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("conntrack: open: %w", err)
	}
	return &Table{c}, nil
}

// Close closes the table.
func (t *Table) Close() error { return t.conn.Close() }

// few is up to how many frontends are asked for one by one. The kernel walks its whole table each time, but it tells of the flows
// to that port only; for more frontends one walk that tells of all UDP flows is cheaper.
const few = 8

// Sweep deletes all stale flows and gives their number. The kernel selects the flows, since 5.8: a node may have a million
// connections and three UDP flows.
func (t *Table) Sweep(s Serving) (deleted int, err error) {
	var asks []plan.Key
	if len(s) <= few {
		for k := range s {
			asks = append(asks, k)
		}
	} else {
		asks = []plan.Key{{Addr: netip.IPv4Unspecified()}, {Addr: netip.IPv6Unspecified()}}
	}
	for _, ask := range asks {
		flows, err := t.flows(ask)
		if err != nil {
			return deleted, err
		}
		for _, f := range flows {
			if !s.Stale(model.UDP, f.to, f.from) {
				continue
			}
			if err := t.delete(f); err != nil {
				return deleted, err
			}
			deleted++
		}
	}
	return deleted, nil
}

// flow is one UDP flow.
type flow struct {
	family netfilter.ProtoFamily
	to     netip.AddrPort // destination of the first packet
	from   netip.AddrPort // source of replies
	// name are the attributes that name it to the kernel.
	name []netfilter.Attribute
}

// Attributes and messages of linux/netfilter/nfnetlink_conntrack.h.
const (
	msgGet, msgDelete                   = 1, 2
	ctaTupleOrig, ctaTupleReply, ctaID  = 1, 2, 12
	ctaZone, ctaFilter, ctaFilterOrig   = 18, 25, 1
	tupleIP, tupleProto                 = 1, 2
	ipDestination4, ipDestination6      = 2, 4
	ipSource4, ipSource6                = 1, 3
	protoNumber, protoSource, protoDest = 1, 2, 3

	filterProtocol, filterDestPort = 1 << 3, 1 << 5
)

// flows gives the UDP flows to the port of one frontend, or, for an unspecified address, all of its family.
func (t *Table) flows(ask plan.Key) ([]flow, error) {
	family := netfilter.ProtoIPv4
	if ask.Addr.Is6() {
		family = netfilter.ProtoIPv6
	}
	flags := uint32(filterProtocol)
	proto := []netfilter.Attribute{{Type: protoNumber, Data: []byte{byte(model.UDP)}}}
	if !ask.Addr.IsUnspecified() {
		// Not by address: for IPv6 the kernel (6.18) then gives the flows to all addresses but the one asked for.
		flags |= filterDestPort
		proto = append(proto, netfilter.Attribute{Type: protoDest, Data: binary.BigEndian.AppendUint16(nil, ask.Port)})
	}
	answers, err := t.query(family, msgGet, netlink.Request|netlink.Dump, []netfilter.Attribute{
		{Type: ctaTupleOrig, Nested: true, Children: []netfilter.Attribute{{Type: tupleProto, Nested: true, Children: proto}}},
		{Type: ctaFilter, Nested: true, Children: []netfilter.Attribute{
			{Type: ctaFilterOrig, Data: binary.NativeEndian.AppendUint32(nil, flags)},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("conntrack: list flows to %s: %w", ask, err)
	}
	var out []flow
	for _, m := range answers {
		_, ad, err := netfilter.DecodeNetlink(m)
		if err != nil {
			return nil, fmt.Errorf("conntrack: read a flow: %w", err)
		}
		f := flow{family: family}
		for ad.Next() {
			switch ad.Type() {
			case ctaTupleOrig:
				_, f.to = endpoints(ad.Bytes())
				f.name = append(f.name, netfilter.Attribute{Type: ctaTupleOrig | unix.NLA_F_NESTED, Data: ad.Bytes()})
			case ctaTupleReply:
				f.from, _ = endpoints(ad.Bytes())
			case ctaID, ctaZone:
				f.name = append(f.name, netfilter.Attribute{Type: ad.Type(), Data: ad.Bytes()})
			}
		}
		if err := ad.Err(); err != nil {
			return nil, fmt.Errorf("conntrack: read a flow: %w", err)
		}
		out = append(out, f)
	}
	return out, nil
}

// endpoints reads a tuple's source and destination.
func endpoints(b []byte) (source, destination netip.AddrPort) {
	var addr [2]netip.Addr
	var port [2]uint16
	nested(b, func(kind uint16, v []byte) {
		switch kind {
		case tupleIP:
			nested(v, func(kind uint16, v []byte) {
				a, _ := netip.AddrFromSlice(v)
				switch kind {
				case ipSource4, ipSource6:
					addr[0] = a
				case ipDestination4, ipDestination6:
					addr[1] = a
				}
			})
		case tupleProto:
			nested(v, func(kind uint16, v []byte) {
				if kind == protoSource || kind == protoDest {
					port[kind-protoSource] = binary.BigEndian.Uint16(v)
				}
			})
		}
	})
	return netip.AddrPortFrom(addr[0], port[0]), netip.AddrPortFrom(addr[1], port[1])
}

func nested(b []byte, each func(kind uint16, v []byte)) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return
	}
	for ad.Next() {
		each(ad.Type(), ad.Bytes())
	}
}

// delete makes the kernel forget one flow. It is named with its id, so that a new flow between the same ports stays.
func (t *Table) delete(f flow) error {
	_, err := t.query(f.family, msgDelete, netlink.Request|netlink.Acknowledge, f.name)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("conntrack: delete the flow to %s: %w", f.to, err)
	}
	return nil
}

func (t *Table) query(family netfilter.ProtoFamily, kind netfilter.MessageType, flags netlink.HeaderFlags, a []netfilter.Attribute) ([]netlink.Message, error) {
	m, err := netfilter.MarshalNetlink(netfilter.Header{
		SubsystemID: netfilter.NFSubsysCTNetlink, MessageType: kind, Family: family, Flags: flags,
	}, a)
	if err != nil {
		return nil, err
	}
	return t.conn.Query(m)
}
