package dns

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many packets one system call reads or writes at most.
	batchSize = 32
	// maxQuery is how long a query over UDP may be; longer ones are dropped.
	maxQuery = 2048
	// maxUDP is the longest reply over UDP, whatever the client says it takes.
	maxUDP = 4096

	controlSize = 64
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// packets is a batch of packets and their replies. All of it is allocated once; the kernel reads and writes it in place.
type packets struct {
	in, out          [batchSize]mmsghdr
	inVec, outVec    [batchSize]unix.Iovec
	names            [batchSize]unix.RawSockaddrInet6 // room for both families
	control          [batchSize][controlSize]byte
	queries          [batchSize][maxQuery]byte
	replies          [batchSize][maxUDP]byte
	received, queued int
	wantControl      bool
}

// newPackets points every message of the batch at its buffers.
func newPackets(wantControl bool) *packets {
	p := &packets{wantControl: wantControl, received: batchSize}
	for i := range p.in {
		h := &p.in[i].hdr
		p.inVec[i].Base = &p.queries[i][0]
		p.inVec[i].SetLen(maxQuery)
		h.Iov, h.Name = &p.inVec[i], (*byte)(unsafe.Pointer(&p.names[i]))
		h.SetIovlen(1)
		if wantControl {
			h.Control = &p.control[i][0]
		}
	}
	return p
}

// receive reads as many packets as there are, without waiting.
func (p *packets) receive(fd uintptr) (int, unix.Errno) {
	for i := range p.received { // the kernel wrote over these the last time
		h := &p.in[i].hdr
		h.Namelen, h.Flags = unix.SizeofSockaddrInet6, 0
		if p.wantControl {
			h.SetControllen(controlSize)
		}
	}
	p.received = 0
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&p.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	p.received = int(n)
	return p.received, 0
}

// query gives packet i, or nil if it was cut.
func (p *packets) query(i int) []byte {
	if p.in[i].hdr.Flags&unix.MSG_TRUNC != 0 {
		return nil
	}
	return p.queries[i][:p.in[i].n]
}

// queue notes the reply to packet i, which lies in replies[i] unless it did not fit.
func (p *packets) queue(i int, reply []byte) {
	o := &p.out[p.queued].hdr
	v := &p.outVec[p.queued]
	v.Base = &reply[0]
	v.SetLen(len(reply))
	in := &p.in[i].hdr
	o.Name, o.Namelen, o.Iov = in.Name, in.Namelen, v
	o.SetIovlen(1)
	o.Control = nil
	o.SetControllen(0)
	if p.wantControl {
		if c := p.source(i); len(c) > 0 {
			o.Control = &c[0]
			o.SetControllen(len(c))
		}
	}
	p.queued++
}

// send writes queued replies from number first on and tells how many it has written.
func (p *packets) send(fd uintptr, first int) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&p.out[first])), uintptr(p.queued-first), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// source turns the control data of packet i, which says where it came in, into that of the reply: the same address, and the
// interface left to the routing table unless the address is of a link.
func (p *packets) source(i int) []byte {
	c := p.control[i][:min(int(p.in[i].hdr.Controllen), controlSize)]
	if len(c) < unix.SizeofCmsghdr {
		return nil
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&c[0]))
	data := c[unix.SizeofCmsghdr:]
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		binary.NativeEndian.PutUint32(data, 0)
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		if a := netip.AddrFrom16([16]byte(data)); !a.IsLinkLocalUnicast() {
			binary.NativeEndian.PutUint32(data[16:], 0)
		}
	default:
		return nil
	}
	return c
}

// client gives who sent packet i.
func (p *packets) client(i int) netip.AddrPort {
	n := &p.names[i]
	if n.Family == unix.AF_INET {
		n4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		return netip.AddrPortFrom(netip.AddrFrom4(n4.Addr), ntohs(n4.Port))
	}
	a := netip.AddrFrom16(n.Addr)
	if n.Scope_id != 0 {
		a = a.WithZone(strconv.Itoa(int(n.Scope_id)))
	}
	return netip.AddrPortFrom(a, ntohs(n.Port))
}

// ntohs reads a port that the kernel wrote in network order.
func ntohs(p uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], p)
	return binary.BigEndian.Uint16(b[:])
}
