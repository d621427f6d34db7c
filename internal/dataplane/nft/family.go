package nft

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// family is what differs between the IPv4 table and the IPv6 table.
type family struct {
	proto    byte // NFPROTO_*, also the family of the table
	v6       bool
	addrLen  uint32
	saddr    uint32 // offset in the network header
	daddr    uint32
	ctSource uint32 // ct keys
	ctDest   uint32
	typeAddr uint32 // the nft command's number for the type
	unreach  uint8  // ICMP code of "port unreachable"
	loopback netip.Addr
}

var (
	ipv4 = &family{
		proto: unix.NFPROTO_IPV4, addrLen: 4, saddr: 12, daddr: 16, ctSource: unix.NFT_CT_SRC_IP, ctDest: unix.NFT_CT_DST_IP,
		typeAddr: typeIPAddr, unreach: 3, loopback: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
	}
	ipv6 = &family{
		proto: unix.NFPROTO_IPV6, v6: true, addrLen: 16, saddr: 8, daddr: 24, ctSource: unix.NFT_CT_SRC_IP6, ctDest: unix.NFT_CT_DST_IP6,
		typeAddr: typeIP6Addr, unreach: 4, loopback: netip.IPv6Loopback(),
	}
	families = []*family{ipv4, ipv6}
)

func familyOf(a netip.Addr) *family {
	if a.Is6() {
		return ipv6
	}
	return ipv4
}

// words is the number of registers that an address takes.
func (f *family) words() reg { return reg(f.addrLen / 4) }

// The nft command's numbers of data types (its include/datatype.h); the kernel keeps them for it.
const (
	typeVerdict     = uint32(0xffffff00) // the kernel's own NFT_DATA_VERDICT
	typeIPAddr      = 7
	typeIP6Addr     = 8
	typeInetProto   = 12
	typeInetService = 13
	typeMark        = 19
)

// setID names one of the sets and maps of a table.
type setID uint8

const (
	services      setID = iota // frontend → class (see class)
	slots                      // frontend . slot → backend
	clusterIPs                 // addresses that belong to a Service whole
	hairpins                   // Pod . the same Pod
	sources                    // frontend . source range that may come in
	sticky                     // frontend with affinity → number of the Service port that shares it
	draws                      // frontend with affinity . slot → number of a backend
	live                       // frontend with affinity . number → backend
	liveOutside                // the same for outside clients
	inPicks                    // class → what to do with clients in the network
	nodePicks                  // class → what to do with clients on the node itself
	masquerades                // class → whom to masquerade
	affinity                   // dynamic: client . number of the Service port → number of the backend
	secondChances              // dynamic: flows whose first refusal was kept from the client
	setCount
)

// setSpec says what a set is made of.
type setSpec struct {
	name    string
	key     func(*family) []uint32 // data types
	value   func(*family) []uint32 // nil for a set
	dynamic bool
	ranges  bool // the last field of the key is a range
}

func frontend(f *family) []uint32 { return []uint32{f.typeAddr, typeInetProto, typeInetService} }
func backend(f *family) []uint32  { return []uint32{f.typeAddr, typeInetService} }
func oneAddr(f *family) []uint32  { return []uint32{f.typeAddr} }
func number(*family) []uint32     { return []uint32{typeMark} } // shown like a mark, in hexadecimal
func toChain(*family) []uint32    { return []uint32{typeVerdict} }

func both(a, b func(*family) []uint32) func(*family) []uint32 {
	return func(f *family) []uint32 { return append(a(f), b(f)...) }
}

var setSpecs = [setCount]setSpec{
	services:      {name: "services", key: frontend, value: number},
	slots:         {name: "slots", key: both(frontend, number), value: backend},
	clusterIPs:    {name: "cluster-ips", key: oneAddr},
	hairpins:      {name: "hairpins", key: both(oneAddr, oneAddr)},
	sources:       {name: "sources", key: both(frontend, oneAddr), ranges: true},
	sticky:        {name: "sticky", key: frontend, value: number},
	draws:         {name: "draws", key: both(frontend, number), value: number},
	live:          {name: "live", key: both(frontend, number), value: backend},
	liveOutside:   {name: "live-outside", key: both(frontend, number), value: backend},
	inPicks:       {name: "picks", key: number, value: toChain},
	nodePicks:     {name: "node-picks", key: number, value: toChain},
	masquerades:   {name: "masquerades", key: number, value: toChain},
	affinity:      {name: "affinity", key: both(oneAddr, number), value: number, dynamic: true},
	secondChances: {name: "second-chances", key: both(backend, backend), dynamic: true},
}

// outsideSlots is the first slot of the backends for outside clients, where they differ from those for the others.
const outsideSlots = 1 << 16

// typeSize is the length of a value in bytes; in a concatenation each is padded to a multiple of 4.
func typeSize(t uint32) uint32 {
	switch t {
	case typeIPAddr, typeMark:
		return 4
	case typeIP6Addr:
		return 16
	case typeInetProto:
		return 1
	case typeInetService:
		return 2
	}
	return 0
}

// Keys and values, as the kernel compares them: every field padded to a multiple of 4 bytes.

func appendKey(b []byte, k plan.Key) []byte {
	b = append(b, k.Addr.AsSlice()...)
	b = append(b, byte(k.Protocol), 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, k.Port)
	return append(b, 0, 0)
}

func appendBackend(b []byte, a netip.AddrPort) []byte {
	b = append(b, a.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, a.Port())
	return append(b, 0, 0)
}

// numberedKey is a frontend with a number: of a slot, or of a backend.
func numberedKey(k plan.Key, n uint32) []byte {
	return binary.NativeEndian.AppendUint32(appendKey(make([]byte, 0, 28), k), n)
}

// readKey reads what appendKey wrote and gives the rest. b must be long enough.
func (f *family) readKey(b []byte) (plan.Key, []byte) {
	a, _ := netip.AddrFromSlice(b[:f.addrLen])
	b = b[f.addrLen:]
	return plan.Key{Addr: a, Protocol: model.Protocol(b[0]), Port: binary.BigEndian.Uint16(b[4:])}, b[8:]
}

// readNumberedKey reads what numberedKey wrote.
func (f *family) readNumberedKey(b []byte) (plan.Key, uint32) {
	k, rest := f.readKey(b)
	return k, binary.NativeEndian.Uint32(rest)
}

func (f *family) readBackend(b []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(b[:f.addrLen])
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[f.addrLen:]))
}
