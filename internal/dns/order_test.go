package dns_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

func rcode(t testing.TB, srv netip.AddrPort, n string) string {
	return miekg.RcodeToString[ask(t, srv, "udp", n, "A").Rcode]
}

// TestOrder: the name of a new cluster address is answered when the data plane has it and not before; nothing else waits.
func TestOrder(t *testing.T) {
	t.Parallel()
	st := store.New()
	nft := st.Follow("nft")
	defer nft.Close()
	mustUpdate(st, func(tx *store.Txn) {
		tx.PutNamespace(&model.Namespace{Name: "a"})
		tx.PutService(headless("a/early", "http:80"))
		tx.PutSlice(slice("a/early", "1", []string{"http:80"}, "10.1.0.1"))
	})
	server, err := dns.New(st, dns.Config{AfterConsumer: "nft", Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, server)
	srv := server.Addrs()[0]
	eventually(t, "headless name", func() bool { return rcode(t, srv, "early.a.svc.cluster.local") == "NOERROR" })

	added := mustUpdate(st, func(tx *store.Txn) {
		tx.PutService(service("a/web", ips("10.0.0.1"), "http:80"))
		tx.PutSlice(slice("a/early", "1", []string{"http:80"}, "10.1.0.2"))
	})
	// The slice of the same revision shows that the server has seen it.
	eventually(t, "other change", func() bool {
		return strings.Contains(render(t, ask(t, srv, "udp", "early.a.svc.cluster.local", "A")), "10.1.0.2")
	})
	// Whoever asks now waits for the data plane, and the answer is no denial that somebody would remember.
	reported := make(chan struct{})
	waited := func(n, qtype, want string) (done chan struct{}) {
		done = make(chan struct{})
		go func() {
			defer close(done)
			got := render(t, ask(t, srv, "udp", n, qtype))
			select {
			case <-reported:
				if got != want {
					t.Errorf("%s %s, waited for: %s, want %s", n, qtype, got, want)
				}
			default:
				t.Errorf("%s %s before the data plane: %s", n, qtype, got)
			}
		}()
		return done
	}
	answered := waited("web.a.svc.cluster.local", "A", "NOERROR aa: @ A 10.0.0.1")
	for range 20 { // time for the question to come in
		if got := rcode(t, srv, "early.a.svc.cluster.local"); got != "NOERROR" {
			t.Fatalf("a name that waits for nobody: %s", got)
		}
	}
	for _, s := range st.Statuses() {
		if s.Consumer == "dns" && s.Revision >= added {
			t.Errorf("dns reports revision %d, which it does not answer in full", s.Revision)
		}
	}
	close(reported)
	nft.Report(added, nil, nil)
	<-answered
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := st.Applied(ctx, added, "dns"); err != nil {
		t.Error(err)
	}

	// A second family is added: the first one is answered all the time.
	second := mustUpdate(st, func(tx *store.Txn) {
		tx.PutService(service("a/web", ips("10.0.0.1", "fd00::1"), "http:80"))
		tx.PutSlice(slice("a/early", "1", []string{"http:80"}, "10.1.0.3"))
	})
	eventually(t, "other change", func() bool {
		return strings.Contains(render(t, ask(t, srv, "udp", "early.a.svc.cluster.local", "A")), "10.1.0.3")
	})
	if got := render(t, ask(t, srv, "udp", "web.a.svc.cluster.local", "A")); got != "NOERROR aa: @ A 10.0.0.1" {
		t.Errorf("first family meanwhile: %s", got)
	}
	reported = make(chan struct{})
	answered = waited("web.a.svc.cluster.local", "AAAA", "NOERROR aa: @ AAAA fd00::1")
	for range 20 {
		rcode(t, srv, "early.a.svc.cluster.local")
	}
	close(reported)
	nft.Report(second, nil, nil)
	<-answered

	// Removals wait for nobody: the data plane reports nothing any more.
	mustUpdate(st, func(tx *store.Txn) { tx.DeleteService(name("a/web")) })
	eventually(t, "removal", func() bool { return rcode(t, srv, "web.a.svc.cluster.local") == "NXDOMAIN" })
	// Who wants to take away what names lead to can wait for the names to go.
	mustUpdate(st, func(tx *store.Txn) { tx.PutService(headless("a/short", "http:80")) })
	for i := range 20 {
		mustUpdate(st, func(tx *store.Txn) { tx.PutSlice(slice("a/short", "1", []string{"http:80"}, "10.1.0.9")) })
		eventually(t, "an endpoint", func() bool { return rcode(t, srv, "short.a.svc.cluster.local") == "NOERROR" })
		rev := mustUpdate(st, func(tx *store.Txn) { tx.PutSlice(slice("a/short", "1", []string{"http:80"}, "!10.1.0.9")) })
		if err := server.AwaitGone(ctx, rev); err != nil {
			t.Fatal(err)
		}
		if got := rcode(t, srv, "short.a.svc.cluster.local"); got != "NXDOMAIN" {
			t.Fatalf("round %d: gone, and answered with %s", i, got)
		}
	}
	mustUpdate(st, func(tx *store.Txn) { tx.PutSlice(slice("a/early", "1", []string{"http:80"}, "!10.1.0.3")) })
	eventually(t, "no endpoint", func() bool { return rcode(t, srv, "early.a.svc.cluster.local") == "NXDOMAIN" })
}

// TestImpatience: a data plane that never comes does not keep a name away for ever.
func TestImpatience(t *testing.T) {
	t.Parallel()
	st := store.New()
	defer st.Follow("nft").Close()
	mustUpdate(st, func(tx *store.Txn) { tx.PutService(service("a/web", ips("10.0.0.1"), "http:80")) })
	var log logBuffer
	srv := serve(t, st, dns.Config{AfterConsumer: "nft", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	eventually(t, "name", func() bool { return rcode(t, srv, "web.a.svc.cluster.local") == "NOERROR" })
	eventually(t, "warning", func() bool { return strings.Contains(log.String(), "first=a/web") })
}

// TestNotSynced: as long as a list is missing, names that are not known are not denied (rule 44).
func TestNotSynced(t *testing.T) {
	t.Parallel()
	st := store.New()
	done := st.Announce("services")
	mustUpdate(st, func(tx *store.Txn) {
		tx.PutNamespace(&model.Namespace{Name: "a"})
		tx.PutService(service("a/web", ips("10.0.0.1"), "http:80"))
		tx.PutService(headless("a/none", "http:80"))
	})
	srv := serve(t, st, dns.Config{Upstreams: []netip.AddrPort{upstream(t, standardUpstream)}})
	eventually(t, "known name", func() bool { return rcode(t, srv, "web.a.svc.cluster.local") == "NOERROR" })
	ptr := func() string {
		return miekg.RcodeToString[ask(t, srv, "udp", "1.1.0.10.in-addr.arpa", "PTR").Rcode]
	}
	names := map[string]string{ // and what they are once all is known
		"other.a.svc.cluster.local": "NXDOMAIN", "none.a.svc.cluster.local": "NXDOMAIN",
		"web.b.svc.cluster.local": "NXDOMAIN", "b.svc.cluster.local": "NXDOMAIN",
	}
	for n := range names {
		m := ask(t, srv, "udp", n, "A")
		if m.Rcode != miekg.RcodeServerFailure || len(m.Ns) != 0 {
			t.Errorf("%s before sync: %s, want SERVFAIL and no SOA", n, miekg.RcodeToString[m.Rcode])
		}
	}
	if got := ptr(); got != "SERVFAIL" {
		t.Errorf("address before sync: %s", got)
	}
	if got := rcode(t, srv, "a.svc.cluster.local"); got != "NOERROR" {
		t.Errorf("known namespace before sync: %s", got)
	}
	done()
	for n, want := range names {
		eventually(t, n, func() bool { return rcode(t, srv, n) == want })
	}
	if got := ptr(); got != "NOERROR" {
		t.Errorf("address after sync: %s", got)
	}
}

// TestRename holds the second half of rule 25: another external name, then another type.
func TestRename(t *testing.T) {
	t.Parallel()
	st := store.New()
	srv := serve(t, st, dns.Config{})
	is := func(what, qtype, want string) {
		t.Helper()
		eventually(t, what, func() bool { return render(t, ask(t, srv, "udp", "x.a.svc.cluster.local", qtype)) == want })
	}
	put := func(s *model.Service) { mustUpdate(st, func(tx *store.Txn) { tx.PutService(s) }) }
	put(external("a/x", "one.test"))
	is("external name", "CNAME", "NOERROR aa: @ CNAME one.test.")
	put(external("a/x", "two.test"))
	is("other external name", "CNAME", "NOERROR aa: @ CNAME two.test.")
	put(service("a/x", ips("10.0.0.1"), "http:80"))
	is("address", "A", "NOERROR aa: @ A 10.0.0.1")
	put(headless("a/x", "http:80"))
	is("headless and empty", "A", "NXDOMAIN aa: ; SOA cluster.local.")
	mustUpdate(st, func(tx *store.Txn) { tx.PutSlice(slice("a/x", "1", []string{"http:80"}, "10.1.0.1")) })
	is("headless", "A", "NOERROR aa: @ A 10.1.0.1")
	mustUpdate(st, func(tx *store.Txn) { tx.DeleteSlice(name("a/x-1")) })
	is("headless and empty again", "A", "NXDOMAIN aa: ; SOA cluster.local.")
}

// TestPortTaken: the error names what is taken, and nothing stays open after it.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	st := store.New()
	srv := serve(t, st, dns.Config{})
	free := netip.MustParseAddrPort("127.0.0.2:0")
	_, err := dns.New(st, dns.Config{Listen: []netip.AddrPort{free, srv}})
	if err == nil || !strings.Contains(err.Error(), "UDP "+srv.String()) || !strings.Contains(err.Error(), unix.EADDRINUSE.Error()) {
		t.Errorf("UDP port taken: %v", err)
	}
	for _, bad := range []string{"192.0.2.1:0"} {
		if _, err := dns.New(st, dns.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort(bad)}}); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("address that the machine does not have: %v", err)
		}
	}
	if _, err := dns.New(st, dns.Config{}); err == nil {
		t.Error("no address: no error")
	}
	if _, err := dns.New(st, dns.Config{Listen: []netip.AddrPort{free}, Domain: "a..b"}); err == nil {
		t.Error("bad domain: no error")
	}
}

// TestNamespace: a server made on a thread in a network namespace serves there and asks its upstreams from there, whatever
// thread its goroutines run on.
func TestNamespace(t *testing.T) {
	t.Parallel()
	st := store.New()
	load(st, fixture(), false)
	type result struct {
		local, forwarded string
		err              error
	}
	results := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var r result
		defer func() { results <- r }()
		if r.err = unix.Unshare(unix.CLONE_NEWNET); r.err != nil {
			return
		}
		if r.err = loopbackUp(); r.err != nil {
			return
		}
		// The upstream listens in the namespace alone: nothing outside can answer for it.
		pc, err := net.ListenPacket("udp4", "127.0.0.1:53")
		if err != nil {
			r.err = err
			return
		}
		up := &miekg.Server{PacketConn: pc, Handler: miekg.HandlerFunc(standardUpstream)}
		done := make(chan struct{})
		go func() { defer close(done); _ = up.ActivateAndServe() }()
		s, err := dns.New(st, dns.Config{
			Listen:    []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5300")},
			Upstreams: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")},
		})
		if err != nil {
			r.err = err
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }() // on another thread, outside the namespace
		c, err := miekg.Dial("udp", "127.0.0.1:5300")
		if err != nil {
			r.err = err
			cancel()
			return
		}
		query := func(n string) string {
			if err := c.WriteMsg(message(n, "A")); err != nil {
				return err.Error()
			}
			m, err := c.ReadMsg()
			if err != nil {
				return err.Error()
			}
			return render(t, m)
		}
		eventually(t, "names", func() bool {
			r.local = query("svc1.testns.svc.cluster.local")
			return strings.HasPrefix(r.local, "NOERROR")
		})
		r.forwarded = query("example.com")
		cancel()
		r.err = <-ran
		c.Close()
		pc.Close()
		<-done
	}()
	r := <-results
	if r.err != nil {
		t.Fatal(r.err)
	}
	if r.local != "NOERROR aa: @ A 10.0.0.1" || r.forwarded != "NOERROR: @ A 5.6.7.8" {
		t.Errorf("local %q, forwarded %q", r.local, r.forwarded)
	}
}
