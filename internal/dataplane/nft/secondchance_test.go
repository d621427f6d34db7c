package nft_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/sim"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/testkit/connections"
)

// web gives a Service of that ClusterIP on TCP port 80 and its slice in one family, with backends on the port Listen.
func web(f connections.Family, n int, name string, at ...connections.Place) (*model.Service, *model.EndpointSlice) {
	s := &model.Service{
		Name: model.Name{Namespace: "default", Name: name}, Type: model.ClusterIP, ClusterIPs: []netip.Addr{f.Service(n)},
		Ports: []model.Port{{Protocol: model.TCP, Port: 80}, {Name: "ask", Protocol: model.UDP, Port: 80}},
	}
	return s, backends(f, s, at...)
}

func backends(f connections.Family, s *model.Service, at ...connections.Place) *model.EndpointSlice {
	sl := &model.EndpointSlice{
		Name: s.Name, Service: s.Name, IPv6: f.IPv6,
		Ports: []model.EndpointPort{{Protocol: model.TCP, Port: connections.Listen}, {Name: "ask", Protocol: model.UDP, Port: connections.Listen}},
	}
	for _, p := range at {
		sl.Endpoints = append(sl.Endpoints, model.Endpoint{Addr: f.Addr(p), Node: connections.Node, Ready: true, Serving: true})
	}
	return sl
}

// TestSecondChance kills a backend's process, sends 200 connections at once before the endpoint is taken away, and not one may fail.
// Half of the backends' resets come in through a wire, the others from the node's own stack.
func TestSecondChance(t *testing.T) {
	t.Parallel()
	for _, f := range connections.Families {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.start()
			inPod, slice := web(f, 1, "in-a-pod", connections.PodA, connections.PodB)
			// Nobody listens on the node.
			onNode, slice2 := web(f, 2, "on-the-node", connections.PodA, connections.OnNode)
			both := []*model.Service{inPod, onNode}
			_ = l.ports[connections.Backend{Place: connections.PodB, Port: connections.Listen}].Close()

			// What is tested holds if the endpoint goes within the second until clients send their SYN again. On a machine that is
			// too busy for that, try again.
			for attempt := 1; ; attempt++ {
				l.applied(connections.Put(l.store, nil, both, []*model.EndpointSlice{slice, slice2}))
				start := time.Now()
				results := l.storm(f, 200)
				l.await(func() bool { return l.chances(f) > 20 })
				rev := connections.Put(l.store, nil, nil, []*model.EndpointSlice{
					backends(f, inPod, connections.PodA), backends(f, onNode, connections.PodA),
				})
				l.applied(rev)
				late := time.Since(start) > 800*time.Millisecond
				failed := 0
				for a := range results {
					if a.verdict != sim.Forward || a.backend.Place != connections.PodA {
						failed++
						t.Logf("failed: %+v", a)
					}
				}
				if failed == 0 && !late {
					return
				}
				if !late || attempt == 5 {
					t.Fatalf("%d of 200 connections failed (attempt %d, endpoint taken away late: %v)", failed, attempt, late)
				}
				l.ns[connections.OnNode].Run("nft", "flush", "set", family(f), "fairway", "second-chances")
			}
		})
	}
}

// storm opens n connections at once, from a Pod and from the node, to two Services.
func (l *lab) storm(f connections.Family, n int) <-chan answer {
	out := make(chan answer, n)
	var all sync.WaitGroup
	for i := range n {
		from := connections.PodC
		if i%2 == 0 {
			from = connections.OnNode
		}
		to := plan.Key{Addr: f.Service(1 + i/2%2), Protocol: model.TCP, Port: 80}
		all.Go(func() {
			a, err := l.ask(from, to, 10*time.Second)
			if err != nil {
				l.t.Errorf("%s → %s: %v", from, to, err)
			}
			out <- a
		})
	}
	go func() { all.Wait(); close(out) }()
	return out
}

func family(f connections.Family) string {
	if f.IPv6 {
		return "ip6"
	}
	return "ip"
}

// chances counts the flows that have had their second chance.
func (l *lab) chances(f connections.Family) int {
	return strings.Count(l.ns[connections.OnNode].Run("nft", "list", "set", family(f), "fairway", "second-chances"), "expires")
}

// TestSecondChanceIsTheLast checks that a Service all of whose backends refuse answers in the end as they do.
func TestSecondChanceIsTheLast(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	f := connections.Families[0]
	s, slice := web(f, 1, "web", connections.PodB)
	_ = l.ports[connections.Backend{Place: connections.PodB, Port: connections.Listen}].Close()
	l.applied(connections.Put(l.store, nil, []*model.Service{s}, []*model.EndpointSlice{slice}))
	a, err := l.ask(connections.PodC, plan.Key{Addr: f.Service(1), Protocol: model.TCP, Port: 80}, 15*time.Second)
	if err != nil || a.verdict != sim.Reject {
		t.Errorf("the only backend refuses: %s, %v, want reject", a.verdict, err)
	}
	if n := l.chances(f); n != 1 {
		t.Errorf("%d flows had a second chance, want 1", n)
	}
	// Who is not a client of a Service is told at once and leaves no trace.
	a, err = l.ask(connections.PodC, plan.Key{Addr: f.Addr(connections.PodB), Protocol: model.TCP, Port: connections.Listen}, 15*time.Second)
	if err != nil || a.verdict != sim.Reject || l.chances(f) != 1 {
		t.Errorf("directly: %s, %v, %d second chances", a.verdict, err, l.chances(f))
	}
}
