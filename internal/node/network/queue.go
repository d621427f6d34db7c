package network

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// queuePoll is how often a Pod's queues are looked at.
const queuePoll = 5 * time.Millisecond

// The states of TCP sockets in question (linux/tcp_states.h).
const (
	tcpSynReceived = 3
	tcpListen      = 10
)

// AwaitAccepted waits until programs in the Pod have accepted every TCP connection that has come: none is in its handshake, none stands in the queue of a
// listening socket. The kernel answers clients for a program that is slow to accept; if that one closes its listener, the kernel resets those who
// stand in the queue. It returns early, with an error, when ctx ends or the Pod's network cannot be looked at.
func AwaitAccepted(ctx context.Context, s Sandbox) error {
	ns, err := netns.GetFromPath(s.Path)
	if err != nil {
		return fmt.Errorf("pod network %s: open: %w", s.Path, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_INET_DIAG)
	if err != nil {
		return fmt.Errorf("pod network %s: look at sockets: %w", s.Path, err)
	}
	defer h.Close()
	tick := time.NewTicker(queuePoll)
	defer tick.Stop()
	for {
		n, err := waiting(h)
		if err != nil {
			return fmt.Errorf("pod network %s: look at sockets: %w", s.Path, err)
		}
		if n == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pod network %s: %d connections are not accepted: %w", s.Path, n, ctx.Err())
		case <-tick.C:
		}
	}
}

// waiting counts the connections that no program has accepted.
func waiting(h *netlink.Handle) (n uint32, err error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := h.SocketDiagTCP(family)
		if err != nil {
			return 0, err
		}
		for _, s := range sockets {
			switch s.State {
			case tcpListen:
				n += s.RQueue // of a listening socket: established, and not accepted
			case tcpSynReceived:
				n++
			}
		}
	}
	return n, nil
}
