// Package connections is a small world of Services for tests with real connections: who must answer from where, and which source the
// answering side must see.
//
// Contract. World gives the rows; Cases gives the connections with what becomes of them. Everything exists in IPv4 and in IPv6. The
// rules one by one, and each against upstream's proxy, are in testkit/packets; here is what only a connection shows: that answers come
// back, and what a program on the node sees when it is refused.
package connections

import (
	"fmt"
	"net/netip"
	"time"

	"fairway.dev/fairway/internal/dataplane/sim"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
)

// Node is the node on which everything runs; Pods a, b and c are on it. Pod d counts as one of another node.
const Node = "n1"

// Place is where a flow starts or ends.
type Place string

// The places.
const (
	Outside Place = "outside"
	OnNode  Place = "node"
	PodA    Place = "a"
	PodB    Place = "b"
	PodC    Place = "c"
	PodD    Place = "d"
)

// Pods are all places that are Pods.
var Pods = []Place{PodA, PodB, PodC, PodD}

// Family is a set of addresses.
type Family struct{ IPv6 bool }

// Families are both.
var Families = []Family{{false}, {true}}

// String names the family.
func (f Family) String() string {
	if f.IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

func (f Family) of(v4, v6 string) netip.Addr {
	if f.IPv6 {
		return netip.MustParseAddr(v6)
	}
	return netip.MustParseAddr(v4)
}

// Addr gives the address of a place.
func (f Family) Addr(p Place) netip.Addr {
	switch p {
	case Outside:
		return f.of("192.0.2.100", "2001:db8::100")
	case OnNode:
		return f.of("192.0.2.1", "2001:db8::1")
	}
	n := 10 + int(p[0]-'a')
	return f.of(fmt.Sprintf("10.244.1.%d", n), fmt.Sprintf("fd00:10:244::%d", n))
}

// Service gives the n-th ClusterIP.
func (f Family) Service(n int) netip.Addr {
	return f.of(fmt.Sprintf("10.96.0.%d", n), fmt.Sprintf("fd00:10:96::%d", n))
}

// External gives the n-th external address.
func (f Family) External(n int) netip.Addr {
	return f.of(fmt.Sprintf("203.0.113.%d", n), fmt.Sprintf("2001:db8:1::%d", n))
}

// Ranges of both families.
var (
	ServiceCIDRs  = prefixes("10.96.0.0/16", "fd00:10:96::/112")
	PodCIDRs      = prefixes("10.244.1.0/24", "fd00:10:244::/64")
	ExternalCIDRs = prefixes("203.0.113.0/24", "2001:db8:1::/64")
)

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// Listen is the port on which every Pod answers TCP and UDP; Second is another.
const Listen, Second = 8080, 9090

// World gives the rows: the node, the Services and their slices.
func World() (model.Node, []*model.Service, []*model.EndpointSlice) {
	node := model.Node{Name: Node}
	for _, f := range Families {
		node.Addresses = append(node.Addresses, f.Addr(OnNode))
	}
	var w world
	ready := func(p Place) model.Endpoint { return model.Endpoint{Ready: true, Serving: true, Target: string(p)} }

	web := w.service(1, "web")
	web.Type = model.NodePort
	web.Ports[0].NodePort = 30080
	web.Ports = append(web.Ports, model.Port{Name: "ask", Protocol: model.UDP, Port: 53, NodePort: 30053})
	w.slice(web, "1", Listen, ready("a"), ready("b"))

	empty := w.service(2, "empty")
	empty.Type, empty.ExternalIPs = model.NodePort, both(Family.External, 21)
	empty.Ports[0].NodePort = 30081
	empty.Ports = append(empty.Ports, model.Port{Name: "ask", Protocol: model.UDP, Port: 53, NodePort: 30054})

	rolling := w.service(3, "rolling")
	w.slice(rolling, "1", Listen,
		model.Endpoint{Serving: true, Terminating: true, Target: "a"}, model.Endpoint{Terminating: true, Target: "b"})

	self := w.service(4, "self")
	w.slice(self, "1", Listen, ready("c"))

	near := w.service(5, "near")
	near.InternalPolicy = model.PolicyLocal
	w.slice(near, "1", Listen, ready("a"), ready("d"))

	far := w.service(6, "far")
	far.InternalPolicy = model.PolicyLocal
	w.slice(far, "1", Listen, ready("d"))

	edge := w.service(7, "edge")
	edge.Type, edge.ExternalPolicy, edge.Ports[0].NodePort = model.NodePort, model.PolicyLocal, 30082
	w.slice(edge, "1", Listen, ready("a"), ready("d"))

	elsewhere := w.service(8, "elsewhere")
	elsewhere.Type, elsewhere.ExternalPolicy, elsewhere.Ports[0].NodePort = model.NodePort, model.PolicyLocal, 30083
	w.slice(elsewhere, "1", Listen, ready("d"))

	// One address in two slices, once as a Pod that ends; and two slices with ports of their own.
	merged := w.service(9, "merged")
	w.slice(merged, "1", Listen, model.Endpoint{Terminating: true, Target: "a"})
	w.slice(merged, "2", Listen, ready("a"))
	w.slice(merged, "3", Second, ready("b"))

	lb := w.service(10, "lb")
	lb.Type, lb.ExternalIPs = model.LoadBalancer, both(Family.External, 20)
	lb.LoadBalancerIPs = both(Family.External, 10)
	lb.SourceRanges = prefixes("192.0.2.0/26", "2001:db8::/122", "10.244.1.0/24", "fd00:10:244::/64")
	w.slice(lb, "1", Listen, ready("a"))

	sticky := w.service(11, "sticky")
	sticky.Affinity = 3 * time.Hour
	sticky.Type, sticky.Ports[0].NodePort = model.NodePort, 30084
	w.slice(sticky, "1", Listen, ready("a"), ready("b"), ready("c"), ready("d"))
	return node, w.services, w.slices
}

func both(addr func(Family, int) netip.Addr, n int) (out []netip.Addr) {
	for _, f := range Families {
		out = append(out, addr(f, n))
	}
	return out
}

type world struct {
	services []*model.Service
	slices   []*model.EndpointSlice
}

// service adds a Service with the TCP port 80 "http".
func (w *world) service(n int, name string) *model.Service {
	s := &model.Service{
		Name: model.Name{Namespace: "default", Name: name}, Type: model.ClusterIP, ClusterIPs: both(Family.Service, n),
		Ports: []model.Port{{Name: "http", Protocol: model.TCP, Port: 80}},
	}
	w.services = append(w.services, s)
	return s
}

// slice adds one slice of each family for the ports http and ask. An endpoint's Target is its place.
func (w *world) slice(s *model.Service, suffix string, port uint16, eps ...model.Endpoint) {
	for _, f := range Families {
		sl := &model.EndpointSlice{
			Name: model.Name{Namespace: "default", Name: s.Name.Name + "-" + f.String() + "-" + suffix}, Service: s.Name, IPv6: f.IPv6,
			Ports: []model.EndpointPort{
				{Name: "http", Protocol: model.TCP, Port: port}, {Name: "ask", Protocol: model.UDP, Port: port},
			},
		}
		for _, e := range eps {
			p := Place(e.Target)
			e.Addr, e.Node = f.Addr(p), Node
			if p == PodD {
				e.Node = "n2"
			}
			sl.Endpoints = append(sl.Endpoints, e)
		}
		w.slices = append(w.slices, sl)
	}
}

// Put writes rows in one transaction: the node, then Services, then slices.
func Put(st *store.Store, node *model.Node, services []*model.Service, slices []*model.EndpointSlice) store.Revision {
	rev, _ := st.Update(func(t *store.Txn) error {
		if node != nil {
			t.PutNode(node)
		}
		for _, s := range services {
			t.PutService(s)
		}
		for _, s := range slices {
			t.PutSlice(s)
		}
		return nil
	})
	return rev
}

// Case is one kind of packet: the first of a new flow.
type Case struct {
	Name string
	From Place
	To   plan.Key
	Want sim.Verdict
	// Backends are all that may answer, and each must when it is asked often enough. Empty unless Want is Forward.
	Backends []Backend
	// Kept is true when the backends must see the client's own address, false when they must see the node's.
	Kept bool
	// Sticky is true when all flows of one client must end at one of Backends.
	Sticky bool
}

// Backend is a place and a port.
type Backend struct {
	Place
	Port uint16
}

// Cases gives the table in one family.
func (f Family) Cases() []Case {
	svc := func(n int, p model.Protocol, port uint16) plan.Key {
		return plan.Key{Addr: f.Service(n), Protocol: p, Port: port}
	}
	tcp := func(n int) plan.Key { return svc(n, model.TCP, 80) }
	node := func(p model.Protocol, port uint16) plan.Key {
		return plan.Key{Addr: f.Addr(OnNode), Protocol: p, Port: port}
	}
	external := func(n int) plan.Key { return plan.Key{Addr: f.External(n), Protocol: model.TCP, Port: 80} }
	at := func(port uint16, ps ...Place) (out []Backend) {
		for _, p := range ps {
			out = append(out, Backend{p, port})
		}
		return out
	}
	ab := at(Listen, PodA, PodB)
	return []Case{
		{Name: "a Pod reaches both backends and keeps its address", From: PodC, To: tcp(1), Want: sim.Forward, Backends: ab, Kept: true},
		{Name: "so over UDP", From: PodC, To: svc(1, model.UDP, 53), Want: sim.Forward, Backends: ab, Kept: true},
		{Name: "the node reaches both backends", From: OnNode, To: tcp(1), Want: sim.Forward, Backends: ab},
		{Name: "so over UDP", From: OnNode, To: svc(1, model.UDP, 53), Want: sim.Forward, Backends: ab},
		{Name: "who comes from outside to a ClusterIP is masqueraded", From: Outside, To: tcp(1), Want: sim.Forward, Backends: ab},
		{Name: "NodePort from outside", From: Outside, To: node(model.TCP, 30080), Want: sim.Forward, Backends: ab},
		{Name: "NodePort over UDP", From: Outside, To: node(model.UDP, 30053), Want: sim.Forward, Backends: ab},
		{Name: "NodePort from a Pod", From: PodC, To: node(model.TCP, 30080), Want: sim.Forward, Backends: ab},
		{Name: "NodePort from the node", From: OnNode, To: node(model.TCP, 30080), Want: sim.Forward, Backends: ab},
		{Name: "NodePort of the other protocol is not ours", From: Outside, To: node(model.UDP, 30080), Want: sim.Pass},

		{Name: "no endpoints: refused", From: PodC, To: tcp(2), Want: sim.Reject},
		{Name: "no endpoints: refused over UDP", From: PodC, To: svc(2, model.UDP, 53), Want: sim.Reject},
		{Name: "no endpoints: refused on the node", From: OnNode, To: tcp(2), Want: sim.Reject},
		{Name: "no endpoints: refused over UDP on the node", From: OnNode, To: svc(2, model.UDP, 53), Want: sim.Reject},
		{Name: "no endpoints: NodePort refused", From: Outside, To: node(model.TCP, 30081), Want: sim.Reject},
		{Name: "no endpoints: NodePort refused over UDP", From: Outside, To: node(model.UDP, 30054), Want: sim.Reject},
		{Name: "no endpoints: NodePort refused over UDP on the node", From: OnNode, To: node(model.UDP, 30054), Want: sim.Reject},
		{Name: "no endpoints: external IP refused over UDP on the node", From: OnNode, To: plan.Key{Addr: f.External(21), Protocol: model.UDP, Port: 53},
			Want: sim.Reject},
		{Name: "a port that the Service does not have: refused", From: PodC, To: svc(1, model.TCP, 81), Want: sim.Reject},
		{Name: "the right port of the wrong protocol: refused", From: OnNode, To: svc(1, model.UDP, 80), Want: sim.Reject},
		{Name: "an address that no Service has: dropped", From: PodC, To: tcp(200), Want: sim.Drop},
		{Name: "an address that no Service has, from the node: dropped", From: OnNode, To: tcp(200), Want: sim.Drop},

		{Name: "only terminating endpoints: the serving one", From: PodC, To: tcp(3), Want: sim.Forward, Backends: at(Listen, PodA), Kept: true},
		{Name: "a Pod that is its own backend", From: PodC, To: tcp(4), Want: sim.Forward, Backends: at(Listen, PodC)},
		{Name: "a Pod that is not, to the same Service", From: PodA, To: tcp(4), Want: sim.Forward, Backends: at(Listen, PodC), Kept: true},

		{Name: "internal policy Local: this node's only", From: PodC, To: tcp(5), Want: sim.Forward, Backends: at(Listen, PodA), Kept: true},
		{Name: "internal policy Local, none here: dropped", From: PodC, To: tcp(6), Want: sim.Drop},
		{Name: "external policy Local from outside: this node's, address kept", From: Outside, To: node(model.TCP, 30082),
			Want: sim.Forward, Backends: at(Listen, PodA), Kept: true},
		{Name: "external policy Local from a Pod: all", From: PodC, To: node(model.TCP, 30082),
			Want: sim.Forward, Backends: at(Listen, PodA, PodD), Kept: true},
		{Name: "external policy Local from the node: all", From: OnNode, To: node(model.TCP, 30082),
			Want: sim.Forward, Backends: at(Listen, PodA, PodD)},
		{Name: "external policy Local does not rule the ClusterIP", From: Outside, To: tcp(7),
			Want: sim.Forward, Backends: at(Listen, PodA, PodD)},
		{Name: "external policy Local, none here, from outside: dropped", From: Outside, To: node(model.TCP, 30083), Want: sim.Drop},
		{Name: "external policy Local, none here, from a Pod: all", From: PodC, To: node(model.TCP, 30083),
			Want: sim.Forward, Backends: at(Listen, PodD), Kept: true},

		{Name: "slices merged by port name, the living entry wins", From: PodC, To: tcp(9), Want: sim.Forward,
			Backends: []Backend{{PodA, Listen}, {PodB, Second}}, Kept: true},
		{Name: "external IP", From: Outside, To: external(20), Want: sim.Forward, Backends: at(Listen, PodA)},
		{Name: "load-balancer IP, source not listed: dropped", From: Outside, To: external(10), Want: sim.Drop},
		{Name: "load-balancer IP, source listed, from the node", From: OnNode, To: external(10), Want: sim.Forward, Backends: at(Listen, PodA)},
		{Name: "load-balancer IP, source listed, from a Pod", From: PodC, To: external(10), Want: sim.Forward, Backends: at(Listen, PodA)},
		{Name: "affinity", From: Outside, To: tcp(11), Want: sim.Forward, Backends: at(Listen, Pods...), Sticky: true},
		{Name: "affinity is shared with the NodePort", From: Outside, To: node(model.TCP, 30084), Want: sim.Forward,
			Backends: at(Listen, Pods...), Sticky: true},
	}
}
