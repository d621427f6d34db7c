package dns_test

import (
	"bytes"
	"context"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/dns/checkpoint"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// TestColdStart: a server that starts while the API is away answers with the names of the run before, under a short TTL and saying in its metrics
// that they are old; what it does not know may exist. Pieces of the present state take nothing away; all of it takes the old one's place.
func TestColdStart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state", "names")
	cfg := dns.Config{
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Checkpoint: path, Cluster: "https://here", TTL: 30 * time.Second,
		Service: name("kube-system/kube-dns"),
	}
	st := store.New()
	load(st, fixture(), false)
	s, err := dns.New(st, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	eventually(t, "the first file", func() bool { _, err := os.Stat(path); return err == nil })
	// What changes after that is written at the end.
	mustUpdate(st, func(tx *store.Txn) { tx.PutService(service("testns/late", ips("10.0.0.99"), "http:80")) })
	eventually(t, "the late name", func() bool { return rcode(t, s.Addrs()[0], "late.testns.svc.cluster.local") == "NOERROR" })
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", i, err)
	}
	if left, err := filepath.Glob(path + ".*"); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}

	st = store.New()
	services, slices := st.Announce("services"), st.Announce("endpointslices")
	if s, err = dns.New(st, cfg); err != nil {
		t.Fatal(err)
	}
	run(t, s)
	srv := s.Addrs()[0]
	known := map[string]string{
		"svc1.testns.svc.cluster.local": "NOERROR 10.0.0.1", "late.testns.svc.cluster.local": "NOERROR 10.0.0.99", "pod-a.hdls1.testns.svc.cluster.local": "NOERROR 172.0.0.6",
		"emptyns.svc.cluster.local": "NOERROR", "nosuch.testns.svc.cluster.local": "SERVFAIL", "svc1.nowhere.svc.cluster.local": "SERVFAIL",
	}
	all := func(when string) {
		t.Helper()
		for n, want := range known {
			in := ask(t, srv, "udp", n, "A")
			if got := brief(in); got != want {
				t.Errorf("%s: %s: %s, want %s", when, n, got, want)
			}
			short(t, when, in)
		}
		for n, qtype := range map[string]string{
			"_http._tcp.svc1.testns.svc.cluster.local": "SRV", "hdls1.testns.svc.cluster.local": "SRV", "1.0.0.10.in-addr.arpa": "PTR", "svc1.testns.svc.cluster.local": "TXT",
			"emptyns.svc.cluster.local": "A",
		} {
			in := ask(t, srv, "tcp", n, qtype)
			if in.Rcode != miekg.RcodeSuccess || len(in.Answer)+len(in.Ns) == 0 {
				t.Errorf("%s: %v", when, in)
			}
			short(t, when, in)
		}
		if in := ask(t, srv, "udp", "hdlslarge.testns.svc.cluster.local", "A"); !in.Truncated {
			t.Errorf("%s: hdlslarge: %v", when, in)
		}
		m := gathered(t, s)
		if m["fairway_dns_names_stale"] != 1 {
			t.Errorf("%s: not said to be stale: %v", when, m["fairway_dns_names_stale"])
		}
	}
	all("at start")
	// A list comes, in which one Service has gone, and before the slices do.
	mustUpdate(st, func(tx *store.Txn) {
		for _, svc := range fixture().Services {
			tx.PutService(svc)
		}
	})
	services()
	all("with half of the lists")
	w := fixture()
	mustUpdate(st, func(tx *store.Txn) {
		for _, n := range w.Namespaces {
			tx.PutNamespace(&model.Namespace{Name: n})
		}
		for _, sl := range w.Slices {
			tx.PutSlice(sl)
		}
	})
	slices()
	eventually(t, "the present names", func() bool { return rcode(t, srv, "late.testns.svc.cluster.local") == "NXDOMAIN" })
	if in := ask(t, srv, "udp", "svc1.testns.svc.cluster.local", "A"); brief(in) != "NOERROR 10.0.0.1" || in.Answer[0].Header().Ttl != 30 {
		t.Errorf("%v", in)
	}
	if in := ask(t, srv, "udp", "_http._tcp.svc1.testns.svc.cluster.local", "SRV"); len(in.Answer) != 1 || in.Answer[0].Header().Ttl != 30 || in.Extra[0].Header().Ttl != 30 {
		t.Errorf("%v", in)
	}
	eventually(t, "not stale", func() bool { return gathered(t, s)["fairway_dns_names_stale"] == 0 })
}

// short fails for a record that lives longer than what may be old should.
func short(t *testing.T, when string, in *miekg.Msg) {
	t.Helper()
	for _, rr := range slices.Concat(in.Answer, in.Ns, in.Extra) {
		if rr.Header().Rrtype != miekg.TypeOPT && rr.Header().Ttl > 5 {
			t.Errorf("%s: %v", when, rr)
		}
		if soa, ok := rr.(*miekg.SOA); ok && soa.Minttl > 5 {
			t.Errorf("%s: %v", when, rr)
		}
	}
}

// TestBadCheckpoint: a file that was cut, changed or is of another cluster is not used, and that is said.
func TestBadCheckpoint(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	st := store.New()
	load(st, fixture(), false)
	snap := st.Snapshot()
	if err := checkpoint.Write(&b, "here", time.Unix(1000, 0), func(yield func(string) bool) { yield("testns") }, func(yield func(*model.Service, iter.Seq[*model.EndpointSlice]) bool) {
		for svc := range snap.Services.All() {
			yield(svc, snap.Slices(svc.Name))
		}
	}); err != nil {
		t.Fatal(err)
	}
	good := b.String()
	if n, err := checkpoint.Read(strings.NewReader(good), "here"); err != nil || len(n.Services) != snap.Services.Len() {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "names")
	cut := strings.LastIndex(strings.TrimSpace(good), "\n") + 1 // the last line
	for what, text := range map[string]string{
		"is empty":           "",
		"of another cluster": strings.Replace(good, `"here"`, `"there"`, 1),
		"version 9 is not":   strings.Replace(good, `"fairwayNames":1`, `"fairwayNames":9`, 1),
		"it was changed":     strings.Replace(good, "10.0.0.1", "10.0.0.2", 1),
		"its end is missing": good[:cut],
		"header":             "\x00\x01" + good,
	} {
		writeFile(t, path, text)
		var log logBuffer
		s, err := dns.New(store.New(), dns.Config{
			Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Checkpoint: path, Cluster: "here", Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if !strings.Contains(log.String(), what) {
			t.Errorf("%s:\n%s", what, log.String())
		}
	}
	// Whatever is cut off, at any place, is found out.
	for i := 0; i < len(good)-1; i += 7 {
		if _, err := checkpoint.Read(strings.NewReader(good[:i]), "here"); err == nil {
			t.Fatalf("cut to %d of %d bytes, and read", i, len(good))
		}
	}
}
