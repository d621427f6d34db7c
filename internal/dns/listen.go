package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// receiveBuffer is how many bytes of packets the kernel may hold for each socket, so that a burst is not lost.
const receiveBuffer = 4 << 20

// listen opens one TCP and, for each processor, one UDP socket at an address.
func listen(a netip.AddrPort) (*socket, error) {
	if !a.IsValid() {
		return nil, fmt.Errorf("dns: listen on %v: no valid address", a)
	}
	for attempt := 0; ; attempt++ {
		k, err := listenOnce(a)
		// A port that is free for UDP may be taken for TCP: with port 0, another one is tried.
		if err == nil || a.Port() != 0 || attempt == 10 {
			return k, err
		}
	}
}

func listenOnce(a netip.AddrPort) (_ *socket, err error) {
	k := &socket{addr: a}
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	// Sockets that share a port do not notice a stranger that shares it too. So the port is first taken alone.
	alone, err := listenUDP(a, false)
	if err != nil {
		return k, bindError("UDP", a, err)
	}
	k.addr = netip.AddrPortFrom(a.Addr(), alone.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	alone.Close()
	for range runtime.GOMAXPROCS(0) {
		c, err := listenUDP(k.addr, true)
		if err != nil {
			return k, bindError("UDP", k.addr, err)
		}
		k.udp = append(k.udp, c)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), network("tcp", a), k.addr.String())
	if err != nil {
		return k, bindError("TCP", k.addr, err)
	}
	k.tcp = l.(*net.TCPListener)
	return k, nil
}

// network pins the family, except for [::], which serves both.
func network(base string, a netip.AddrPort) string {
	switch {
	case a.Addr().Is4():
		return base + "4"
	case a.Addr() == netip.IPv6Unspecified():
		return base
	}
	return base + "6"
}

func listenUDP(a netip.AddrPort, shared bool) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		if e := rc.Control(func(fd uintptr) { err = prepare(int(fd), a, shared) }); e != nil {
			return e
		}
		return err
	}}
	c, err := lc.ListenPacket(context.Background(), network("udp", a), a.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

func prepare(fd int, a netip.AddrPort, shared bool) error {
	if !shared {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("share port: %w", err)
	}
	// Beyond the system's limit only with CAP_NET_ADMIN; without it the limit has to do.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if !a.Addr().IsUnspecified() {
		return nil
	}
	// The reply must leave from the address that was asked.
	if a.Addr().Is4() {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
}
