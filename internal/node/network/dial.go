package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// DialLoopback connects to a TCP port on loopback inside a network namespace: on the IPv4 address, or else on the IPv6 one. An empty
// path is this process's own namespace.
func DialLoopback(ctx context.Context, namespace string, port uint16) (*net.TCPConn, error) {
	var err error
	for _, loopback := range []string{"127.0.0.1", "::1"} {
		target := netip.AddrPortFrom(netip.MustParseAddr(loopback), port)
		var conn *net.TCPConn
		if conn, err = dialIn(ctx, namespace, target); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// dialIn dials from a thread that is in the namespace. A socket stays in the namespace that it was made in.
func dialIn(ctx context.Context, namespace string, target netip.AddrPort) (*net.TCPConn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		if namespace != "" {
			// Never unlocked: the thread ends with this goroutine, and with it the namespace that it is in.
			runtime.LockOSThread()
			if err := enter(namespace); err != nil {
				done <- result{nil, err}
				return
			}
		}
		// With one literal address the dialer makes its socket in this goroutine.
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", target.String())
		done <- result{conn, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, r.err
	}
	return r.conn.(*net.TCPConn), nil
}

func enter(namespace string) error {
	file, err := os.Open(namespace)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace %s: enter: %w", namespace, err)
	}
	return nil
}
