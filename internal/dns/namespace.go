package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is the network namespace that New was called in. Questions to upstreams are dialled on whatever thread runs, which is in
// that namespace already unless somebody has put a thread of this process elsewhere.
type namespace struct {
	file *os.File
	id   namespaceID
}

type namespaceID struct{ dev, ino uint64 }

const threadNamespace = "/proc/thread-self/ns/net"

// currentNamespace opens the calling thread's.
func currentNamespace() (*namespace, error) {
	f, err := os.Open(threadNamespace)
	if err != nil {
		return nil, fmt.Errorf("dns: open own network namespace: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, fmt.Errorf("dns: stat own network namespace: %w", err)
	}
	return &namespace{f, namespaceID{uint64(st.Dev), st.Ino}}, nil
}

// do runs f on a thread that is in the namespace.
func (n *namespace) do(f func() error) error {
	runtime.LockOSThread()
	var st unix.Stat_t
	if err := unix.Stat(threadNamespace, &st); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("dns: stat network namespace: %w", err)
	}
	if (namespaceID{uint64(st.Dev), st.Ino}) == n.id {
		defer runtime.UnlockOSThread()
		return f()
	}
	home, err := os.Open(threadNamespace)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("dns: open network namespace: %w", err)
	}
	defer home.Close()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("dns: enter network namespace: %w", err)
	}
	defer func() {
		// A thread that cannot go home stays locked, and ends with its goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// dial connects a socket in the namespace.
func (n *namespace) dial(ctx context.Context, network string, to netip.AddrPort) (c net.Conn, err error) {
	err = n.do(func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, to.String())
		return err
	})
	return c, err
}

// local lists the addresses of the namespace's interfaces.
func (n *namespace) local() (out []netip.Addr, err error) {
	err = n.do(func() error {
		addrs, err := net.InterfaceAddrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, p.Addr().Unmap())
			}
		}
		return err
	})
	return out, err
}
