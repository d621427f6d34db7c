package story

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace with loopback and nothing else. It has no name: the kernel takes it away with the last
// process and the last open file that hold it, so that even a killed story leaves none behind.
type namespace struct{ file *os.File }

func newNamespace() (*namespace, error) {
	n := &namespace{}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		var err error
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, err
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(n.file.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err == nil {
		err = h.LinkSetUp(lo)
	}
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("set lo up: %w", err)
	}
	return n, nil
}

// Close lets go of the namespace.
func (n *namespace) Close() { _ = n.file.Close() }

// Path names the namespace for nsenter, for as long as this process keeps it.
func (n *namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// do runs f inside. Sockets that f itself opens and processes that it starts belong to the namespace; goroutines that it starts do not.
func (n *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread that may change its network namespace, and puts it back where it was. If it can't, the thread is
// not used again: it stays locked to its goroutine and ends with it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		err = f()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// DialContext connects from inside. The address must be numeric: net opens the socket on the calling goroutine then, and asks no resolver.
func (n *namespace) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// start starts a command inside.
func (n *namespace) start(cmd *exec.Cmd) error { return n.do(cmd.Start) }

// output runs a command inside and gives what it wrote to standard output.
func (n *namespace) output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out []byte
	err := n.do(func() (err error) {
		out, err = cmd.Output()
		return err
	})
	if err != nil {
		return "", commandError(cmd, err)
	}
	return string(out), nil
}
