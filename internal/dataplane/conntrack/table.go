package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"github.com/ti-mo/netfilter"
	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/model"
)

// Table is the kernel's connection table of one network namespace. It belongs to one goroutine.
type Table struct {
	conn  *netfilter.Conn
	eyes  *netlink.Conn // for questions about one flow
	walks int           // how often the kernel was asked for a list
}

// Open opens the table of the network namespace of the calling thread. Close it when done.
func Open() (*Table, error) {
	c, err := netfilter.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("conntrack: open: %w", err)
	}
	eyes, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("conntrack: open: %w", err)
	}
	return &Table{conn: c, eyes: eyes}, nil
}

// Close closes the table.
func (t *Table) Close() error { return errors.Join(t.conn.Close(), t.eyes.Close()) }

// few is up to how many ports are asked for one by one. The kernel walks its whole table each time, but it tells of the flows
// to that port only; for more ports one walk that tells of all UDP flows is cheaper.
const few = 8

// ask is what the kernel is asked for: flows of one family and protocol, to one port or, if that is 0, to any.
type ask struct {
	family   netfilter.ProtoFamily
	protocol model.Protocol
	port     uint16
}

// asks gives what to ask for so that every flow that may be stale is told of. Of TCP the kernel tells only what has not been answered, of which
// there is little, so one walk does for all ports.
func asks(s Serving) []ask {
	udp, whole := map[ask]struct{}{}, map[ask]struct{}{}
	for k := range s {
		a := ask{netfilter.ProtoIPv4, k.Protocol, k.Port}
		if k.Addr.Is6() {
			a.family = netfilter.ProtoIPv6
		}
		any := a
		any.port = 0
		whole[any] = struct{}{}
		if k.Protocol == model.UDP && len(udp) <= few {
			udp[a] = struct{}{}
		}
	}
	if n := len(udp); n > 0 && n <= few {
		maps.DeleteFunc(whole, func(a ask, _ struct{}) bool { return a.protocol == model.UDP })
		maps.Copy(whole, udp)
	}
	return slices.Collect(maps.Keys(whole))
}

// Sweep deletes all stale flows and gives their number. The kernel selects the flows, since 5.8: a node may have a million
// connections and three that matter.
func (t *Table) Sweep(s Serving) (deleted int, err error) { return t.sweep(asks(s), s.Stale) }

func (t *Table) sweep(questions []ask, stale func(Flow) bool) (deleted int, err error) {
	for _, a := range questions {
		flows, err := t.flows(a)
		if err != nil {
			return deleted, err
		}
		for _, f := range flows {
			if !stale(f.Flow) {
				continue
			}
			gone, err := t.delete(stale, f)
			if err != nil {
				return deleted, err
			}
			if gone {
				deleted++
			}
		}
	}
	return deleted, nil
}

// flow is a Flow with what the kernel calls it.
type flow struct {
	Flow
	family netfilter.ProtoFamily
	// name are the attributes that name it to the kernel.
	name []netfilter.Attribute
}

// Attributes and messages of linux/netfilter/nfnetlink_conntrack.h.
const (
	msgGet, msgDelete                   = 1, 2
	ctaTupleOrig, ctaTupleReply         = 1, 2
	ctaStatus, ctaProtoInfo, ctaID      = 3, 4, 12
	ctaZone, ctaFilter, ctaFilterOrig   = 18, 25, 1
	ctaStatusMask                       = 26
	tupleIP, tupleProto                 = 1, 2
	ipDestination4, ipDestination6      = 2, 4
	ipSource4, ipSource6                = 1, 3
	protoNumber, protoSource, protoDest = 1, 2, 3
	protoInfoTCP, protoInfoTCPState     = 1, 1

	filterProtocol, filterDestPort = 1 << 3, 1 << 5

	statusSeenReply = 1 << 1 // IPS_SEEN_REPLY
	tcpSynSent      = 1      // TCP_CONNTRACK_SYN_SENT
)

// flows gives the flows that were asked for; it may give others of the family, too.
func (t *Table) flows(a ask) ([]flow, error) {
	flags := uint32(filterProtocol)
	proto := []netfilter.Attribute{{Type: protoNumber, Data: []byte{byte(a.protocol)}}}
	if a.port != 0 {
		// Not by address: for IPv6 the kernel (6.18) then gives the flows to all addresses but the one asked for.
		flags |= filterDestPort
		proto = append(proto, netfilter.Attribute{Type: protoDest, Data: binary.BigEndian.AppendUint16(nil, a.port)})
	}
	query := []netfilter.Attribute{
		{Type: ctaTupleOrig, Nested: true, Children: []netfilter.Attribute{{Type: tupleProto, Nested: true, Children: proto}}},
		{Type: ctaFilter, Nested: true, Children: []netfilter.Attribute{
			{Type: ctaFilterOrig, Data: binary.NativeEndian.AppendUint32(nil, flags)},
		}},
	}
	if a.protocol == model.TCP {
		// What nothing has answered. Kernels before 5.18 do not know this filter and give all, which Stale tells apart.
		query = append(query,
			netfilter.Attribute{Type: ctaStatus, Data: binary.BigEndian.AppendUint32(nil, 0)},
			netfilter.Attribute{Type: ctaStatusMask, Data: binary.BigEndian.AppendUint32(nil, statusSeenReply)})
	}
	t.walks++
	answers, err := t.query(a.family, msgGet, netlink.Request|netlink.Dump, query)
	if err != nil {
		return nil, fmt.Errorf("conntrack: list %s flows: %w", a.protocol, err)
	}
	out := make([]flow, 0, len(answers))
	for _, m := range answers {
		f, err := readFlow(a.family, m)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func readFlow(family netfilter.ProtoFamily, m netlink.Message) (flow, error) {
	f := flow{family: family}
	_, ad, err := netfilter.DecodeNetlink(m)
	if err != nil {
		return f, fmt.Errorf("conntrack: read a flow: %w", err)
	}
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleOrig:
			f.Protocol, _, f.To = tuple(ad.Bytes())
			f.name = append(f.name, netfilter.Attribute{Type: ctaTupleOrig | unix.NLA_F_NESTED, Data: ad.Bytes()})
		case ctaTupleReply:
			_, f.From, _ = tuple(ad.Bytes())
		case ctaProtoInfo:
			f.HalfOpen = synSent(ad.Bytes())
		case ctaID, ctaZone:
			f.name = append(f.name, netfilter.Attribute{Type: ad.Type(), Data: ad.Bytes()})
		}
	}
	if err := ad.Err(); err != nil {
		return f, fmt.Errorf("conntrack: read a flow: %w", err)
	}
	return f, nil
}

// synSent tells whether a flow's protocol information is that of TCP whose SYN nobody has answered.
func synSent(b []byte) (is bool) {
	nested(b, func(kind uint16, v []byte) {
		if kind != protoInfoTCP {
			return
		}
		nested(v, func(kind uint16, v []byte) {
			if kind == protoInfoTCPState && len(v) == 1 {
				is = v[0] == tcpSynSent
			}
		})
	})
	return is
}

// tuple reads a tuple's protocol, source and destination.
func tuple(b []byte) (protocol model.Protocol, source, destination netip.AddrPort) {
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
				switch {
				case kind == protoNumber && len(v) == 1:
					protocol = model.Protocol(v[0])
				case (kind == protoSource || kind == protoDest) && len(v) == 2:
					port[kind-protoSource] = binary.BigEndian.Uint16(v)
				}
			})
		}
	})
	return protocol, netip.AddrPortFrom(addr[0], port[0]), netip.AddrPortFrom(addr[1], port[1])
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

// delete makes the kernel forget one flow, and is false if that had ended. It is named with its id, so that a new flow between the same ports
// stays. TCP is looked at once more just before: what has been answered since the walk lives.
func (t *Table) delete(stale func(Flow) bool, f flow) (bool, error) {
	if f.Protocol == model.TCP {
		now, err := t.again(f)
		if errors.Is(err, unix.ENOENT) || err == nil && !stale(now.Flow) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("conntrack: look up the flow to %s: %w", f.To, err)
		}
	}
	_, err := t.query(f.family, msgDelete, netlink.Request|netlink.Acknowledge, f.name)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("conntrack: delete the flow to %s: %w", f.To, err)
	}
	return true, nil
}

// again reads one flow anew. The kernel marks its only answer as the first of many, for which the library would wait; so it is read from
// the socket, where it is as soon as the question has been sent.
func (t *Table) again(f flow) (flow, error) {
	m, err := netfilter.MarshalNetlink(netfilter.Header{
		SubsystemID: netfilter.NFSubsysCTNetlink, MessageType: msgGet, Family: f.family, Flags: netlink.Request,
	}, f.name)
	if err != nil {
		return flow{}, err
	}
	if _, err := t.eyes.Send(m); err != nil {
		return flow{}, err
	}
	raw, err := t.eyes.SyscallConn()
	if err != nil {
		return flow{}, err
	}
	b, n, failed := make([]byte, 1<<13), 0, error(nil)
	if err := raw.Read(func(fd uintptr) bool {
		n, _, failed = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
		return true
	}); err != nil {
		return flow{}, err
	}
	if failed != nil {
		return flow{}, failed
	}
	if m = (netlink.Message{}); n < unix.SizeofNlMsghdr {
		return flow{}, unix.EBADMSG
	}
	if err := m.UnmarshalBinary(b[:n]); err != nil {
		return flow{}, err
	}
	if m.Header.Type == netlink.Error && len(m.Data) >= 4 {
		return flow{}, unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
	}
	return readFlow(f.family, m)
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
