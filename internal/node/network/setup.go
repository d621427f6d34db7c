package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lastResort is the metric of the unreachable routes: any other route to the same destination wins.
const lastResort = 4278198272

// state is what Teardown must know; it is written before anything is changed.
type state struct {
	Config  Config
	Sysctls map[string]string // path below /proc/sys → value before Setup
}

// Setup prepares the machine's network, or repairs it if that was done before: then with the Service ranges of the last Reroute, too.
func Setup(c Config) error {
	if err := c.validate(); err != nil {
		return err
	}
	setting.Lock()
	defer setting.Unlock()
	c = c.withRecorded()
	if err := rememberSysctls(c); err != nil {
		return err
	}
	device, err := ensureDevice(c)
	if err != nil {
		return err
	}
	if err := ensureRoutes(c, device); err != nil {
		return err
	}
	if err := enableForwarding(); err != nil {
		return err
	}
	return ensureMasquerade(c)
}

// ensureDevice makes the node's device. It is a bridge without ports, which every kernel with bridges has and which never
// sends a packet anywhere.
func ensureDevice(c Config) (netlink.Link, error) {
	name := Device(c.Instance)
	err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("device %s: create: %w", name, err)
	}
	device, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("device %s: find: %w", name, err)
	}
	// Without duplicate address detection the addresses can be used at once, and nobody else is on this device.
	_ = writeSysctl("net/ipv6/conf/"+name+"/accept_dad", "0")
	if err := netlink.LinkSetUp(device); err != nil {
		return nil, fmt.Errorf("device %s: set up: %w", name, err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	for _, address := range c.NodeAddresses() {
		if err := addAddress(h, device, address); err != nil {
			return nil, err
		}
	}
	return device, nil
}

func ensureRoutes(c Config, device netlink.Link) error {
	nodes := c.NodeAddresses()
	for _, prefix := range c.ServiceCIDRs {
		// A program on this machine needs a route to a Service before the output hook translates the address.
		route := &netlink.Route{LinkIndex: device.Attrs().Index, Dst: ipNet(prefix), Scope: netlink.SCOPE_LINK}
		for _, node := range nodes {
			if node.Is4() == prefix.Addr().Is4() {
				route.Src = node.AsSlice()
			}
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("route to Service CIDR %s: add: %w", prefix, err)
		}
	}
	for _, prefix := range append(append([]netip.Prefix{}, c.ServiceCIDRs...), c.PodCIDRs...) {
		if err := netlink.RouteReplace(unreachable(prefix)); err != nil {
			return fmt.Errorf("unreachable route to %s: add: %w", prefix, err)
		}
	}
	return nil
}

func unreachable(prefix netip.Prefix) *netlink.Route {
	return &netlink.Route{Dst: ipNet(prefix), Type: unix.RTN_UNREACHABLE, Priority: lastResort}
}

// Teardown removes all that Setup and the Sandboxes of an instance made in this network namespace and restores what they changed. It
// works from the state file alone; without one there is nothing to do.
func Teardown(instance, runDir string) error {
	c := Config{Instance: instance, RunDir: runDir}
	data, err := os.ReadFile(c.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var s state
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return fmt.Errorf("network state %s: read: %w", c.statePath(), err)
	}
	s.Config.RunDir = runDir
	return errors.Join(removeAll(s.Config), restoreSysctls(s.Sysctls), os.Remove(c.statePath()))
}

func removeAll(c Config) error {
	var errs []error
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, l := range links {
		name := l.Attrs().Name
		if name != Device(c.Instance) && !strings.HasPrefix(name, LinkPrefix(c.Instance)) {
			continue
		}
		if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("device %s: remove: %w", name, err))
		}
	}
	for _, prefix := range append(append([]netip.Prefix{}, c.ServiceCIDRs...), c.PodCIDRs...) {
		if err := netlink.RouteDel(unreachable(prefix)); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("unreachable route to %s: remove: %w", prefix, err))
		}
	}
	namespaces, err := filepath.Glob(filepath.Join(namespaceDir(c.RunDir), "*"))
	if err != nil {
		errs = append(errs, err)
	}
	for _, path := range namespaces {
		errs = append(errs, removeNamespace(path))
	}
	if err := os.Remove(namespaceDir(c.RunDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, removeMasquerade(c.Instance))...)
}

func addAddress(h *netlink.Handle, device netlink.Link, address netip.Addr) error {
	a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(address, address.BitLen()))}
	if address.Is6() {
		a.Flags = unix.IFA_F_NODAD
		if address.IsLinkLocalUnicast() {
			a.IPNet.Mask = net.CIDRMask(64, 128)
			a.Scope = unix.RT_SCOPE_LINK
		}
	}
	if err := h.AddrReplace(device, a); err != nil {
		return fmt.Errorf("device %s: add address %s: %w", device.Attrs().Name, address, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
