package nft_test

import (
	"bufio"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/dataplane/sim"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit/connections"
)

// TestTooManyEndpoints gives a Service more endpoints than there are slots for, all of which are one Pod: it works from inside and from outside, is named as
// failed, holds up no other, and is whole again when it has fewer.
func TestTooManyEndpoints(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	const all, most = 8, 5
	l.startWith(func(d *nft.Dataplane) { d.SetMost(most) })
	crowd, _ := web(v4, 1, "crowd")
	crowd.Type, crowd.ExternalPolicy, crowd.Ports = model.NodePort, model.PolicyLocal, crowd.Ports[:1]
	crowd.Ports[0].NodePort = 30080
	node := model.Node{Name: connections.Node, Addresses: []netip.Addr{v4.Addr(connections.OnNode)}}
	other, others := web(v4, 2, "other", connections.PodB)
	slice := backends(v4, crowd)
	slice.Ports = slice.Ports[:1]
	for i := range all {
		at := netip.AddrFrom4([4]byte{10, 11, 0, byte(i)})
		slice.Endpoints = append(slice.Endpoints, model.Endpoint{Addr: at, Node: connections.Node, Ready: true, Serving: true})
	}
	l.ns[connections.OnNode].AddRoute("10.11.0.0/24", "", "pod-a")
	l.ns[connections.PodA].Run("ip", "route", "add", "local", "10.11.0.0/24", "dev", "lo")
	failed := l.failures(connections.Put(l.store, &node, []*model.Service{crowd, other}, []*model.EndpointSlice{slice, others}))
	if err := failed["service default/crowd"]; len(failed) != 1 || err == nil || !strings.Contains(err.Error(), "8 endpoints, and only 5 of them") {
		t.Errorf("failed: %v", failed)
	}
	nodePort := plan.Key{Addr: v4.Addr(connections.OnNode), Protocol: model.TCP, Port: 30080}
	for range 20 {
		l.expect(connections.PodD, tcp(1), sim.Forward, connections.PodA)
		l.expect(connections.Outside, nodePort, sim.Forward, connections.PodA)
	}
	l.expect(connections.PodD, tcp(2), sim.Forward, connections.PodB)

	fewer := *slice
	fewer.Endpoints = slice.Endpoints[2:][:most]
	l.applied(connections.Put(l.store, nil, nil, []*model.EndpointSlice{&fewer})) // and nothing has failed
	l.expect(connections.PodD, tcp(1), sim.Forward, connections.PodA)
	l.empty()
}

// TestOrphans stops the data plane, and takes a Service away from it and from the kernel's rules, as a process does that dies between the two steps of
// deleting a Service: the next one forgets the flows to it, and no other.
func TestOrphans(t *testing.T) {
	t.Parallel()
	for _, f := range connections.Families {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			stop := l.start()
			gone, slice := web(f, 1, "gone", connections.PodA)
			stays, other := web(f, 2, "stays", connections.PodB)
			l.applied(connections.Put(l.store, nil, []*model.Service{gone, stays}, []*model.EndpointSlice{slice, other}))
			asker := func(service int) func() string {
				conn, err := l.ns[connections.PodC].Dial(t.Context(), "udp", netip.AddrPortFrom(f.Service(service), 80).String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				r := bufio.NewReader(conn)
				return func() string {
					_ = conn.SetDeadline(time.Now().Add(time.Second / 2))
					_, _ = conn.Write([]byte("?"))
					line, _ := r.ReadString('\n')
					return line[:min(len(line), 1)]
				}
			}
			first, second := asker(1), asker(2)
			l.await(func() bool { return first() == "a" && second() == "b" })
			stop()
			_, _ = l.store.Update(func(t *store.Txn) error {
				t.DeleteService(gone.Name)
				t.DeleteSlice(slice.Name)
				return nil
			})
			// Flows outlive the rules, so taking all away is as good as taking away what the Service has.
			var err error
			l.ns[connections.OnNode].Do(func() { err = nft.Cleanup("") })
			if err != nil {
				t.Fatal(err)
			}
			l.start()
			l.applied(l.store.Snapshot().Revision)
			l.await(func() bool { return first() == "" && second() == "b" })
		})
	}
}
