package hostdns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"time"
)

// Mode says how the machine's resolver is changed.
type Mode string

// The modes. Auto is Resolved where that runs, and else Off: a file in /etc is changed only for who asks.
const (
	Auto       Mode = "auto"
	Off        Mode = "off"
	Resolved   Mode = "resolved"
	ResolvConf Mode = "resolv.conf"
)

// ParseMode reads a mode.
func ParseMode(s string) (Mode, bool) {
	switch m := Mode(s); m {
	case Auto, Off, Resolved, ResolvConf:
		return m, true
	}
	return "", false
}

// Config says what to do to which machine.
type Config struct {
	// Instance is whose lines the block is; one machine may have several.
	Instance string
	// Device is the link with the node's addresses, and Domain the cluster's, without a dot at its end.
	Device, Domain string
	// Server is the node's own server, any port; ClusterDNS are the addresses at which it is on port 53, as resolv.conf knows no other.
	Server     netip.AddrPort
	ClusterDNS []netip.Addr
	// File is /etc/resolv.conf.
	File string
}

// stub is where systemd-resolved listens. It is looked for there, rather than on the bus, because the bus may belong to another network namespace.
const stub = "127.0.0.53:53"

// timeout is for one look, or one command.
const timeout = 5 * time.Second

// Apply makes the machine resolve the cluster's names, and tells how: Off if it did nothing. With Auto, what does not work is an error, too, and nothing was changed.
func Apply(ctx context.Context, m Mode, c Config) (Mode, error) {
	if m == Auto {
		m = Off
		if resolvedRuns(ctx) {
			m = Resolved
		}
	}
	switch m {
	case Resolved:
		return m, c.setLink(ctx)
	case ResolvConf:
		return m, c.addBlock()
	}
	return Off, nil
}

// Undo takes back what Apply did in any mode, now or in an earlier process. Where there is nothing to take back it does nothing.
func Undo(ctx context.Context, c Config) error {
	if resolvedRuns(ctx) && hasLink(c.Device) {
		// A link that has never been set is fine with this.
		if err := resolvectl(ctx, "revert", c.Device); err != nil {
			return errors.Join(err, c.removeBlock())
		}
	}
	return c.removeBlock()
}

func hasLink(name string) bool { _, err := net.InterfaceByName(name); return err == nil }

// resolvedRuns tells whether systemd-resolved answers in this network namespace and can be told something.
func resolvedRuns(ctx context.Context) bool {
	if _, err := exec.LookPath("resolvectl"); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", stub)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// setLink gives the link its server, for the domain and nothing else: a name of the cluster is asked of it alone, and no other name is.
func (c Config) setLink(ctx context.Context) error {
	if !hasLink(c.Device) {
		return fmt.Errorf("there is no link %s", c.Device)
	}
	for _, args := range [][]string{
		{"dns", c.Device, c.Server.String()},
		{"domain", c.Device, "~" + c.Domain},
		{"default-route", c.Device, "no"},
		{"dnssec", c.Device, "no"}, // nobody signs the cluster's names
	} {
		if err := resolvectl(ctx, args...); err != nil {
			_ = resolvectl(ctx, "revert", c.Device)
			return err
		}
	}
	return nil
}

func resolvectl(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "resolvectl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("resolvectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
