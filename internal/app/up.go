package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/node/hostdns"
	"fairway.dev/fairway/internal/node/network"
)

// UpConfig says how to run a stand-alone Fairway. The zero value of a field is not its default: the command line has those.
type UpConfig struct {
	Instance Instance
	// API is where the Kubernetes API listens, besides the node's address, which Pods use.
	API netip.AddrPort
	// ServiceCIDRs and PodCIDRs are one IPv4 range, one IPv6 range, or one of each, the first one preferred.
	ServiceCIDRs, PodCIDRs []netip.Prefix
	// IngressHTTP and IngressHTTPS are where Ingress listens; empty is nowhere.
	IngressHTTP, IngressHTTPS []netip.AddrPort
	// IngressTrusted are the proxies in front of Ingress, whose X-Forwarded headers count; nobody by default.
	IngressTrusted []netip.Prefix
	// Domain is the cluster's domain, and Upstreams answer other names; none means the host's resolv.conf.
	Domain    string
	Upstreams []netip.AddrPort
	// DNSConfig is the DNS server's configuration file; "" is none.
	DNSConfig string
	DNSPort   uint16
	NodeName  string
	// Runtime is the OCI runtime: runc, or another of the same command line.
	Runtime string
	// HostDNS says how this machine itself resolves the cluster's names.
	HostDNS hostdns.Mode
	// Ephemeral throws everything away at the end, and does not wait for the disk.
	Ephemeral bool
	Logger    *slog.Logger
	Progress  *Progress
}

// Up runs a stand-alone Fairway until ctx ends or a part fails. Pods and rules stay, unless the instance is ephemeral.
func Up(ctx context.Context, c UpConfig) (err error) {
	runc, err := preflight(c.Runtime)
	if err != nil {
		return err
	}
	if err := checkFamilies(c.ServiceCIDRs, c.PodCIDRs); err != nil {
		return err
	}
	inst := c.Instance
	removeNew := inst.removeNew()
	unlock, err := inst.lock()
	if err != nil {
		return err
	}
	defer unlock()
	release, err := claimTable(inst.table())
	if err != nil {
		return errors.Join(err, removeNew())
	}
	defer release()
	s := &standalone{UpConfig: c, nodeIPs: firstAddrs(c.PodCIDRs)}
	// A start that fails takes away what it brought.
	defer func() {
		if !s.started {
			err = errors.Join(err, removeNew())
		}
	}()
	if err := c.agreeWithState(); err != nil {
		return err
	}
	// Others than root may look into it, for the kubeconfig that belongs to whoever typed sudo; what is secret has a mode of its own.
	if err := os.MkdirAll(inst.DataDir, 0o711); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	fresh, err := c.prepareNetwork()
	if err != nil {
		return err
	}
	defer func() {
		switch {
		case c.Ephemeral:
			err = errors.Join(err, clean(context.WithoutCancel(ctx), inst, c.Logger, false))
		case !s.started && fresh:
			err = errors.Join(err, nft.Cleanup(inst.table()), network.Teardown(inst.Name, inst.RunDir))
		}
	}()
	if err := hostdns.Undo(ctx, c.hostDNS()); err != nil { // what a run left that was killed
		c.Logger.Warn("host DNS", "err", err)
	}
	c.Progress.Step("network ready: Pods in %s, Services in %s", join(c.PodCIDRs), join(c.ServiceCIDRs))
	defer s.close()
	if err := s.open(runc); err != nil {
		return err
	}
	if err := s.run(ctx); err != nil {
		return err
	}
	if s.started && !c.Ephemeral {
		c.Progress.Say("Fairway stopped. Pods and rules stay as they are: '%s' takes them over, '%s' takes them away.", inst.Command("up"), inst.Command("down"))
	}
	return nil
}

// prepareNetwork sets up the machine's side of the Pod network; fresh is false when an earlier run had done so.
func (c *UpConfig) prepareNetwork() (fresh bool, err error) {
	old, err := c.Instance.loadState()
	if err != nil {
		return false, err
	}
	if err := c.Instance.saveState(state{c.ServiceCIDRs, c.PodCIDRs, c.NodeName}); err != nil {
		return false, err
	}
	err = network.Setup(c.network())
	if err != nil && old == nil {
		err = errors.Join(err, network.Teardown(c.Instance.Name, c.Instance.RunDir))
		_ = os.Remove(c.Instance.stateFile())
	}
	return old == nil, err
}

func (c *UpConfig) network() network.Config {
	return network.Config{Instance: c.Instance.Name, RunDir: c.Instance.RunDir, PodCIDRs: c.PodCIDRs, ServiceCIDRs: c.ServiceCIDRs}
}

// agreeWithState refuses ranges that differ from those of Pods and rules that an earlier run left in place.
func (c *UpConfig) agreeWithState() error {
	s, err := c.Instance.loadState()
	if err != nil || s == nil {
		return err
	}
	if !slices.Equal(s.PodCIDRs, c.PodCIDRs) || !slices.Equal(s.ServiceCIDRs, c.ServiceCIDRs) {
		return fmt.Errorf("the Pods that still run use --pod-cidr %s --service-cidr %s; give the same, or end them with '%s' first", join(s.PodCIDRs), join(s.ServiceCIDRs), c.Instance.Command("down"))
	}
	if s.NodeName != c.NodeName {
		return fmt.Errorf("the Pods that still run belong to node %s; give --node-name %s, or end them with '%s' first", s.NodeName, s.NodeName, c.Instance.Command("down"))
	}
	return nil
}

func (c *UpConfig) welcome(names string) {
	kubectl := c.Instance.Command("kubectl get svc,deploy,pods -A")
	c.Progress.Say(`
Fairway is up. In another terminal:

  %[1]s      the kubectl inside
  export KUBECONFIG=%[2]s
  %-[3]*[4]s      one screen
  %-[3]*[5]s      leaves nothing behind

This machine reaches ClusterIPs as they are, NodePorts on %[6]s, and Ingress on %[7]s.
%[8]s
`, kubectl, c.Instance.Kubeconfig(), len(kubectl), c.Instance.Command("status"), "sudo "+c.Instance.Command("down"), firstAddrs(c.PodCIDRs)[0], joinOr(slices.Concat(c.IngressHTTP, c.IngressHTTPS), "no address"), names)
}

// listenStatus opens the status socket. The lock is held, so a socket that is there already is a dead one.
func listenStatus(i Instance) (net.Listener, error) {
	_ = os.Remove(i.socket())
	l, err := net.Listen("unix", i.socket())
	if err != nil {
		return nil, fmt.Errorf("status socket: %w", err)
	}
	uid, gid := invoker()
	if err := errors.Join(os.Chmod(i.socket(), 0o600), os.Chown(i.socket(), uid, gid)); err != nil {
		l.Close()
		return nil, fmt.Errorf("status socket: %w", err)
	}
	return l, nil
}

// invoker is the user behind sudo: what `sudo fairway up` made must be usable by who typed it.
func invoker() (uid, gid int) {
	uid, err1 := strconv.Atoi(os.Getenv("SUDO_UID"))
	gid, err2 := strconv.Atoi(os.Getenv("SUDO_GID"))
	if err1 != nil || err2 != nil {
		return os.Getuid(), os.Getgid()
	}
	return uid, gid
}

// firstAddrs gives the first usable address of each range: the node's own.
func firstAddrs(ps []netip.Prefix) []netip.Addr {
	out := make([]netip.Addr, len(ps))
	for i, p := range ps {
		out[i] = p.Masked().Addr().Next()
	}
	return out
}

func withPort(as []netip.Addr, port uint16) []netip.AddrPort {
	out := make([]netip.AddrPort, len(as))
	for i, a := range as {
		out[i] = netip.AddrPortFrom(a, port)
	}
	return out
}

func join[T fmt.Stringer](xs []T) string { return joinOr(xs, "") }

func joinOr[T fmt.Stringer](xs []T, otherwise string) string {
	if len(xs) == 0 {
		return otherwise
	}
	s := ""
	for i, x := range xs {
		if i > 0 {
			s += ", "
		}
		s += x.String()
	}
	return s
}
