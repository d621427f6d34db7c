package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The wire between the API's namespace and a room, and the ranges of the world.
const (
	apiEnd, roomEnd   = "bench-a", "bench-b"
	apiSide, roomAddr = "192.0.2.1", "192.0.2.2"
	apiAddr           = "198.51.100.1" // where the API listens, on the API's loopback
	serviceRange      = "10.96.0.0/12"
	podRange          = "10.128.0.0/9"
)

// room is a network namespace in which one data plane works. It reaches nothing but the API.
type room struct {
	ns *os.File
}

// newRoom makes one. There is one at a time.
func newRoom() (_ *room, err error) {
	r := &room{}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.ns, err = newNamespace(); err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	if err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: apiEnd}, PeerName: roomEnd, PeerNamespace: netlink.NsFd(int(r.ns.Fd())),
	}); err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	if err := ip("", "addr add "+apiSide+"/30 dev "+apiEnd, "link set "+apiEnd+" up"); err != nil {
		return nil, err
	}
	// ClusterIPs have a route, or nothing could be sent to them; what the rules do not catch ends at the API's namespace, which forwards nothing.
	commands := []string{
		"link set lo up", "addr add " + roomAddr + "/30 dev " + roomEnd, "link set " + roomEnd + " up",
		"route add " + apiAddr + "/32 via " + apiSide, "route add " + serviceRange + " via " + apiSide, "route add unreachable " + podRange,
	}
	for _, a := range echoAddrs() {
		commands = append(commands, "addr add "+a+"/32 dev lo")
	}
	return r, ip(r.path(), commands...)
}

func (r *room) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), r.ns.Fd()) }

func (r *room) close() {
	if r.ns != nil {
		r.ns.Close()
	}
	if link, err := netlink.LinkByName(apiEnd); err == nil {
		_ = netlink.LinkDel(link)
	}
}

// command gives one that runs in the room; its process is the program itself.
func (r *room) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + r.path(), "--", name}, args...)...)
}

// within runs f on a thread of its own in the room, and waits for it.
func (r *room) within(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(r.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

func newNamespace() (f *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			f, err = os.Open("/proc/thread-self/ns/net")
		}
	}()
	<-done
	return f, err
}

// ip runs commands of that name, in the namespace of that path or in this process's own.
func ip(namespace string, commands ...string) error {
	for _, c := range commands {
		args := append([]string{"ip"}, strings.Fields(c)...)
		if namespace != "" {
			args = append([]string{"nsenter", "--net=" + namespace, "--"}, args...)
		}
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w\n%s", c, err, out)
		}
	}
	return nil
}

// carried is how many bytes the API has sent into the room so far.
func carried() (uint64, error) {
	b, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		name, counters, ok := strings.Cut(strings.TrimSpace(line), ":")
		if f := strings.Fields(counters); ok && name == apiEnd && len(f) > 8 {
			var n uint64
			_, err := fmt.Sscan(f[8], &n) // bytes sent from this end
			return n, err
		}
	}
	return 0, errors.New("the wire is gone")
}

// dial connects from this thread's namespace.
func dial(addr string, limit time.Duration) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", addr, limit)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}
