package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kubeProxy is upstream's, on the second machine.
func (b *second) kubeProxy() (stop func()) {
	b.t.Helper()
	path := os.Getenv("KUBE_PROXY")
	if path == "" {
		path, _ = filepath.Abs("../../bin/kube-proxy")
	}
	config := filepath.Join(b.t.TempDir(), "config")
	text := fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: b
clusterCIDR: %q
healthzBindAddress: 127.0.0.1:10257
metricsBindAddress: 127.0.0.1:10249
clientConnection: {kubeconfig: %s}
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, pods4+","+pods6, b.kubeconfig())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	out := &buffer{}
	cmd := b.ns.Command(path, "--config", config)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		if b.t.Failed() {
			b.t.Logf("kube-proxy said\n%s", out)
		}
	})
	b.until("kube-proxy has written its rules", func() error {
		select {
		case <-done:
			b.t.Fatalf("kube-proxy ended: %v\n%s", cmd.ProcessState, out)
		default:
		}
		for family, ip := range map[string]string{"ip": b.clusterIPs("both")[0], "ip6": b.clusterIPs("both")[1]} {
			rules, err := b.ns.Command("nft", "list", "table", family, "kube-proxy").Output()
			if err != nil || strings.Count(string(rules), ip+" . udp . 80 : goto") == 0 || strings.Count(string(rules), "30081 : goto") < 2 {
				return fmt.Errorf("table %s: %v, no way to %s in\n%s", family, err, ip, rules)
			}
		}
		return nil
	})
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(patience):
			b.t.Fatal("kube-proxy does not end")
		}
	}
}

// TestSwitch changes a node from kube-proxy to Fairway and back, as docs/from-kube-proxy.md says, under clients that hold connections and open new
// ones: none fails.
func TestSwitch(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("../../bin/kube-proxy"); err != nil && os.Getenv("KUBE_PROXY") == "" {
		t.Skipf("no kube-proxy: %v; 'make bin/kube-proxy' builds it, or $KUBE_PROXY names one", err)
	}
	b := newSecond(t)
	b.start()
	b.withWeb()
	b.apply(bothManifest)
	b.apply(nodeB)
	b.must("kubectl", "patch", "node", "b", "--subresource=status", "--type=merge", "-p", addressesOfB)
	tables := func() string { return b.ns.Run("nft", "list", "tables") }
	cleanup := func(args ...string) string {
		t.Helper()
		out, err := b.onB(append([]string{"cleanup"}, args...)...)
		if err != nil {
			t.Fatalf("fairway cleanup %v: %v\n%s", args, err, out)
		}
		return out
	}

	stopKubeProxy := b.kubeProxy()
	l := b.startLoad()
	l.more("through kube-proxy")
	b.agent("--kubeconfig", b.kubeconfig(), "--pod-cidr", pods4+","+pods6)
	b.untilReady()
	l.more("with both")
	if out, err := b.onB("cleanup", "--kube-proxy"); err == nil || !strings.Contains(out, "kube-proxy runs here (pid ") {
		t.Errorf("fairway cleanup --kube-proxy beside kube-proxy: %v\n%s", err, out)
	}
	stopKubeProxy()
	if out := cleanup("--kube-proxy", "--dry-run"); out != "would remove table ip kube-proxy\nwould remove table ip6 kube-proxy\n" {
		t.Errorf("a dry run says\n%s", out)
	}
	l.more("with kube-proxy's rules without its process")
	cleanup("--kube-proxy")
	if now := tables(); strings.Contains(now, "kube-proxy") || !strings.Contains(now, "fairway") {
		t.Errorf("the tables are\n%s", now)
	}
	l.more("through Fairway")
	// What comes now is Fairway's to find.
	b.must("kubectl", "scale", "deploy/web", "--replicas=3")
	b.must("kubectl", "rollout", "status", "deploy/web", "--timeout=90s")
	b.balances()

	stopKubeProxy = b.kubeProxy()
	l.more("with both again")
	b.stop(syscall.SIGTERM)
	l.more("with Fairway's rules without its process")
	cleanup()
	if now := tables(); strings.Contains(now, "fairway") || !strings.Contains(now, "kube-proxy") {
		t.Errorf("the tables are\n%s", now)
	}
	l.more("through kube-proxy again")
	l.end()
	stopKubeProxy()
	if out := cleanup("--kube-proxy"); !strings.Contains(out, "removed table ip kube-proxy") {
		t.Errorf("fairway cleanup --kube-proxy says\n%s", out)
	}
	if now := strings.TrimSpace(tables()); now != "" {
		t.Errorf("left are\n%s", now)
	}
	if err := asks(b.ns, "http://"+net.JoinHostPort(b.clusterIPs("both")[0], "80")+"/", ""); err == nil {
		t.Error("without any proxy the Service answers")
	}
}
