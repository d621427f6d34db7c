package service

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	api "k8s.io/kubernetes/pkg/apis/core"
)

// addressRange is a pool of cluster IPs: those of one prefix.
type addressRange struct {
	prefix netip.Prefix
	// ready says that addresses may be taken from it.
	ready bool
	pool
}

// newAddressRange makes the pool of a prefix. The network's own address and the IPv4 broadcast address are not in it, so that it may be
// empty.
func newAddressRange(prefix netip.Prefix) (*addressRange, error) {
	prefix = prefix.Masked()
	hostBits := prefix.Addr().BitLen() - prefix.Bits()
	if !prefix.IsValid() || hostBits > 64 {
		return nil, fmt.Errorf("service CIDR %s: the prefix must have at most 64 host bits", prefix)
	}
	all := uint64(math.MaxUint64) // for the static band, one more or less makes no difference here
	if hostBits < 64 {
		all = 1 << hostBits
	}
	size := uint64(1)<<hostBits - 1 // 1<<64 wraps to 0, and 0-1 to 2^64-1, as it should
	if prefix.Addr().Is4() && size > 0 {
		size--
	}
	return &addressRange{prefix: prefix, pool: pool{size: size, band: min(size, staticBand(all, 16, 256))}}, nil
}

// family is the IP family of the range.
func (r *addressRange) family() api.IPFamily { return familyOf(r.prefix.Addr()) }

// number is the place of an address in the pool, which begins after the network's own address. ok is false for an address that
// no Service can have from here.
func (r *addressRange) number(addr netip.Addr) (n uint64, ok bool) {
	if !r.prefix.Contains(addr) {
		return 0, false
	}
	n = low64(addr) - low64(r.prefix.Addr()) - 1 // the network's own address wraps around
	return n, n < r.size
}

// address is the inverse of number.
func (r *addressRange) address(n uint64) netip.Addr {
	n += low64(r.prefix.Addr()) + 1
	if r.prefix.Addr().Is4() {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(n))
		return netip.AddrFrom4(b)
	}
	b := r.prefix.Addr().As16()
	binary.BigEndian.PutUint64(b[8:], n)
	return netip.AddrFrom16(b)
}

func low64(addr netip.Addr) uint64 {
	if addr.Is4() {
		b := addr.As4()
		return uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := addr.As16()
	return binary.BigEndian.Uint64(b[8:])
}

// portRange is the pool of node ports. A port is given out once for all protocols.
type portRange struct {
	utilnet.PortRange
	pool
}

func newPortRange(r utilnet.PortRange) (*portRange, error) {
	if r.Base < 1 || r.Size < 1 || r.Base+r.Size > 1<<16 {
		return nil, fmt.Errorf("node port range %s: it must lie between 1 and 65535", r.String())
	}
	size := uint64(r.Size)
	return &portRange{r, pool{size: size, band: staticBand(size, 32, 128)}}, nil
}

// number is the place of a port in the pool. ok is false for a port that is not in the range.
func (r *portRange) number(port int32) (n uint64, ok bool) {
	if !r.Contains(int(port)) {
		return 0, false
	}
	return uint64(int(port) - r.Base), true
}

func (r *portRange) port(n uint64) int32 { return int32(r.Base + int(n)) }
