package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"path/filepath"
)

// Config says what network an instance of Fairway has on this machine.
type Config struct {
	Instance     string         // name of this Fairway on the machine: "default", …
	RunDir       string         // where state lives that must not outlive a reboot
	PodCIDRs     []netip.Prefix // one per address family; the first address of each is the node's
	ServiceCIDRs []netip.Prefix
}

// NodeAddresses returns the node's own address in each Pod CIDR: the first one after the network's.
func (c Config) NodeAddresses() []netip.Addr {
	var addresses []netip.Addr
	for _, p := range c.PodCIDRs {
		addresses = append(addresses, p.Masked().Addr().Next())
	}
	return addresses
}

func (c Config) validate() error {
	if c.Instance == "" || c.RunDir == "" {
		return fmt.Errorf("network: instance %q, run directory %q: both must be set", c.Instance, c.RunDir)
	}
	seen := map[bool]bool{}
	for _, p := range c.PodCIDRs {
		if bits := p.Addr().BitLen() - p.Bits(); bits < 2 {
			return fmt.Errorf("network: Pod CIDR %s: too small to hold a Pod", p)
		}
		if seen[p.Addr().Is4()] {
			return fmt.Errorf("network: Pod CIDR %s: a second one of its address family", p)
		}
		seen[p.Addr().Is4()] = true
	}
	if len(c.PodCIDRs) == 0 {
		return fmt.Errorf("network: no Pod CIDR given")
	}
	return nil
}

func (c Config) statePath() string { return filepath.Join(c.RunDir, "network.json") }

// Device names have at most 15 characters, so names carry a short digest instead of the instance and the Pod.

// Device returns the name of the device that carries the node's addresses.
func Device(instance string) string {
	if instance == "default" {
		return "fairway0"
	}
	return "fw" + digest(instance, 4) + "-node"
}

// LinkPrefix returns what the names of all Pod links of an instance begin with, and no other device's.
func LinkPrefix(instance string) string { return "fw" + digest(instance, 4) + "p" }

func link(instance, pod string) string { return LinkPrefix(instance) + digest(pod, 8) }

func table(instance string) string { return "fairway-pods-" + instance }

func digest(s string, digits int) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:digits]
}
