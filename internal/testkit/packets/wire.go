package packets

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"

	"fairway.dev/fairway/internal/model"
)

// build gives an IP packet that opens a flow and carries a number: a TCP SYN has it as its sequence number, an SCTP INIT as its tag, UDP and
// an echo request in their data. All of them come back in the answers that refuse it.
func build(protocol model.Protocol, from, to netip.AddrPort, number uint32) []byte {
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from.Port()), to.Port())
	var b []byte
	sum := -1 // where the internet checksum goes
	switch protocol {
	case model.TCP:
		b = binary.BigEndian.AppendUint32(ports, number)
		b = append(b, 0, 0, 0, 0, 5<<4, flagSyn, 4, 0, 0, 0, 0, 0)
		sum = 16
	case model.UDP:
		b = append(ports, 0, 12, 0, 0)
		b = binary.BigEndian.AppendUint32(b, number)
		sum = 6
	case model.SCTP:
		b = append(ports, 0, 0, 0, 0, 0, 0, 0, 0)
		b = append(b, sctpInit, 0, 0, 20)
		b = binary.BigEndian.AppendUint32(b, number)
		b = append(b, 0, 1, 0, 0, 0, 1, 0, 1)
		b = binary.BigEndian.AppendUint32(b, number)
		binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, castagnoli))
	case ICMP, ICMPv6:
		kind := byte(echoRequest)
		if protocol == ICMPv6 {
			kind = echoRequest6
		}
		b = []byte{kind, 0, 0, 0, byte(from.Port() >> 8), byte(from.Port()), 0, 1}
		b = binary.BigEndian.AppendUint32(b, number)
		sum = 2
	}
	source, dest := from.Addr().AsSlice(), to.Addr().AsSlice()
	if sum >= 0 {
		var pseudo uint32
		if protocol != ICMP {
			pseudo = sum16(source) + sum16(dest) + uint32(protocol) + uint32(len(b))
		}
		binary.BigEndian.PutUint16(b[sum:], fold(pseudo+sum16(b)))
	}
	if from.Addr().Is6() {
		h := []byte{6 << 4, 0, 0, 0, 0, byte(len(b)), byte(protocol), 64}
		return append(append(append(h, source...), dest...), b...)
	}
	h := []byte{4<<4 | 5, 0, 0, byte(20 + len(b)), 0, 0, 0x40, 0, 64, byte(protocol), 0, 0}
	h = append(append(h, source...), dest...)
	binary.BigEndian.PutUint16(h[10:], fold(sum16(h)))
	return append(h, b...)
}

// Numbers of the protocols' own.
const (
	flagSyn, flagRst, flagAck     = 0x02, 0x04, 0x10
	sctpInit                      = 1
	echoRequest, unreachable      = 8, 3
	echoRequest6, unreachable6    = 128, 1
	parameterProblem6             = 4 // what the kernel says of a protocol that it does not have
	headerLen, header6Len, icmpAt = 20, 40, 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum16(b []byte) (sum uint32) {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) > 0 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// sighting is what a packet that arrived somewhere says.
type sighting struct {
	number   uint32
	refusal  bool // it answers the packet of that number: TCP RST, or ICMP destination unreachable
	from, to netip.AddrPort
}

// parse reads a packet that build has made, or an answer to one; ok is false for all else.
func parse(b []byte) (s sighting, ok bool) {
	if len(b) < headerLen {
		return s, false
	}
	var from, to netip.Addr
	var protocol model.Protocol
	switch b[0] >> 4 {
	case 4:
		n := int(b[0]&15) * 4
		from, _ = netip.AddrFromSlice(b[12:16])
		to, _ = netip.AddrFromSlice(b[16:20])
		protocol, b = model.Protocol(b[9]), b[min(n, len(b)):]
	case 6:
		if len(b) < header6Len {
			return s, false
		}
		from, _ = netip.AddrFromSlice(b[8:24])
		to, _ = netip.AddrFromSlice(b[24:40])
		protocol, b = model.Protocol(b[6]), b[header6Len:]
	}
	if len(b) < 8 {
		return s, false
	}
	number := func(at int) bool {
		if len(b) < at+4 {
			return false
		}
		s.number = binary.BigEndian.Uint32(b[at:])
		return true
	}
	s.from = netip.AddrPortFrom(from, binary.BigEndian.Uint16(b))
	s.to = netip.AddrPortFrom(to, binary.BigEndian.Uint16(b[2:]))
	switch {
	case protocol == model.TCP && len(b) > 13 && b[13]&flagRst != 0:
		ok = number(8)
		s.number, s.refusal = s.number-1, true
		return s, ok
	case protocol == model.TCP && (len(b) <= 13 || b[13]&(flagSyn|flagAck) == flagSyn):
		return s, number(4)
	case protocol == model.UDP:
		return s, number(8)
	case protocol == model.SCTP && len(b) > 12 && b[12] == sctpInit:
		return s, number(16)
	case protocol == ICMP && b[0] == echoRequest, protocol == ICMPv6 && b[0] == echoRequest6:
		s.from, s.to = netip.AddrPortFrom(from, binary.BigEndian.Uint16(b[4:])), netip.AddrPortFrom(to, 0)
		return s, number(8)
	case protocol == ICMP && b[0] == unreachable, protocol == ICMPv6 && (b[0] == unreachable6 || b[0] == parameterProblem6):
		s, ok = parse(b[icmpAt:])
		s.refusal = true
		return s, ok
	}
	return s, false
}
