package nft_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/sim"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit/connections"
)

// TestServiceRanges adds a ServiceCIDR and takes it away: addresses of it that no Service has are dropped meanwhile and no longer, its
// Services work, and a connection that is open all the time goes on.
func TestServiceRanges(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	out, node := l.ns[connections.Outside], l.ns[connections.OnNode]
	for _, f := range connections.Families {
		// A host outside has an address of the coming range, and answers there: nothing but the rule keeps packets from it.
		host, bits := f.External(9), "/32"
		if f.IPv6 {
			bits = "/128"
		}
		out.AddLink("host" + bits[1:])
		out.AddAddr("host"+bits[1:], host.String()+bits)
		node.AddRoute(host.String()+bits, f.Addr(connections.Outside).String(), "out0")
		out.AddRoute(f.Addr(connections.PodC).String()+bits, f.Addr(connections.OnNode).String(), "eth0")
	}
	l.serve(connections.Outside, connections.Listen)
	host := func(f connections.Family) plan.Key {
		return plan.Key{Addr: f.External(9), Protocol: model.TCP, Port: connections.Listen}
	}
	l.start()
	held, slice := web(v4, 1, "held", connections.PodA)
	l.applied(connections.Put(l.store, nil, []*model.Service{held}, []*model.EndpointSlice{slice}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	echo, err := l.ns[connections.PodA].Listen("tcp", ":7070")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = echo.Close() }()
	go func() {
		for c, err := echo.Accept(); err == nil; c, err = echo.Accept() {
			go func() {
				b := make([]byte, 1)
				for _, err := c.Read(b); err == nil; _, err = c.Read(b) {
					_, _ = c.Write(b)
				}
			}()
		}
	}()
	long, longSlice := web(v4, 2, "long", connections.PodA)
	longSlice.Ports[0].Port = 7070
	l.applied(connections.Put(l.store, nil, []*model.Service{long}, []*model.EndpointSlice{longSlice}))
	conn, err := l.ns[connections.PodC].Dial(ctx, "tcp", netip.AddrPortFrom(tcp(2).Addr, tcp(2).Port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	goesOn := func(when string) {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, err := conn.Write([]byte("x"))
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		if err != nil {
			t.Fatalf("the open connection %s: %v", when, err)
		}
	}
	goesOn("before")
	update := func(f func(*store.Txn)) {
		t.Helper()
		rev, _ := l.store.Update(func(tx *store.Txn) error { f(tx); return nil })
		l.applied(rev)
	}
	for _, f := range connections.Families {
		l.expect(connections.PodC, host(f), sim.Forward, connections.Outside)
	}
	update(func(tx *store.Txn) {
		tx.PutServiceCIDR(&model.ServiceCIDR{Name: "added", CIDRs: connections.ExternalCIDRs})
	})
	for _, f := range connections.Families {
		l.expect(connections.PodC, host(f), sim.Drop, "")
		l.expect(connections.OnNode, host(f), sim.Drop, "")
	}
	goesOn("with the range")
	inRange, inSlice := web(v4, 3, "in-range", connections.PodA)
	inRange.ClusterIPs = []netip.Addr{v4.External(7)}
	l.applied(connections.Put(l.store, nil, []*model.Service{inRange}, []*model.EndpointSlice{inSlice}))
	l.expect(connections.PodC, plan.Key{Addr: v4.External(7), Protocol: model.TCP, Port: 80}, sim.Forward, connections.PodA)
	l.expect(connections.PodC, plan.Key{Addr: v4.External(7), Protocol: model.TCP, Port: 81}, sim.Reject, "")
	update(func(tx *store.Txn) { tx.DeleteServiceCIDR("added") })
	for _, f := range connections.Families {
		l.expect(connections.PodC, host(f), sim.Forward, connections.Outside)
	}
	goesOn("without the range")
	l.expect(connections.PodC, tcp(1), sim.Forward, connections.PodA) // nothing else has moved
}
