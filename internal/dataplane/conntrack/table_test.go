package conntrack_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/conntrack"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/testkit"
)

// open opens the table of a namespace in which conntrack works, which it does only where somebody asks for it.
func open(t testing.TB, ns *testkit.NetNS) *conntrack.Table {
	t.Helper()
	ns.Run("nft", "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c ct state new counter")
	var table *conntrack.Table
	var err error
	ns.Do(func() { table, err = conntrack.Open() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	return table
}

// TestSweep makes real flows in a namespace and finds the stale ones deleted, and no other.
func TestSweep(t *testing.T) {
	t.Parallel()
	ns := testkit.NewNetNS(t)
	table := open(t, ns)
	flow := func(network, to string) net.Conn {
		c, err := ns.Dial(t.Context(), network, to)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	for _, addr := range []string{"127.0.0.1:5301", "127.0.0.1:5302", "127.0.0.2:5301", "[::1]:5301"} {
		p, err := ns.ListenPacket("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		flow("udp", addr)
	}
	l, err := ns.Listen("tcp", "127.0.0.1:5301")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	established := flow("tcp", "127.0.0.1:5301")
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}

	sweep := func(s conntrack.Serving, want int) {
		t.Helper()
		if n, err := table.Sweep(s); n != want || err != nil {
			t.Errorf("deleted %d flows, %v, want %d", n, err, want)
		}
	}
	sweep(nil, 0)
	sweep(serving(map[string][]string{"127.0.0.1:5301": {"127.0.0.1:5301"}, "[::1]:5301": {"[::1]:5301"}}), 0)
	sweep(serving(map[string][]string{"127.0.0.1:5301": {"127.0.0.9:5301"}, "[::1]:5301": nil}), 2)
	sweep(serving(map[string][]string{"127.0.0.1:5301": nil, "[::1]:5301": nil}), 0) // they are gone
	many := map[string][]string{"127.0.0.1:5302": nil}
	for i := range 100 {
		many[fmt.Sprintf("10.96.0.%d:%d", i, 1000+i)] = nil
	}
	sweep(serving(many), 1)
	sweep(serving(map[string][]string{"127.0.0.2:5301": nil}), 1)

	// The TCP connection is still there: from where it is sent to, and back.
	for _, c := range []net.Conn{established, other} {
		if _, err := c.Write([]byte("y")); err != nil {
			t.Errorf("established TCP: %v", err)
		}
	}
	if n, err := table.Sweep(serving(map[string][]string{"127.0.0.1:5301": nil})); n != 0 || err != nil {
		t.Errorf("established TCP: deleted %d, %v", n, err)
	}
}

// TestSweepHalfOpen has the kernel hold TCP flows in every state: only those whose SYN nobody has answered go, in both families.
func TestSweepHalfOpen(t *testing.T) {
	t.Parallel()
	table := open(t, testkit.NewNetNS(t))
	const states = 9 // SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE, LISTEN
	for i, to := range []string{"10.96.0.1:80", "[fd96::1]:80"} {
		gone := []string{"10.1.0.1:8080", "[fd00::1]:8080"}[i]
		client := netip.MustParseAddr([]string{"192.0.2.1", "2001:db8::1"}[i])
		for state := byte(1); state <= states; state++ {
			f := conntrack.Flow{Protocol: model.TCP, To: netip.MustParseAddrPort(to), From: netip.MustParseAddrPort(gone), HalfOpen: state == 1}
			if err := table.Make(f, netip.AddrPortFrom(client, 1000+uint16(state)), state); err != nil {
				t.Fatal(err)
			}
		}
		sweep := func(want int, backends ...string) {
			t.Helper()
			if n, err := table.Sweep(serving(map[string][]string{to: backends})); n != want || err != nil {
				t.Errorf("%s served by %v: deleted %d flows, %v, want %d", to, backends, n, err, want)
			}
		}
		sweep(0, gone)
		sweep(1, netip.AddrPortFrom(client, 1).String())
		sweep(0)
	}
}

// flows is how many flows the tests with many use; a run by hand may want the hundred thousand of a busy node.
func flows(t testing.TB) int {
	if v := os.Getenv("FAIRWAY_FLOWS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatalf("FAIRWAY_FLOWS: %v", err)
		}
		return n
	}
	return 5000
}

// fill makes n flows to 100 Services: nine of ten are established TCP, the rest UDP to one backend.
func fill(t testing.TB, table *conntrack.Table, n int) {
	t.Helper()
	for i := range n {
		f := conntrack.Flow{Protocol: model.TCP, To: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 1, byte(i % 100)}), 80)}
		f.From = netip.MustParseAddrPort("10.1.0.1:80")
		if i%10 == 0 {
			f.Protocol = model.UDP
		}
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 16, byte(i >> 16), byte(i >> 8)}), 1024+uint16(i&255))
		if err := table.Make(f, client, 3); err != nil {
			t.Fatalf("flow %d: %v", i, err)
		}
	}
}

// TestSweeperBatches adds a thousand changes to the Sweeper while the table is full: the kernel is walked for many of them at a time,
// and what is stale is gone at last.
func TestSweeperBatches(t *testing.T) {
	t.Parallel()
	ns := testkit.NewNetNS(t)
	table := open(t, ns)
	fill(t, table, flows(t))
	one := conntrack.Flow{Protocol: model.UDP, To: netip.MustParseAddrPort("10.96.0.1:53"), From: netip.MustParseAddrPort("10.1.0.9:53")}
	if err := table.Make(one, netip.MustParseAddrPort("192.0.2.1:999"), 0); err != nil {
		t.Fatal(err)
	}
	s := conntrack.NewSweeper(table, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	const changes = 1000
	for i := range changes {
		k := plan.Key{Addr: netip.AddrFrom4([4]byte{10, 97, byte(i >> 8), byte(i)}), Protocol: model.UDP, Port: 53}
		if i == changes-1 {
			k.Addr = one.To.Addr()
		}
		s.Add(conntrack.Serving{k: nil})
	}
	var eyes *conntrack.Table
	var err error
	ns.Do(func() { eyes, err = conntrack.Open() })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = eyes.Close() }()
	there := func() bool {
		n, err := eyes.Count(one)
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
	for deadline := time.Now().Add(time.Minute); there(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the stale flow stays")
		}
	}
	cancel()
	<-done
	if n := table.Walks(); n > changes/10 {
		t.Errorf("%d walks for %d changes", n, changes)
	} else {
		t.Logf("%d walks for %d changes", n, changes)
	}
}

// BenchmarkSweep is one sweep of a table with FAIRWAY_FLOWS flows.
func BenchmarkSweep(b *testing.B) {
	n := flows(b)
	table := open(b, testkit.NewNetNS(b))
	fill(b, table, n)
	for name, s := range map[string]conntrack.Serving{
		"tcp":      {plan.Key{Addr: netip.MustParseAddr("10.96.0.1"), Protocol: model.TCP, Port: 80}: nil},
		"udp-1":    {plan.Key{Addr: netip.MustParseAddr("10.96.0.1"), Protocol: model.UDP, Port: 53}: nil},
		"udp-many": manyPorts(20),
	} {
		b.Run(fmt.Sprintf("flows=%d/%s", n, name), func(b *testing.B) {
			for b.Loop() {
				if _, err := table.Sweep(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func manyPorts(n int) conntrack.Serving {
	s := conntrack.Serving{}
	for i := range n {
		s[plan.Key{Addr: netip.MustParseAddr("10.96.0.1"), Protocol: model.UDP, Port: uint16(1000 + i)}] = nil
	}
	return s
}
