package discovery_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/dns/zone"
	"fairway.dev/fairway/internal/source"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit/questions"
)

// patience is how long anything that works may take on a busy machine.
const patience = 2 * time.Minute

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// serve runs what an agent runs for names, the source, the store and the server, until the test ends. When it returns, all is known
// that the API had.
func serve(t *testing.T, api *rest.Config, cfg dns.Config) (netip.AddrPort, *store.Store) {
	t.Helper()
	st := store.New()
	src, err := source.New(api, st, source.Options{Pods: cfg.Pods == zone.PodsVerified})
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Listen) == 0 {
		cfg.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	}
	cfg.Service, cfg.Exists = questions.Name("kube-system/kube-dns"), src.HasService
	srv, err := dns.New(st, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = src.Run(ctx) })
	wg.Go(func() {
		if err := srv.Run(ctx); err != nil {
			t.Errorf("dns: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	eventually(t, "first lists", func() bool { return st.Snapshot().Synced })
	eventually(t, "first answer", func() bool { // the server takes the lists up on its own time
		return questions.Exchange(t, srv.Addrs()[0], "udp", questions.Message("dns-version.cluster.local", "TXT")).Rcode == 0
	})
	return srv.Addrs()[0], st
}

// coreDNS runs CoreDNS until the test ends: one address for each mode of Pod names, configured as kubeadm does but for the cache, and for
// the order of records, which is as it comes.
func coreDNS(t *testing.T, kubeconfig string, upstream netip.AddrPort, modes ...string) map[string]netip.AddrPort {
	t.Helper()
	program := os.Getenv("COREDNS")
	if program == "" {
		t.Skip("$COREDNS names no CoreDNS to compare with; 'make test' does")
	}
	addrs := map[string]netip.AddrPort{}
	var corefile bytes.Buffer
	for _, mode := range modes {
		// The port is free now, and nobody else on this machine takes it by number.
		pc, l := questions.BothSockets(t, "127.0.0.1")
		addrs[mode] = pc.LocalAddr().(*net.UDPAddr).AddrPort()
		pc.Close()
		l.Close()
		fmt.Fprintf(&corefile, `.:%d {
	bind 127.0.0.1
	errors
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		kubeconfig %s
		pods %s
		fallthrough in-addr.arpa ip6.arpa
		ttl 5
	}
	forward . %s
}
`, addrs[mode].Port(), kubeconfig, mode, upstream)
	}
	file := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(file, corefile.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(program, "-conf", file)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("CoreDNS:\n%s", out.String())
		}
	})
	for _, a := range addrs {
		eventually(t, "CoreDNS", func() bool {
			select {
			case <-ended:
				t.Fatalf("CoreDNS ended:\n%s", out.String())
			default:
			}
			c := miekg.Client{Timeout: time.Second}
			m, _, err := c.Exchange(questions.Message("kube-dns.kube-system.svc.cluster.local", "A"), a.String())
			return err == nil && m.Rcode == miekg.RcodeSuccess && len(m.Answer) == 1
		})
	}
	return addrs
}
