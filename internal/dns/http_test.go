package dns_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/store"
)

// fetch gives the status and body of a page; 0 if nobody answers.
func fetch(t testing.TB, address, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + address + path)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestPages: ready follows the store, health the process, also while it lingers; metrics are what Prometheus reads.
func TestPages(t *testing.T) {
	t.Parallel()
	page := deadPort(t).String()
	st := store.New()
	expect := st.Expect("somebody") // nothing is synced yet for the names' sake
	defer expect()
	s, err := dns.New(st, dns.Config{
		Listen:   []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		Settings: settings(t, fmt.Sprintf("metrics: {listen: %[1]q}\nhealth: {listen: %[1]q, lameduck: 300ms}\nready: {listen: %[1]q}", page)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	status := func(path string, want int) func() bool {
		return func() bool { got, _ := fetch(t, page, path); return got == want }
	}
	eventually(t, "health", status("/health", 200))
	eventually(t, "ready", status("/ready", 200))
	ask(t, s.Addrs()[0], "udp", "x.default.svc.cluster.local", "A")
	if code, body := fetch(t, page, "/metrics"); code != 200 || !strings.Contains(body, "coredns_dns_request_duration_seconds_count{") || !strings.Contains(body, "coredns_dns_requests_total{") {
		t.Errorf("%d\n%s", code, body)
	}
	cancel()
	eventually(t, "lame", status("/health", 503))
	if got := rcode(t, s.Addrs()[0], "x.default.svc.cluster.local"); got != "NXDOMAIN" {
		t.Errorf("while lame: %s", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !status("/health", 0)() {
		t.Error("the page is still there")
	}
}

// TestQueryLog: what is written down, and that it is only what was asked for.
func TestQueryLog(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/queries"
	st := store.New()
	load(st, fixture(), false)
	srv := serve(t, st, dns.Config{Settings: settings(t, "queryLog: {file: "+path+", only: [denial]}")})
	eventually(t, "names", func() bool { return rcode(t, srv, "x.testns.svc.cluster.local") == "NXDOMAIN" })
	ask(t, srv, "udp", "svc1.testns.svc.cluster.local", "A")
	ask(t, srv, "tcp", "No.testns.svc.cluster.local", "SRV")
	var lines []map[string]any
	eventually(t, "the line", func() bool {
		text, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		lines = nil
		for l := range strings.Lines(string(text)) {
			var m map[string]any
			if json.Unmarshal([]byte(l), &m) != nil {
				return false
			}
			lines = append(lines, m)
		}
		return len(lines) > 0 && lines[len(lines)-1]["proto"] == "tcp"
	})
	last := lines[len(lines)-1]
	if last["name"] != "No.testns.svc.cluster.local." || last["type"] != "SRV" || last["rcode"] != "NXDOMAIN" || last["client"] != "127.0.0.1" || last["zone"] != "cluster.local." {
		t.Errorf("%v", last)
	}
	for _, l := range lines {
		if strings.HasPrefix(l["name"].(string), "svc1") {
			t.Errorf("not asked for: %v", l)
		}
	}
	if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", i, err)
	}
}
