package nodelocal_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"

	"fairway.dev/fairway/internal/dataplane/nodelocal"
	"fairway.dev/fairway/internal/testkit"
)

// track makes the namespace track connections as a node with Services does: with NAT chains that ask conntrack.
func track(t *testing.T, n *testkit.NetNS) {
	n.Do(func() {
		conn, err := nftables.New()
		if err != nil {
			t.Error(err)
			return
		}
		table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "nat"})
		for name, hook := range map[string]*nftables.ChainHook{"prerouting": nftables.ChainHookPrerouting, "output": nftables.ChainHookOutput} {
			chain := conn.AddChain(&nftables.Chain{Name: name, Table: table, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: nftables.ChainPriorityNATDest})
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}, &expr.Counter{}}})
		}
		if err := conn.Flush(); err != nil {
			t.Error(err)
		}
	})
}

// tracked gives the flows of a namespace that have to do with a port of an address; the kernel's own multicast has none.
func tracked(t *testing.T, n *testkit.NetNS, addrs []netip.Addr, port uint16) (out []string) {
	n.Do(func() {
		for _, family := range []netlink.InetFamily{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
			if err != nil {
				t.Errorf("list: %v", err)
			}
			for _, f := range flows {
				dst, _ := netip.AddrFromSlice(f.Forward.DstIP)
				src, _ := netip.AddrFromSlice(f.Forward.SrcIP)
				if f.Forward.DstPort == port && slices.Contains(addrs, dst.Unmap()) || f.Forward.SrcPort == port && slices.Contains(addrs, src.Unmap()) {
					out = append(out, f.String())
				}
			}
		}
	})
	return out
}

// echo answers over UDP and TCP what it was sent.
func echo(t *testing.T, n *testkit.NetNS, at netip.AddrPort) {
	pc, err := n.ListenPacket("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	l, err := n.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close(); l.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			k, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(b[:k], from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 100)
				k, err := c.Read(b)
				if err == nil {
					_, _ = c.Write(b[:k])
				}
			}()
		}
	}()
}

func ask(n *testkit.NetNS, network string, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := n.Dial(ctx, network, to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	// A datagram may be lost while neighbours find each other: it is sent again over the same socket.
	patience := 20 * time.Second
	if network == "udp" {
		patience = time.Second
	}
	for {
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("?")); err != nil {
			return err
		}
		b := make([]byte, 2)
		k, err := c.Read(b)
		if network == "udp" && errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			continue
		}
		if err == nil && string(b[:k]) != "?" {
			err = errors.New(string(b[:k]))
		}
		return err
	}
}

// TestUntracked: a Pod and the node itself reach what listens at the address, over both transports and families, and conntrack has no entry of
// it; another port is tracked as ever, and so is this one once everything is taken away.
func TestUntracked(t *testing.T) {
	node, pod := testkit.NewNetNS(t), testkit.NewNetNS(t)
	testkit.Join(node, "pod0", pod, "eth0")
	for _, a := range []string{"10.244.0.1/24", "fd66:244::1/64"} {
		node.AddAddr("pod0", a)
	}
	for _, a := range []string{"10.244.0.7/24", "fd66:244::7/64"} {
		pod.AddAddr("eth0", a)
	}
	pod.AddRoute("10.96.0.0/16", "10.244.0.1", "eth0")
	pod.AddRoute("fd66:96::/112", "fd66:244::1", "eth0")
	track(t, node)
	addrs := []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd66:96::a")}
	do := func(f func() error) {
		t.Helper()
		node.Do(func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		})
	}
	do(func() error { return nodelocal.Setup("fairway", addrs, 53) })
	do(func() error { return nodelocal.Setup("fairway", addrs, 53) }) // once more
	for _, a := range addrs {
		echo(t, node, netip.AddrPortFrom(a, 53))
		echo(t, node, netip.AddrPortFrom(a, 54))
	}
	everybody := func(port uint16) {
		t.Helper()
		for _, from := range []*testkit.NetNS{pod, node} {
			for _, network := range []string{"udp", "tcp"} {
				for _, a := range addrs {
					if err := ask(from, network, netip.AddrPortFrom(a, port)); err != nil {
						t.Errorf("%s to %s port %d from node %v: %v", network, a, port, from == node, err)
					}
				}
			}
		}
	}
	everybody(53)
	if flows := tracked(t, node, addrs, 53); len(flows) > 0 {
		t.Errorf("tracked: %v", flows)
	}
	everybody(54)
	if flows := tracked(t, node, addrs, 54); len(flows) < 8 {
		t.Errorf("the test sees only %d flows of another port", len(flows))
	}
	do(func() error { return nodelocal.Cleanup("fairway") })
	do(func() error { return nodelocal.Cleanup("fairway") })
	node.Do(func() {
		if links, err := netlink.LinkList(); err != nil || len(links) != 2 {
			t.Errorf("left: %v %v", links, err)
		}
		conn, err := nftables.New()
		if err != nil {
			t.Fatal(err)
		}
		tables, err := conn.ListTables()
		if err != nil || len(tables) != 1 {
			t.Error(len(tables), err)
		}
	})
}
