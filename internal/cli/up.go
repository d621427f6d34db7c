package cli

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fairway.dev/fairway/internal/app"
)

func newUp(i *instance) *cobra.Command {
	var api, http, https, domain, node, runtime, dnsConfig, hostDNS string
	var services, pods, upstreams, trusted []string
	var dnsPort uint16
	var ephemeral bool
	c := &cobra.Command{
		Use:   "up",
		Short: "Run a Kubernetes of its own on this machine, until Ctrl-C",
		Long: `Run a Kubernetes of its own on this machine: API and store, Deployments as real Pods, Services in
the kernel, DNS, Ingress. It stays in the foreground and tells each step.

Ctrl-C stops Fairway and leaves Pods and rules as they are; the next 'fairway up' takes them over,
'fairway down' takes everything away. With --ephemeral, Ctrl-C does that too.

The ranges, the domain and the node's name are kept with the data: a later 'up' on it uses them again
unless they are given.

All listeners are on loopback, or on the node's own address that only this machine has.`,
		Example: `  sudo fairway up
  sudo fairway up --ephemeral --ingress-http 127.0.0.1:8080 --ingress-https off
  sudo fairway --name ci up --pod-cidr 10.245.0.0/24 --service-cidr 10.97.0.0/16 --api 127.0.0.1:7443`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			inst, err := i.app()
			if err != nil {
				return err
			}
			if err := recall(c.Flags(), inst); err != nil {
				return err
			}
			p := &parser{}
			cfg := app.UpConfig{
				Instance: inst, DNSPort: dnsPort, Runtime: runtime, DNSConfig: p.file("--dns-config", dnsConfig),
				Ephemeral: ephemeral, Logger: i.logger(c), Progress: app.NewProgress(c.OutOrStdout(), processStart()),
			}
			cfg.Domain, cfg.NodeName = p.domain("--cluster-domain", domain), p.node("--node-name", node)
			cfg.API = p.addr("--api", api)
			cfg.IngressHTTP, cfg.IngressHTTPS = p.addrs("--ingress-http", http), p.addrs("--ingress-https", https)
			cfg.IngressTrusted = p.ranges("--ingress-trusted-proxies", trusted)
			cfg.ServiceCIDRs, cfg.PodCIDRs = p.cidrs("--service-cidr", services), p.cidrs("--pod-cidr", pods)
			cfg.Upstreams = p.upstreams(upstreams)
			p.sameFamilies(cfg.ServiceCIDRs, cfg.PodCIDRs)
			p.roomForDNS("--service-cidr", cfg.ServiceCIDRs)
			cfg.HostDNS = p.hostDNS("--host-dns", hostDNS)
			p.one("--api", cfg.API)
			if dnsPort == 0 {
				p.fail("--dns-port 0: give a port from 1 to 65535")
			}
			if p.err != nil {
				return usageError{p.err}
			}
			return app.Up(c.Context(), cfg)
		},
	}
	host, _ := os.Hostname()
	f := c.Flags()
	f.StringVar(&api, "api", "127.0.0.1:6443", "where the Kubernetes API listens")
	f.StringVar(&http, "ingress-http", "127.0.0.1:80", "where Ingress listens for HTTP, comma-separated, or off")
	f.StringVar(&https, "ingress-https", "127.0.0.1:443", "where Ingress listens for HTTPS, comma-separated, or off")
	f.StringSliceVar(&trusted, "ingress-trusted-proxies", nil, "ranges of the proxies in front of Ingress, whose X-Forwarded headers count (default: nobody)")
	f.StringSliceVar(&services, "service-cidr", []string{"10.96.0.0/16", "fd66:96::/112"}, "the range of ClusterIPs: one IPv4, one IPv6, or both, the preferred one first")
	f.StringSliceVar(&pods, "pod-cidr", []string{"10.244.0.0/24", "fd66:244::/64"}, "the range of Pod addresses, of the same families")
	f.StringVar(&dnsConfig, "dns-config", "", "the DNS server's configuration file, read again when it changes (docs/dns.md)")
	f.StringVar(&domain, "cluster-domain", "cluster.local", "the domain of the cluster's names")
	f.StringSliceVar(&upstreams, "dns-upstream", nil, "servers for other names, ADDRESS[:PORT] (default: those of /etc/resolv.conf)")
	f.Uint16Var(&dnsPort, "dns-port", 10053, "the port of the DNS server on the node's address; Pods use the Service, on 53")
	f.StringVar(&hostDNS, "host-dns", "auto", "how this machine itself resolves the cluster's names: resolved (systemd-resolved, for that domain alone), resolv.conf (its first lines, for all names), off, or auto: resolved where that runs")
	f.StringVar(&node, "node-name", strings.ToLower(host), "the name of the node")
	f.StringVar(&runtime, "runtime", "runc", "the OCI runtime that runs containers")
	f.BoolVar(&ephemeral, "ephemeral", false, "throw everything away at the end, and do not wait for the disk")
	return c
}

// recall gives the flags that are not on the command line, and that the data depends on, the values that it was made with.
func recall(f *pflag.FlagSet, inst app.Instance) error {
	s, err := inst.Settings()
	if err != nil || s == nil {
		return err
	}
	for flag, value := range map[string]string{
		"service-cidr": prefixes(s.ServiceCIDRs), "pod-cidr": prefixes(s.PodCIDRs), "node-name": s.NodeName, "cluster-domain": s.Domain,
	} {
		if !f.Changed(flag) && value != "" {
			if err := f.Set(flag, value); err != nil {
				return fmt.Errorf("--%s %q of the last start: %w", flag, value, err)
			}
		}
	}
	return nil
}

func prefixes(ps []netip.Prefix) string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
	}
	return strings.Join(out, ",")
}

func newDown(i *instance) *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use:   "down",
		Short: "Stop a stand-alone Fairway and leave nothing behind",
		Long: `Stop a stand-alone Fairway and leave nothing behind: no process, Pod, namespace, mount, link, route,
rule or data. It works after a crash, too, and doing it twice is fine.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			inst, err := i.app()
			if err != nil {
				return err
			}
			return app.Down(c.Context(), inst, keep, i.logger(c), app.NewProgress(c.OutOrStdout(), time.Now()))
		},
	}
	c.Flags().BoolVar(&keep, "keep-data", false, "keep objects, images and certificates for the next 'fairway up'")
	return c
}

// logger writes to stderr: warnings and errors, and with -v more.
func (i *instance) logger(c *cobra.Command) *slog.Logger {
	level := slog.LevelWarn
	switch {
	case i.verbosity >= 4:
		level = slog.LevelDebug
	case i.verbosity > 0:
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
}
