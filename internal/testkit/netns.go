package testkit

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NetNS is a network namespace that lives as long as the test.
type NetNS struct {
	t  testing.TB
	fd *os.File
	h  *netlink.Handle
}

// NewNetNS makes a network namespace with the loopback device up, no other link and no default route. It needs root and
// skips the test without it.
func NewNetNS(t testing.TB) *NetNS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("testkit: making a network namespace needs root")
	}
	n := &NetNS{t: t}
	var err error
	if n.fd, err = newNamespace(); err != nil {
		t.Fatalf("testkit: make a network namespace: %v", err)
	}
	t.Cleanup(func() { _ = n.fd.Close() })
	if n.h, err = netlink.NewHandleAt(netns.NsHandle(n.fd.Fd()), unix.NETLINK_ROUTE); err != nil {
		t.Fatalf("testkit: open netlink in the namespace: %v", err)
	}
	t.Cleanup(n.h.Close)
	// Duplicate address detection would keep new IPv6 addresses unusable for a second or more.
	n.Sysctl("net/ipv6/conf/all/accept_dad", "0")
	n.Sysctl("net/ipv6/conf/default/accept_dad", "0")
	n.LinkUp("lo")
	return n
}

// newNamespace makes a namespace and leaves the calling thread where it was.
func newNamespace() (*os.File, error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer func() { _ = home.Close() }()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	fd, openErr := os.Open("/proc/thread-self/ns/net")
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err // the thread stays locked and dies with its goroutine
	}
	runtime.UnlockOSThread()
	return fd, openErr
}

// Path names the namespace for `nsenter --net=`, for as long as the test runs. It is valid for other processes too.
func (n *NetNS) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.fd.Fd()) }

// Do runs f on this goroutine, locked to a thread inside the namespace. Goroutines that f starts run outside.
func (n *NetNS) Do(f func()) {
	n.t.Helper()
	if err := n.inside(f); err != nil {
		n.t.Fatalf("testkit: enter the namespace: %v", err)
	}
}

func (n *NetNS) inside(f func()) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err == nil {
			runtime.UnlockOSThread() // else the thread dies with its goroutine
		}
		_ = home.Close()
	}()
	if err := unix.Setns(int(n.fd.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	f()
	return nil
}

// Command gives a command that will run inside the namespace; start it from anywhere.
func (n *NetNS) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + n.Path(), "--", name}, args...)...)
}

// Run runs a command inside the namespace and gives its output; the test fails if the command does.
func (n *NetNS) Run(name string, args ...string) string {
	n.t.Helper()
	out, err := n.Command(name, args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("testkit: %s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Dial is net.Dialer.DialContext from inside the namespace. addr must be an address, not a name. It is fit for
// http.Transport.DialContext and may be called from any goroutine.
func (n *NetNS) Dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	enter := n.inside(func() { c, err = new(net.Dialer).DialContext(ctx, network, addr) })
	if enter != nil {
		return nil, enter
	}
	return c, err
}

// Listen is net.Listen inside the namespace. It may be called from any goroutine.
func (n *NetNS) Listen(network, addr string) (l net.Listener, err error) {
	if enter := n.inside(func() { l, err = net.Listen(network, addr) }); enter != nil {
		return nil, enter
	}
	return l, err
}

// ListenPacket is net.ListenPacket inside the namespace. It may be called from any goroutine.
func (n *NetNS) ListenPacket(network, addr string) (p net.PacketConn, err error) {
	if enter := n.inside(func() { p, err = net.ListenPacket(network, addr) }); enter != nil {
		return nil, enter
	}
	return p, err
}

// Sysctl sets a setting of the namespace, named by its path below /proc/sys: "net/ipv4/ip_forward".
func (n *NetNS) Sysctl(key, value string) {
	n.t.Helper()
	n.Do(func() {
		if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644); err != nil {
			n.t.Fatalf("testkit: set sysctl: %v", err)
		}
	})
}
