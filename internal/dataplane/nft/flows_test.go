package nft_test

import (
	"bufio"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/sim"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit/connections"
)

// TestUDPFlowsMove keeps one UDP socket open while its backend goes, comes, and the whole Service goes: whoever sends must always
// reach what the Service has now.
func TestUDPFlowsMove(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		connections.Family
		from connections.Place
	}{
		{connections.Families[0], connections.PodC}, {connections.Families[0], connections.OnNode},
		{connections.Families[1], connections.PodC}, {connections.Families[1], connections.OnNode},
	} {
		f := c.Family
		t.Run(f.String()+" from "+string(c.from), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.start()
			s, slice := web(f, 1, "web", connections.PodA)
			l.applied(connections.Put(l.store, nil, []*model.Service{s}, []*model.EndpointSlice{slice}))
			to := plan.Key{Addr: f.Service(1), Protocol: model.UDP, Port: 80}
			conn, err := l.ns[c.from].Dial(t.Context(), "udp", netip.AddrPortFrom(to.Addr, to.Port).String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			r := bufio.NewReader(conn)
			ask := func() string {
				_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
				if _, err := conn.Write([]byte("?")); err != nil {
					return err.Error()
				}
				line, err := r.ReadString('\n')
				if err != nil {
					return err.Error()
				}
				return line[:1]
			}
			if got := ask(); got != "a" {
				t.Fatalf("answered by %q, want a", got)
			}
			l.applied(connections.Put(l.store, nil, nil, []*model.EndpointSlice{backends(f, s, connections.PodA, connections.PodB)}))
			if got := ask(); got != "a" {
				t.Errorf("another backend came: answered by %q, want a as before", got)
			}
			l.applied(connections.Put(l.store, nil, nil, []*model.EndpointSlice{backends(f, s, connections.PodB)}))
			l.await(func() bool { return ask() == "b" })

			terminating := backends(f, s, connections.PodB, connections.PodD)
			terminating.Endpoints[0].Ready, terminating.Endpoints[0].Terminating = false, true
			l.applied(connections.Put(l.store, nil, nil, []*model.EndpointSlice{terminating}))
			if got := ask(); got != "b" {
				t.Errorf("the backend terminates and still serves: answered by %q, want b as before", got)
			}
			rev, _ := l.store.Update(func(t *store.Txn) error { t.DeleteSlice(slice.Name); return nil })
			l.applied(rev)
			l.await(func() bool { return strings.Contains(ask(), "connection refused") })
			l.applied(connections.Put(l.store, nil, nil, []*model.EndpointSlice{backends(f, s, connections.PodD)}))
			l.await(func() bool { return ask() == "d" })
		})
	}
}

// TestAffinity keeps clients with their backend through a restart and through changes that leave the backend alone, and moves them when
// it goes.
func TestAffinity(t *testing.T) {
	t.Parallel()
	for _, f := range connections.Families {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			stop := l.start()
			s, slice := web(f, 1, "web", connections.Pods...)
			s.Affinity = time.Hour
			s.Type, s.Ports[0].NodePort = model.NodePort, 30080
			node := model.Node{Name: connections.Node, Addresses: []netip.Addr{f.Addr(connections.OnNode)}}
			l.applied(connections.Put(l.store, &node, []*model.Service{s}, []*model.EndpointSlice{slice}))
			to := plan.Key{Addr: f.Service(1), Protocol: model.TCP, Port: 80}
			same := func(why string, n int) connections.Place {
				t.Helper()
				var first connections.Place
				for range n {
					a, err := l.ask(connections.Outside, to, 5*time.Second)
					if err != nil || a.verdict != sim.Forward {
						t.Fatalf("%s: %s, %v", why, a.verdict, err)
					}
					if first == "" {
						first = a.backend.Place
					}
					if a.backend.Place != first {
						t.Fatalf("%s: answered by %s, then by %s", why, first, a.backend.Place)
					}
				}
				return first
			}
			mine := same("at first", 20)
			nodePort := plan.Key{Addr: f.Addr(connections.OnNode), Protocol: model.TCP, Port: 30080}
			for range 20 {
				if a, err := l.ask(connections.Outside, nodePort, 5*time.Second); err != nil || a.backend.Place != mine {
					t.Fatalf("by the NodePort: answered by %s, %v, want %s", a.backend.Place, err, mine)
				}
			}
			// Each new flow begins the client's time anew, whichever frontend it goes to.
			left := l.expires(f)
			l.await(func() bool { return l.expires(f) < left-time.Second })
			left = l.expires(f)
			if a, err := l.ask(connections.Outside, nodePort, 5*time.Second); err != nil || a.backend.Place != mine {
				t.Fatalf("by the NodePort: answered by %s, %v, want %s", a.backend.Place, err, mine)
			}
			if now := l.expires(f); now <= left {
				t.Errorf("a new flow: the client is remembered for %s, before it for %s", now, left)
			}
			stop()
			l.start()
			l.applied(l.store.Snapshot().Revision)
			if p := same("after a restart", 20); p != mine {
				t.Errorf("after a restart %s answers, want %s", p, mine)
			}
			var others []connections.Place
			for _, p := range connections.Pods {
				if p != mine {
					others = append(others, p)
				}
			}
			l.applied(connections.Put(l.store, nil, nil, []*model.EndpointSlice{backends(f, s, mine, others[0])}))
			if p := same("when others went", 20); p != mine {
				t.Errorf("when others went %s answers, want %s", p, mine)
			}
			l.applied(connections.Put(l.store, nil, nil, []*model.EndpointSlice{backends(f, s, others...)}))
			if p := same("when it went", 20); p == mine {
				t.Errorf("%s answers although it is gone", p)
			}
			// Each client has its own.
			if a, err := l.ask(connections.OnNode, to, 5*time.Second); err != nil || a.verdict != sim.Forward {
				t.Errorf("another client: %s, %v", a.verdict, err)
			}
		})
	}
}

// expires gives how long the only client that is remembered will be.
func (l *lab) expires(f connections.Family) time.Duration {
	l.t.Helper()
	out := l.ns[connections.OnNode].Run("nft", "list", "map", family(f), "fairway", "affinity")
	_, after, _ := strings.Cut(out, "expires ")
	left, err := time.ParseDuration(strings.Fields(after + " .")[0])
	if err != nil || strings.Count(out, "expires") != 1 {
		l.t.Fatalf("%v in:\n%s", err, out)
	}
	return left
}

// TestAffinityEnds gives a client a second: the kernel forgets it by itself.
func TestAffinityEnds(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	s, slice := web(v4, 1, "web", connections.Pods...)
	s.Affinity = time.Second
	l.applied(connections.Put(l.store, nil, []*model.Service{s}, []*model.EndpointSlice{slice}))
	remembered := func() bool {
		return strings.Contains(l.ns[connections.OnNode].Run("nft", "list", "map", "ip", "fairway", "affinity"), "expires")
	}
	// It may be forgotten before anybody has looked.
	l.await(func() bool {
		if a, err := l.ask(connections.Outside, tcp(1), 5*time.Second); err != nil || a.verdict != sim.Forward {
			t.Fatalf("%s, %v", a.verdict, err)
		}
		return remembered()
	})
	l.await(func() bool { return !remembered() })
}
