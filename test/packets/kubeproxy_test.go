package packets_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/source"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit"
	"fairway.dev/fairway/internal/testkit/packets"
)

// TestPackets sends the table through both proxies.
func TestPackets(t *testing.T) {
	t.Parallel()
	binary := os.Getenv("KUBE_PROXY")
	if binary == "" {
		binary, _ = filepath.Abs("../../bin/kube-proxy")
	}
	if _, err := os.Stat(binary); err != nil {
		t.Skipf("no kube-proxy: %v; 'make bin/kube-proxy' builds it, or $KUBE_PROXY names one", err)
	}
	world, views := packets.Table()
	a := startAPI(t, world)
	for _, v := range views {
		t.Run("kube-proxy/"+v.Name, func(t *testing.T) {
			lab := packets.NewLab(t, &v)
			a.startKubeProxy(t, binary, lab.Node(), world, &v)
			lab.Run(t, &v, true)
		})
		t.Run("Fairway/"+v.Name, func(t *testing.T) {
			lab := packets.NewLab(t, &v)
			a.startFairway(t, lab.Node(), &v)
			lab.Run(t, &v, false)
		})
	}
}

// TestDifferences finds each difference of the table in the documentation.
func TestDifferences(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	_, views := packets.Table()
	named := map[string]bool{}
	for _, v := range views {
		for _, p := range v.Packets {
			if (p.KubeProxy == nil) != (p.Difference == "") {
				t.Errorf("%s: upstream's outcome %v for the reason %q", p.Name, p.KubeProxy, p.Difference)
			}
			if p.KubeProxy != nil {
				named[p.Difference] = true
			}
		}
	}
	for name := range named {
		if !strings.Contains(string(doc), "\n| "+name+" | ") {
			t.Errorf("docs/differences.md has no row %q", name)
		}
	}
}

// startFairway runs the line from the API to the kernel, and waits until all is in force.
func (a *api) startFairway(t *testing.T, ns *testkit.NetNS, v *packets.View) {
	st := store.New()
	src, err := source.New(a.config, st, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	st.Expect(nft.Consumer)
	running.Go(func() { _ = src.Run(ctx) })
	running.Go(func() {
		ns.Do(func() {
			_ = nft.New(st, nft.Config{Node: v.Node, ServiceCIDRs: packets.ServiceCIDRs[:2], PodCIDRs: v.PodCIDRs}).Run(ctx)
		})
	})
	until(t, func() error {
		if snap := st.Snapshot(); !snap.Synced {
			return fmt.Errorf("not synced: %v", st.Unsynced())
		}
		return nil
	})
	wait, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if err := st.Applied(wait, st.Snapshot().Revision, nft.Consumer); err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, ok func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// startKubeProxy runs upstream's proxy in nftables mode, and waits until all is in force.
func (a *api) startKubeProxy(t *testing.T, binary string, ns *testkit.NetNS, w *packets.World, v *packets.View) {
	a.inside(t, ns)
	var ranges []string
	for _, p := range v.PodCIDRs {
		ranges = append(ranges, p.String())
	}
	config := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: %s
clusterCIDR: %q
clientConnection: {kubeconfig: %s}
nftables: {minSyncPeriod: 10ms}
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, v.Node, strings.Join(ranges, ","), a.kubeconfig)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := ns.Command(binary, "--config", config)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("kube-proxy said:\n%s", &out)
		}
	})
	zone := ""
	for _, n := range w.Nodes {
		if n.Name == v.Node {
			zone = n.Zone
		}
	}
	nudged := time.Time{}
	until(t, func() error {
		for _, f := range []string{"ip", "ip6"} {
			out, err := ns.Command("nft", "list", "table", f, "kube-proxy").Output()
			if err != nil {
				return fmt.Errorf("kube-proxy has written no table %s", f)
			}
			if err := complete(string(out), f == "ip6", w); err != nil {
				return fmt.Errorf("kube-proxy, table %s: %w", f, err)
			}
			// It writes Service ranges at its next full synchronisation only, whenever that is; a change of the zone makes it do one.
			if !strings.Contains(string(out), packets.ServiceCIDRs[3].Addr().String()) && !strings.Contains(string(out), packets.ServiceCIDRs[2].Addr().String()) {
				if time.Since(nudged) > time.Second {
					nudged = time.Now()
					if err := a.setZone(t.Context(), v.Node, "nudge"); err != nil {
						return err
					}
				}
				return fmt.Errorf("kube-proxy, table %s: no Service ranges", f)
			}
			if !nudged.IsZero() {
				if err := a.setZone(t.Context(), v.Node, zone); err != nil {
					return err
				}
			}
			if err := hinted(string(out), f == "ip6", zone); err != nil {
				// Now and then it stays with the zone that it had; it takes the next change.
				if !nudged.IsZero() && time.Since(nudged) > 5*time.Second {
					nudged = time.Now()
					if err := a.setZone(t.Context(), v.Node, "nudge"); err != nil {
						return err
					}
				}
				return fmt.Errorf("kube-proxy, table %s: %w", f, err)
			}
		}
		return nil
	})
}

// complete tells whether a listing has all Services.
func complete(listing string, ipv6 bool, w *packets.World) error {
	_, set, _ := strings.Cut(listing, "set cluster-ips {")
	set, _, _ = strings.Cut(set, "\n\t}")
	words := map[string]bool{}
	for _, f := range strings.FieldsFunc(set, func(r rune) bool { return strings.ContainsRune(" ,\n\t{}", r) }) {
		words[f] = true
	}
	for _, s := range w.Services {
		for _, ip := range s.ClusterIPs {
			if ip.Is6() == ipv6 && !s.OtherProxy && !words[ip.String()] {
				return fmt.Errorf("service %s is missing", s.Name)
			}
		}
	}
	return nil
}

// hinted tells whether a listing is that of a node in a zone: the table has a Service with a hint for each zone.
func hinted(listing string, ipv6 bool, zone string) error {
	for _, chain := range strings.Split(listing, "\n\tchain ") {
		if name, body, _ := strings.Cut(chain, " "); strings.HasPrefix(name, "service-") && strings.Contains(name, "/"+packets.ZoneCanary+"/tcp/") {
			for i, z := range []string{"z1", "z2"} {
				pod := fmt.Sprintf("10.244.%d.11", i+1)
				if ipv6 {
					pod = netip.MustParseAddr(fmt.Sprintf("fd00:10:244:%d::11", i+1)).String()
				}
				if used := strings.Contains(body, pod); used != (zone == z || zone == "") {
					return fmt.Errorf("zone is not %q: %s", zone, body)
				}
			}
			return nil
		}
	}
	return fmt.Errorf("no chain of service %s", packets.ZoneCanary)
}
