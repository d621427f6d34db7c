package nft_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/dataplane/sim"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit"
	"fairway.dev/fairway/internal/testkit/connections"
)

// lab is the world of package connections in network namespaces: the node in the middle, a client outside, and Pods behind routed
// wires. Every Pod answers on the ports Listen and Second with its name and with the address that it sees.
type lab struct {
	beforeRemoval func(context.Context, store.Revision) // may be nil
	t             testing.TB
	store         *store.Store
	ns            map[connections.Place]*testkit.NetNS
	ports         map[connections.Backend]io.Closer // closing one makes the kernel refuse connections there
}

func newLab(t testing.TB) *lab {
	l := &lab{t: t, store: store.New(), ns: map[connections.Place]*testkit.NetNS{}, ports: map[connections.Backend]io.Closer{}}
	node, out := testkit.NewNetNS(t), testkit.NewNetNS(t)
	l.ns[connections.OnNode], l.ns[connections.Outside] = node, out
	for _, s := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		node.Sysctl("net/"+s, "1")
	}
	node.Sysctl("net/ipv4/conf/all/send_redirects", "0") // a Pod to itself would be told of a better way

	testkit.Join(node, "out0", out, "eth0")
	node.AddLink("fairway0") // where clients on the node are routed before their destination is translated
	for _, f := range connections.Families {
		bits := map[bool]string{false: "/24", true: "/64"}[f.IPv6]
		node.AddAddr("out0", f.Addr(connections.OnNode).String()+bits)
		out.AddAddr("eth0", f.Addr(connections.Outside).String()+bits)
		for _, p := range append(connections.ServiceCIDRs, connections.ExternalCIDRs...) {
			if p.Addr().Is6() == f.IPv6 {
				node.AddRoute(p.String(), "", "fairway0")
				out.AddRoute(p.String(), f.Addr(connections.OnNode).String(), "eth0")
			}
		}
	}
	for _, p := range connections.Pods {
		l.addPod(p)
	}
	return l
}

func (l *lab) addPod(p connections.Place) {
	node, pod := l.ns[connections.OnNode], testkit.NewNetNS(l.t)
	l.ns[p] = pod
	wire := "pod-" + string(p)
	testkit.Join(node, wire, pod, "eth0")
	node.AddAddr(wire, "fe80::1/64")
	pod.AddRoute(connections.Families[0].Addr(connections.OnNode).String()+"/32", "", "eth0")
	for _, f := range connections.Families {
		bits, gateway := "/32", f.Addr(connections.OnNode).String()
		if f.IPv6 {
			bits, gateway = "/128", "fe80::1"
		}
		pod.AddAddr("eth0", f.Addr(p).String()+bits)
		node.AddRoute(f.Addr(p).String()+bits, "", wire)
		for _, r := range append(append([]string{"192.0.2.0/24", "2001:db8::/64"}, texts(connections.PodCIDRs)...),
			append(texts(connections.ServiceCIDRs), texts(connections.ExternalCIDRs)...)...) {
			if strings.Contains(r, ":") == f.IPv6 {
				pod.AddRoute(r, gateway, "eth0")
			}
		}
	}
	for _, port := range []int{connections.Listen, connections.Second} {
		l.serve(p, port)
	}
}

func texts(ps []netip.Prefix) (out []string) {
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

// serve answers TCP and UDP on one port of a Pod.
func (l *lab) serve(p connections.Place, port int) {
	addr := fmt.Sprintf(":%d", port)
	tcp, err := l.ns[p].Listen("tcp", addr)
	if err != nil {
		l.t.Fatal(err)
	}
	udp, err := l.ns[p].ListenPacket("udp", addr)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _, _ = tcp.Close(), udp.Close() })
	answer := func(a net.Addr) []byte {
		at, _ := netip.ParseAddrPort(a.String())
		return fmt.Appendf(nil, "%s %d %s\n", p, port, at.Addr().Unmap())
	}
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write(answer(c.RemoteAddr()))
			_ = c.Close()
		}
	}()
	go func() {
		b := make([]byte, 64)
		for {
			_, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(answer(from), from)
		}
	}()
	l.ports[connections.Backend{Place: p, Port: uint16(port)}] = tcp
}

// start runs a Dataplane on the node until the test ends or the function returned is called.
func (l *lab) start() (stop func()) { return l.startWith(func(*nft.Dataplane) {}) }

// startLayout is start of a version whose sets have another layout; "" is this one's.
func (l *lab) startLayout(layout string) (stop func()) {
	return l.startWith(func(d *nft.Dataplane) {
		if layout != "" {
			d.SetLayout(layout)
		}
	})
}

// startWith is start of a Dataplane that has been prepared.
func (l *lab) startWith(prepare func(*nft.Dataplane)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	ready := make(chan struct{})
	cfg := nft.Config{Node: connections.Node, ServiceCIDRs: connections.ServiceCIDRs, PodCIDRs: connections.PodCIDRs}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	cfg.BeforeRemoval = l.beforeRemoval
	d := nft.New(l.store, cfg)
	prepare(d)
	go l.ns[connections.OnNode].Do(func() {
		close(ready)
		done <- d.Run(ctx)
	})
	<-ready
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			l.t.Errorf("Run: %v", err)
		}
	}
	l.t.Cleanup(stop)
	l.await(func() bool { return len(l.store.Statuses()) > 0 })
	return stop
}

func (l *lab) await(cond func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("waited too long; statuses %+v", l.store.Statuses())
		}
	}
}

// applied waits until a revision is in force.
func (l *lab) applied(rev store.Revision) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := l.store.Applied(ctx, rev, nft.Consumer); err != nil {
		l.t.Fatalf("revision %d is not in force: %v; statuses %+v", rev, err, l.store.Statuses())
	}
	if s := l.store.Statuses()[0]; s.Err != nil || len(s.Failed) > 0 {
		l.t.Fatalf("revision %d: %+v", rev, s)
	}
}

// answer is what one connection met.
type answer struct {
	verdict sim.Verdict
	backend connections.Backend
	source  netip.Addr
}

// ask opens one flow and gives what became of it. Silence for patience counts as a drop.
func (l *lab) ask(from connections.Place, to plan.Key, patience time.Duration) (answer, error) {
	network := strings.ToLower(to.Protocol.String())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := l.ns[from].Dial(ctx, network, netip.AddrPortFrom(to.Addr, to.Port).String())
	if err != nil {
		return silent(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if to.Protocol == model.UDP {
		if _, err := c.Write([]byte("?")); err != nil {
			return silent(err)
		}
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return silent(err)
	}
	a := answer{verdict: sim.Forward}
	var source string
	if _, err := fmt.Sscan(line, &a.backend.Place, &a.backend.Port, &source); err != nil {
		return answer{}, fmt.Errorf("answer %q: %w", line, err)
	}
	a.source, err = netip.ParseAddr(source)
	return a, err
}

func silent(err error) (answer, error) {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return answer{verdict: sim.Reject}, nil
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return answer{verdict: sim.Drop}, nil
	}
	return answer{}, err
}
