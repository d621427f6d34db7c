package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestNodeDNS: an agent answers at the cluster's DNS addresses itself, without an entry of conntrack; its successor finds the sockets; and one
// that starts while there is no API knows the names of the run before, and denies none.
func TestNodeDNS(t *testing.T) {
	t.Parallel()
	b := newSecond(t)
	b.start()
	b.withWeb()
	b.apply(nodeB)
	vips := strings.Fields(b.must("kubectl", "get", "svc", "-n", "kube-system", "kube-dns", "-o", "jsonpath={.spec.clusterIPs[*]}"))
	dir := t.TempDir()
	given := []string{
		"--kubeconfig", b.kubeconfig(), "--pod-cidr", pods4 + "," + pods6, "--dns-node-local", strings.Join(vips, ","),
		"--dns-state", filepath.Join(dir, "names"), "--dns-handover", filepath.Join(dir, "dns.sock"),
	}
	b.agent(given...)
	b.untilReady()
	web := netip.MustParseAddr(b.clusterIPs("web")[0])
	answered := func() {
		t.Helper()
		for _, ip := range vips {
			for _, network := range []string{"udp", "tcp"} {
				b.until("web at "+ip+" over "+network, func() error {
					got, err := b.lookup(network, net.JoinHostPort(ip, "53"), "web.default.svc.cluster.local.")
					if err == nil && !slices.Contains(got, web) {
						err = fmt.Errorf("it is %v, want %s", got, web)
					}
					return err
				})
			}
		}
	}
	answered()
	b.ns.Do(func() {
		for _, family := range []netlink.InetFamily{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
			if err != nil {
				t.Error(err)
			}
			for _, f := range flows {
				if f.Forward.DstPort == 53 {
					t.Errorf("conntrack has %s", f)
				}
			}
		}
	})

	// A successor waits, gets the sockets, and goes on when the first has gone.
	old := b.p
	b.agent(given...)
	b.until("the successor waits", func() error {
		if !strings.Contains(b.ns.Run("ss", "-Hx", "state", "connected"), "dns.sock") {
			return errors.New("nobody is connected to the socket of the handover")
		}
		return nil
	})
	if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-old.done
	answered()
	b.untilReady()

	// Now without an API.
	b.stop(syscall.SIGKILL)
	b.machine.end(syscall.SIGKILL)
	b.agent(given...)
	answered()
	_, err := b.lookup("udp", net.JoinHostPort(vips[0], "53"), "nobody.default.svc.cluster.local.")
	var dnsErr *net.DNSError
	if !errors.As(err, &dnsErr) || dnsErr.IsNotFound {
		t.Errorf("a name that is not known, while the API is away: %v", err)
	}
	b.stop(syscall.SIGTERM)
	if out := b.ns.Run("ip", "-o", "link") + b.ns.Run("nft", "list", "tables"); strings.Contains(out, "fairway-dns") {
		t.Errorf("left:\n%s", out)
	}
}
