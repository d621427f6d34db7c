package nft_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/sim"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/testkit/connections"
)

// TestHalfOpenMoves has a backend fall silent, as its machine does when the power goes: a client that has sent it a SYN reaches another backend
// with one of the next as soon as the first is gone from the Service. Connections that are there stay, whatever becomes of their backend.
func TestHalfOpenMoves(t *testing.T) {
	t.Parallel()
	for _, f := range connections.Families {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.start()
			s, slice := web(f, 1, "web", connections.PodA)
			s.Type, s.Ports[0].NodePort = model.NodePort, 30080
			node := model.Node{Name: connections.Node, Addresses: []netip.Addr{f.Addr(connections.OnNode)}}
			l.applied(connections.Put(l.store, &node, []*model.Service{s}, []*model.EndpointSlice{slice}))
			to := plan.Key{Addr: f.Service(1), Protocol: model.TCP, Port: 80}
			silence := l.ns[connections.PodA]
			silence.Run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c tcp flags syn drop")
			type result struct {
				a   answer
				err error
			}
			asked := make(chan result, 3)
			for _, c := range []struct {
				from connections.Place
				to   plan.Key
			}{
				{connections.PodC, to}, {connections.OnNode, to},
				{connections.Outside, plan.Key{Addr: f.Addr(connections.OnNode), Protocol: model.TCP, Port: 30080}},
			} {
				go func() {
					a, err := l.ask(c.from, c.to, time.Minute)
					asked <- result{a, err}
				}()
			}
			// Each SYN has been seen by the Pod, three times that of a client of its own.
			l.await(func() bool {
				return strings.Count(l.ns[connections.OnNode].Run("cat", "/proc/net/nf_conntrack"), "SYN_SENT") >= 3
			})
			l.applied(connections.Put(l.store, nil, nil, []*model.EndpointSlice{backends(f, s, connections.PodB)}))
			for range 3 {
				if r := <-asked; r.err != nil || r.a.verdict != sim.Forward || r.a.backend.Place != connections.PodB {
					t.Errorf("%s by %q, %v; want an answer of %s", r.a.verdict, r.a.backend.Place, r.err, connections.PodB)
				}
			}
		})
	}
}

// TestEstablishedStays removes the backend of a connection, and the Service: both ends go on talking.
func TestEstablishedStays(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	echo, err := l.ns[connections.PodA].Listen("tcp", ":9999")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = echo.Close() })
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := echo.Accept(); err == nil {
			accepted <- c
		}
	}()
	s, slice := web(v4, 1, "web", connections.PodA)
	slice.Ports[0].Port = 9999
	l.applied(connections.Put(l.store, nil, []*model.Service{s}, []*model.EndpointSlice{slice}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	client, err := l.ns[connections.PodC].Dial(ctx, "tcp", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	server := <-accepted
	defer func() { _ = server.Close() }()
	talk := func(when string) {
		t.Helper()
		b := make([]byte, 1)
		for _, ends := range [][2]net.Conn{{client, server}, {server, client}} {
			_ = ends[1].SetReadDeadline(time.Now().Add(20 * time.Second))
			_, err1 := ends[0].Write([]byte("x"))
			_, err2 := ends[1].Read(b)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
		}
	}
	talk("at first")
	l.applied(connections.Put(l.store, nil, nil, []*model.EndpointSlice{backends(v4, s, connections.PodB)}))
	l.expect(connections.PodD, tcp(1), sim.Forward, connections.PodB)
	talk("when its backend is gone")
	l.empty()
	talk("when the Service is gone")
}
