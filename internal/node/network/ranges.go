package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// setting is held while the network is changed: Keep repairs it beside whoever reroutes.
var setting sync.Mutex

// Reroute makes the configuration's Service ranges those that this machine routes to its node: new ones are added, and what an earlier Setup
// or Reroute had beside them goes. Setup must have been called. It must be called on a thread in the network namespace that Setup was called
// in.
func Reroute(c Config) error {
	setting.Lock()
	defer setting.Unlock()
	old, err := readState(c)
	if err != nil {
		return err
	}
	all := c
	all.ServiceCIDRs = union(c.ServiceCIDRs, old.Config.ServiceCIDRs)
	if err := writeState(all, old.Sysctls); err != nil { // so that a Teardown finds what comes, and what goes
		return err
	}
	device, err := netlink.LinkByName(Device(c.Instance))
	if err != nil {
		return fmt.Errorf("device %s: find: %w", Device(c.Instance), err)
	}
	if err := ensureRoutes(c, device); err != nil {
		return err
	}
	if err := ensureMasquerade(c); err != nil {
		return err
	}
	for _, p := range all.ServiceCIDRs {
		if slices.Contains(c.ServiceCIDRs, p) {
			continue
		}
		for _, r := range []*netlink.Route{{LinkIndex: device.Attrs().Index, Dst: ipNet(p), Scope: netlink.SCOPE_LINK}, unreachable(p)} {
			if err := netlink.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("route to Service CIDR %s: remove: %w", p, err)
			}
		}
	}
	return writeState(c, old.Sysctls)
}

// withRecorded adds the Service ranges that the state file knows: they stay until Reroute says that they are none any more.
func (c Config) withRecorded() Config {
	if s, err := readState(c); err == nil {
		c.ServiceCIDRs = union(c.ServiceCIDRs, s.Config.ServiceCIDRs)
	}
	return c
}

func readState(c Config) (s state, err error) {
	data, err := os.ReadFile(c.statePath())
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return s, fmt.Errorf("network state %s: read: %w", c.statePath(), err)
	}
	return s, nil
}

func union(a, b []netip.Prefix) []netip.Prefix {
	out := slices.Clone(a)
	for _, p := range b {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
