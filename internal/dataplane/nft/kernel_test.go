package nft

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit"

	"golang.org/x/sys/unix"
)

func planOf(name string, n byte, backends ...string) *plan.Service {
	p := &plan.Service{Name: model.Name{Namespace: "default", Name: name}, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, n})}}
	var c plan.Choice
	for _, b := range backends {
		c.Backends = append(c.Backends, netip.MustParseAddrPort(b))
	}
	key := plan.Key{Addr: p.ClusterIPs[0], Protocol: model.TCP, Port: 80}
	p.Frontends = []plan.Frontend{{Key: key, Inside: c, Outside: c, Masquerade: plan.MasqueradeNonPods}}
	return p
}

// TestBlame gives the kernel three Services in one transaction, one of which it must refuse, and wants that one named and nothing
// written; without it the others go in.
func TestBlame(t *testing.T) {
	t.Parallel()
	ns := testkit.NewNetNS(t)
	var k *kernel
	var err error
	ns.Do(func() { k, err = newKernel("blame", nil, nil) })
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	if err := k.refresh(); err != nil {
		t.Fatal(err)
	}
	// A backend of the other family does not fit into the map.
	bad := planOf("bad", 2, "[fd00::1]:80")
	good := []*plan.Service{planOf("good", 1, "10.1.0.1:80", "10.1.0.2:80"), planOf("fine", 3, "10.1.0.3:80")}
	err = k.apply(slices.Values([]*plan.Service{good[0], bad, good[1]}))
	var b *blame
	if !errors.As(err, &b) || len(b.services) != 1 || b.services[bad.Name] == nil {
		t.Fatalf("apply: %v (%T)", err, err)
	}
	if got := b.services[bad.Name].Error(); !strings.HasPrefix(got, "service default/bad: write to nftables: invalid argument") {
		t.Errorf("error %q", got)
	}
	k.doubt(true)
	if err := k.refresh(); err != nil {
		t.Fatal(err)
	}
	if n := len(k.mirror.frontends); n != 0 {
		t.Errorf("the refused transaction left %d frontends", n)
	}
	if err := k.apply(slices.Values(good)); err != nil {
		t.Fatal(err)
	}
	k.doubt(false)
	if err := k.refresh(); err != nil {
		t.Fatal(err)
	}
	if h := k.mirror.frontends[good[0].Frontends[0].Key]; len(k.mirror.frontends) != 2 || !slices.Equal(h.in, good[0].Frontends[0].Inside.Backends) {
		t.Errorf("read back %d frontends, %+v", len(k.mirror.frontends), h)
	}
}

// TestRandomPlans applies random plans over one another, incrementally, and after each finds the kernel, read back, as the plans say; what is
// applied twice writes nothing.
func TestRandomPlans(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	ns := testkit.NewNetNS(t)
	var k *kernel
	var err error
	ns.Do(func() { k, err = newKernel("random", nil, nil) })
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	if err := k.refresh(); err != nil {
		t.Fatal(err)
	}
	now := map[model.Name]*plan.Service{}
	for round := range 60 {
		var changed []*plan.Service
		for _, n := range r.Perm(8)[:1+r.IntN(5)] {
			p := randomPlan(r, n)
			now[p.Name] = p
			changed = append(changed, p)
		}
		if err := k.apply(slices.Values(changed)); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if round%2 == 0 {
			k.doubt(false)
			if err := k.refresh(); err != nil {
				t.Fatal(err)
			}
			want := 0
			for _, p := range now {
				want += len(p.Frontends)
				if c := k.diff(p); len(c.ops) != 0 {
					t.Fatalf("round %d: %s: the kernel differs by %+v", round, p, c.ops)
				}
			}
			if len(k.mirror.frontends) != want {
				t.Fatalf("round %d: the kernel has %d frontends, want %d", round, len(k.mirror.frontends), want)
			}
		}
	}
}

// randomPlan gives the n-th Service with up to three frontends of any kind.
func randomPlan(r *rand.Rand, n int) *plan.Service {
	p := &plan.Service{Name: model.Name{Namespace: "random", Name: fmt.Sprint(n)}}
	for i := range r.IntN(4) {
		addr := netip.AddrFrom4([4]byte{10, 96, byte(n), byte(i)})
		pod := func(j int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, 0, byte(j)}) }
		if i == 1 {
			addr = netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(n), 15: byte(i)})
			pod = func(j int) netip.Addr { return netip.AddrFrom16([16]byte{0: 0xfd, 1: 1, 15: byte(j)}) }
		}
		choose := func() (c plan.Choice) {
			for j := range 12 {
				if r.IntN(2) == 0 {
					c.Backends = append(c.Backends, netip.AddrPortFrom(pod(j), 8080))
				}
			}
			if len(c.Backends) == 0 {
				c.Verdict = plan.Verdict(1 + r.IntN(2))
			}
			return c
		}
		f := plan.Frontend{Key: plan.Key{Addr: addr, Protocol: model.TCP, Port: 80}, Inside: choose(), Masquerade: plan.Masquerade(r.IntN(4))}
		f.Outside, f.Sticky = f.Inside, f.Key
		if i == 2 {
			f.Sticky = p.Frontends[0].Key // two frontends of one port
		}
		if r.IntN(2) == 0 {
			f.Split, f.Outside = true, choose()
		}
		if r.IntN(3) == 0 {
			f.Affinity = time.Duration(1+r.IntN(2)) * time.Minute
		}
		for range r.IntN(3) {
			q, _ := addr.Prefix(8 + r.IntN(addr.BitLen()-8))
			f.Sources = append(f.Sources, q)
		}
		p.Frontends = append(p.Frontends, f)
		p.ClusterIPs = append(p.ClusterIPs, addr)
		if r.IntN(2) == 0 {
			p.Hairpin = append(p.Hairpin, pod(r.IntN(4)))
		}
	}
	slices.SortFunc(p.Hairpin, netip.Addr.Compare)
	p.Hairpin = slices.Compact(p.Hairpin)
	return p
}

// TestSlots holds what one change of backends costs: who stays keeps the slot, the last ones move into the holes.
func TestSlots(t *testing.T) {
	t.Parallel()
	key := plan.Key{Addr: netip.MustParseAddr("10.96.0.1"), Protocol: model.TCP, Port: 80}
	list := func(s string) (out []netip.AddrPort) {
		for _, c := range s {
			var b netip.AddrPort
			if c != '.' {
				b = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(c)}), 80)
			}
			out = append(out, b)
		}
		return out
	}
	text := func(bs []netip.AddrPort) string {
		var out []byte
		for _, b := range bs {
			out = append(out, b.Addr().As4()[3])
		}
		return string(out)
	}
	for _, c := range []struct {
		old, want, now string
		ops            int
	}{
		{"", "", "", 0},
		{"", "abc", "abc", 3},
		{"abc", "abc", "abc", 0},
		{"cab", "abc", "cab", 0},
		{"abc", "", "", 3},
		{"abcd", "acd", "adc", 3}, // d moves into b's slot: two deletions, one addition
		{"abcd", "abc", "abc", 1},
		{"abc", "abcd", "abcd", 1},
		{"abc", "acx", "axc", 2},
		{"abcde", "ae", "ae", 5},
		{"a.c", "abc", "abc", 1}, // a slot that somebody deleted
		{"aab", "ab", "ab", 3},   // a backend that somebody added twice
	} {
		var ch change
		now := ch.slots(key, 0, list(c.old), list(c.want))
		if text(now) != c.now || len(ch.ops) != c.ops {
			t.Errorf("%q → %q: %q with %d operations, want %q with %d", c.old, c.want, text(now), len(ch.ops), c.now, c.ops)
		}
	}
}

func TestClassNames(t *testing.T) {
	t.Parallel()
	for _, c := range []class{
		{in: 3, out: 3}, {in: 3, out: 3, masquerade: plan.MasqueradeNonPods}, {in: poolReject, out: poolReject},
		{in: 2, out: poolDrop, split: true, masquerade: plan.MasqueradeNode},
		{in: 5000, out: 1, split: true, sticky: 10800, restricted: true, masquerade: plan.MasqueradeAll},
	} {
		if got, ok := parseClass(c.String()); !ok || got != c {
			t.Errorf("%q is read back as %+v, %v, want %+v", c, got, ok, c)
		}
	}
	for _, s := range []string{"", "backends", "backends 0", "backends -1", "backends 3 masquerade", "backends 3 masquerade us", "backend 3", "affinity 5"} {
		if c, ok := parseClass(s); ok {
			t.Errorf("%q is read as %+v", s, c)
		}
	}
}

// TestLayout replaces tables that another version left. Where packets entered before they must go on entering, and find what they found: nothing is
// written until rules and elements can come in one transaction.
func TestLayout(t *testing.T) {
	t.Parallel()
	for _, open := range []bool{true, false} {
		for _, inPieces := range []bool{false, true} {
			ns := testkit.NewNetNS(t)
			chain := ""
			if open {
				chain = "chain prerouting { type nat hook prerouting priority dstnat; };"
			}
			ns.Run("nft", `table ip old { comment "fairway, layout 0"; set services { type inet_service; elements = { 80 }; }; `+chain+` }`)
			var k *kernel
			var err error
			ns.Do(func() { k, err = newKernel("old", nil, nil) })
			if err != nil {
				t.Fatal(err)
			}
			defer k.close()
			k.inPieces = inPieces
			if err := k.refresh(); err != nil {
				t.Fatal(err)
			}
			gathers := open && !inPieces
			check := func(when string, f *family, want bool) {
				t.Helper()
				rules := strings.Count(ns.Run("nft", "list", "table", f.name(), "old"), "meta priority vmap @picks")
				if (rules > 0) != want {
					t.Errorf("%s, packets entered before: %v: table %s has %d ways in, want any: %v", when, open, f.name(), rules, want)
				}
			}
			if gathers {
				if now := ns.Run("nft", "list", "ruleset"); !strings.Contains(now, "layout 0") || !strings.Contains(now, "80") || strings.Contains(now, "ip6") {
					t.Errorf("before anything can be replaced:\n%s", now)
				}
			} else {
				check("before anything is applied", ipv4, open)
				check("before anything is applied", ipv6, false)
			}
			generation := k.generation
			if err := k.apply(slices.Values([]*plan.Service{planOf("web", 1, "10.1.0.1:80", "10.1.0.2:80")})); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(k.prune(), k.openBase(), k.finish()); err != nil {
				t.Fatal(err)
			}
			if transactions := k.generation - generation; gathers && transactions != 1 || !gathers && transactions < 2 {
				t.Errorf("%d transactions; packets entered before: %v, in pieces: %v", transactions, open, inPieces)
			}
			if foreign, err := k.foreign(); foreign || err != nil {
				t.Errorf("its own transaction is taken for somebody else's, %v", err)
			}
			if now, err := k.conn.layoutOf(ipv4, "old"); now != layout || err != nil {
				t.Errorf("layout %q, %v, want %q", now, err, layout)
			}
			check("at last", ipv4, true)
			check("at last", ipv6, true)
			for _, rules := range []bool{false, true} {
				k.doubt(rules)
				if err := k.refresh(); err != nil {
					t.Fatal(err)
				}
				if n := len(k.mirror.frontends); n != 1 {
					t.Errorf("read back %d frontends", n)
				}
			}
		}
	}
}

// TestLayoutTooLarge has the kernel refuse the one transaction that replaces a table of another layout: then it is done in pieces.
func TestLayoutTooLarge(t *testing.T) {
	t.Parallel()
	ns := testkit.NewNetNS(t)
	ns.Run("nft", `table ip old { comment "fairway, layout 0"; chain prerouting { type nat hook prerouting priority dstnat; }; }`)
	st := store.New()
	_, _ = st.Update(func(txn *store.Txn) error {
		txn.PutService(&model.Service{Name: model.Name{Namespace: "default", Name: "web"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
			Ports: []model.Port{{Protocol: model.TCP, Port: 80}}})
		return nil
	})
	d := New(st, Config{Table: "old"})
	refused := 0
	d.between = func(s socket) socket { return &narrow{s, 8 << 10, &refused} }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	withdraw := st.Expect(Consumer)
	go ns.Do(func() { defer close(done); _ = d.Run(ctx) })
	limit, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	err := st.Applied(limit, st.Snapshot().Revision, Consumer)
	cancel()
	<-done
	withdraw()
	if err != nil || refused == 0 {
		t.Fatalf("in force: %v; %d transactions were refused", err, refused)
	}
	if out := ns.Run("nft", "list", "table", "ip", "old"); !strings.Contains(out, "default/web") || !strings.Contains(out, layout) {
		t.Errorf("it holds\n%s", out)
	}
}

// narrow is a socket that refuses a first transaction of more than most bytes.
type narrow struct {
	socket
	most    int
	refused *int
}

func (n *narrow) send(b []byte) error {
	if len(b) > n.most && *n.refused == 0 {
		*n.refused++
		return unix.EMSGSIZE
	}
	return n.socket.send(b)
}

// TestRangesWhileInDoubt changes the Service ranges while the sets are about to be read again because of somebody else's transaction: the
// rules are as they were written, and have to be others all the same.
func TestRangesWhileInDoubt(t *testing.T) {
	t.Parallel()
	ns := testkit.NewNetNS(t)
	var k *kernel
	var err error
	first, added := netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.97.0.0/24")
	ns.Do(func() { k, err = newKernel("doubt", []netip.Prefix{first}, nil) })
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	bring := func(ranges ...netip.Prefix) {
		t.Helper()
		if err := errors.Join(k.setServiceRanges(ranges), k.refresh(), k.openBase()); err != nil {
			t.Fatal(err)
		}
		listing := ns.Run("nft", "list", "table", "ip", "doubt")
		if got, want := strings.Contains(listing, added.String()), slices.Contains(ranges, added); got != want || !strings.Contains(listing, first.String()) {
			t.Fatalf("ranges %v:\n%s", ranges, listing)
		}
	}
	bring(first)
	k.doubt(false)
	bring(first, added)
	k.doubt(false)
	bring(first)
	bring(first, added)
}
