package app

import (
	"context"
	"fmt"
	"net/netip"

	"fairway.dev/fairway/internal/node/hostdns"
	"fairway.dev/fairway/internal/node/network"
)

// HostDNSMode says how the machine's resolver is changed.
type HostDNSMode = hostdns.Mode

// ParseHostDNS reads a mode: auto, off, resolved or resolv.conf.
func ParseHostDNS(s string) (HostDNSMode, bool) { return hostdns.ParseMode(s) }

// hostDNS is what is known of an instance that does not run: enough to take back what it did.
func hostDNS(i Instance) hostdns.Config {
	return hostdns.Config{Instance: i.Name, Device: network.Device(i.Name), File: "/etc/resolv.conf"}
}

func (c *UpConfig) hostDNS() hostdns.Config {
	h := hostDNS(c.Instance)
	h.Domain, h.ClusterDNS = c.Domain, clusterDNS(c.ServiceCIDRs)
	h.Server = netip.AddrPortFrom(firstAddrs(c.PodCIDRs)[0], c.DNSPort)
	return h
}

// resolveHere makes this machine resolve the cluster's names while Fairway runs, as far as that was asked for, and says in one line how it stands.
func (s *standalone) resolveHere(ctx context.Context, p *parts) (string, error) {
	c := s.hostDNS()
	mode, err := hostdns.Apply(ctx, s.HostDNS, c)
	switch {
	case err != nil && s.HostDNS != hostdns.Auto:
		return "", fmt.Errorf("--host-dns %s: %w", s.HostDNS, err)
	case err != nil:
		s.Logger.Warn("host DNS: this machine does not resolve the cluster's names", "err", err)
		mode = hostdns.Off
	}
	if mode == hostdns.Off {
		line := fmt.Sprintf("Names of %s are answered on %s; with --host-dns=resolv.conf this machine asks there.", c.Domain, c.ClusterDNS[0])
		return line, nil
	}
	p.add("host-dns", func(ctx context.Context) error {
		<-ctx.Done()
		if err := hostdns.Undo(context.WithoutCancel(ctx), c); err != nil {
			s.Logger.Error("host DNS", "err", err)
		}
		return nil
	})
	where := map[hostdns.Mode]string{hostdns.Resolved: "systemd-resolved", hostdns.ResolvConf: c.File}[mode]
	return fmt.Sprintf("It resolves the names of %s (%s), until Fairway ends.", c.Domain, where), nil
}
