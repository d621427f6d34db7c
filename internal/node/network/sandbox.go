package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// podDevice is the name of a Pod's own device inside its namespace.
const podDevice = "eth0"

// gateway6 is the link-local address of the machine's end of every Pod link, and so the Pod's IPv6 gateway.
var gateway6 = netip.MustParseAddr("fe80::1")

// Sandbox is the network of one Pod.
type Sandbox struct {
	Path      string // of the network namespace, for setns and for runc
	Link      string // the machine's end of the veth pair
	Addresses []netip.Addr
}

func namespaceDir(runDir string) string { return filepath.Join(runDir, "netns") }

// SandboxOf names the Sandbox of a Pod without looking whether it exists.
func SandboxOf(c Config, pod string, addresses []netip.Addr) Sandbox {
	return Sandbox{
		Path:      filepath.Join(namespaceDir(c.RunDir), pod),
		Link:      link(c.Instance, pod),
		Addresses: addresses,
	}
}

// CreateSandbox makes the network of a Pod: namespace, veth pair, addresses and routes on both ends. The Pod is its UID,
// or any other string that is unique on the machine. After an error nothing is left.
func CreateSandbox(c Config, pod string, addresses []netip.Addr) (_ Sandbox, err error) {
	s := SandboxOf(c, pod, addresses)
	defer func() {
		if err != nil {
			err = fmt.Errorf("pod network %s: create: %w", pod, err)
			_ = DeleteSandbox(s)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(s.Path), 0o755); err != nil {
		return s, err
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return s, err
	}
	defer host.Close()
	if err := newNamespace(s.Path); err != nil {
		return s, err
	}
	namespace, err := netns.GetFromPath(s.Path)
	if err != nil {
		return s, err
	}
	defer namespace.Close()
	err = host.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: s.Link},
		PeerName:      podDevice,
		PeerNamespace: netlink.NsFd(namespace),
	})
	if err != nil {
		return s, fmt.Errorf("device %s: create: %w", s.Link, err)
	}
	inside, err := netlink.NewHandleAt(namespace, unix.NETLINK_ROUTE)
	if err != nil {
		return s, err
	}
	defer inside.Close()
	if err := s.configureHost(host, c.NodeAddresses()); err != nil {
		return s, err
	}
	return s, s.configurePod(inside, c.NodeAddresses())
}

func (s Sandbox) configureHost(h *netlink.Handle, nodes []netip.Addr) error {
	device, err := h.LinkByName(s.Link)
	if err != nil {
		return err
	}
	// Traffic between two Pods comes in and goes out through different devices, but a redirect would still be wrong after address
	// translation. Detection of duplicate addresses would cost a second on a link that has two ends only.
	for path, value := range map[string]string{
		"net/ipv4/conf/" + s.Link + "/send_redirects": "0",
		"net/ipv6/conf/" + s.Link + "/accept_dad":     "0",
		"net/ipv6/conf/" + s.Link + "/accept_ra":      "0",
	} {
		if err := writeSysctl(path, value); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := h.LinkSetUp(device); err != nil {
		return fmt.Errorf("device %s: set up: %w", s.Link, err)
	}
	for _, pod := range s.Addresses {
		own := gateway6
		if pod.Is4() {
			own = family(nodes, pod)
		}
		if err := addAddress(h, device, own); err != nil {
			return err
		}
		route := &netlink.Route{
			LinkIndex: device.Attrs().Index, Scope: netlink.SCOPE_LINK,
			Dst: ipNet(netip.PrefixFrom(pod, pod.BitLen())), Src: family(nodes, pod).AsSlice(),
		}
		if err := h.RouteReplace(route); err != nil {
			return fmt.Errorf("route to %s: add: %w", pod, err)
		}
	}
	return nil
}

func (s Sandbox) configurePod(h *netlink.Handle, nodes []netip.Addr) error {
	loopback, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := h.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("device lo: set up: %w", err)
	}
	device, err := h.LinkByName(podDevice)
	if err != nil {
		return err
	}
	if err := h.LinkSetUp(device); err != nil {
		return fmt.Errorf("device %s: set up: %w", podDevice, err)
	}
	for _, pod := range s.Addresses {
		if err := addAddress(h, device, pod); err != nil {
			return err
		}
		route := &netlink.Route{LinkIndex: device.Attrs().Index, Flags: int(netlink.FLAG_ONLINK), Gw: gateway6.AsSlice(), Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}
		if pod.Is4() {
			route.Gw = family(nodes, pod).AsSlice()
			route.Dst = &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		}
		if err := h.RouteReplace(route); err != nil {
			return fmt.Errorf("default route through %s: add: %w", route.Gw, err)
		}
	}
	return nil
}

// DeleteSandbox removes the network of a Pod. That of an absent one is fine.
func DeleteSandbox(s Sandbox) error {
	var errs []error
	// The veth pair would go with the namespace, but later: the kernel cleans namespaces up in the background.
	if device, err := netlink.LinkByName(s.Link); err == nil {
		if err := netlink.LinkDel(device); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("device %s: remove: %w", s.Link, err))
		}
	}
	return errors.Join(append(errs, removeNamespace(s.Path))...)
}

// Exists tells whether the namespace is there.
func (s Sandbox) Exists() bool {
	var stat unix.Statfs_t
	return unix.Statfs(s.Path, &stat) == nil && stat.Type == unix.NSFS_MAGIC
}

// newNamespace makes a network namespace and binds it to path, which keeps it when no process is in it.
func newNamespace(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	file.Close()
	done := make(chan error)
	go func() {
		// The thread changes its namespace for good: it is never unlocked, so it ends with this goroutine.
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
			// No duplicate address detection here either; a kernel without IPv6 does not have the files.
			for _, which := range []string{"all", "default"} {
				_ = writeSysctl("net/ipv6/conf/"+which+"/accept_dad", "0")
				_ = writeSysctl("net/ipv6/conf/"+which+"/accept_ra", "0")
			}
			if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("bind to %s: %w", path, err)
			}
			return nil
		}()
	}()
	return <-done
}

func removeNamespace(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("network namespace %s: unmount: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("network namespace %s: remove: %w", path, err)
	}
	return nil
}

// family returns the address of the same family as like, or the zero Addr.
func family(addresses []netip.Addr, like netip.Addr) netip.Addr {
	for _, a := range addresses {
		if a.Is4() == like.Is4() {
			return a
		}
	}
	return netip.Addr{}
}
