package packets

import (
	"fmt"
	"net/netip"
	"slices"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
)

// Verdict is what becomes of a flow's first packet.
type Verdict uint8

// The verdicts.
const (
	// Pass means that no Service has the address: the packet goes where the routes lead.
	Pass Verdict = iota
	Forward
	Reject
	Drop
)

// String names the verdict.
func (v Verdict) String() string { return [...]string{"pass", "forward", "reject", "drop"}[v] }

// Outcome is what becomes of all packets of one kind.
type Outcome struct {
	Verdict Verdict
	// Backends are all that may get the packet, sorted; each must get one when enough are sent. Empty unless the Verdict is Forward.
	Backends []netip.AddrPort
	// Kept is true when the backend must see the client's own address and port, false when it must see the node's address.
	Kept bool
	// Some is true when it is enough that only some of Backends get packets.
	Some bool
}

// String says it in a few words.
func (o Outcome) String() string {
	if o.Verdict != Forward {
		return o.Verdict.String()
	}
	s := fmt.Sprintf("forward to %v", o.Backends)
	if o.Kept {
		return s + " with the client's source"
	}
	return s + " with the node's source"
}

// Packet is one row of the table: the first packet of a flow.
type Packet struct {
	Name string
	From Client
	To   plan.Key
	Want Outcome
	// Sticky, if not "", is the name of a group of rows that share a Service port with affinity: all packets of one client in the group go
	// to one backend.
	Sticky string
	// KubeProxy is what upstream's proxy does where that differs. Difference is the row of docs/differences.md that has the reason.
	KubeProxy  *Outcome
	Difference string
}

// ICMP and ICMPv6 are the protocols of an echo request.
const (
	ICMP   model.Protocol = 1
	ICMPv6 model.Protocol = 58
)

// World is everything that exists, whoever looks at it. Of the Services in one list, the earlier ones are older.
type World struct {
	Nodes    []*model.Node
	Services []*model.Service
	Slices   []*model.EndpointSlice
	// ProxyIPs are load-balancer addresses of ipMode Proxy, by Service: the API has them, and rows do not.
	ProxyIPs map[model.Name][]netip.Addr
}

// View is one node's view of the world and the packets that it must treat so.
type View struct {
	Name string
	// Node is who looks.
	Node string
	// PodCIDRs is what the node was told of Pods' addresses; empty when it was told nothing.
	PodCIDRs []netip.Prefix
	Packets  []Packet
}

// ServiceCIDRs are the ranges of ClusterIPs: two of each family.
var ServiceCIDRs = prefixes("10.96.0.0/16", "fd00:10:96::/112", "10.98.0.0/24", "fd00:10:98::/112")

// PodCIDRs are the ranges of all Pods of the cluster.
var PodCIDRs = prefixes("10.244.0.0/16", "fd00:10:244::/48")

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// Put writes the whole world in one transaction.
func (w *World) Put(st *store.Store) store.Revision {
	rev, _ := st.Update(func(t *store.Txn) error {
		for _, n := range w.Nodes {
			t.PutNode(n)
		}
		for _, s := range w.Services {
			t.PutService(s)
		}
		for _, s := range w.Slices {
			t.PutSlice(s)
		}
		return nil
	})
	return rev
}

// Table gives the world and the views of it.
func Table() (*World, []View) {
	b := &builder{world: World{Nodes: nodes(), ProxyIPs: map[model.Name][]netip.Addr{}}}
	views := []View{
		{Name: "zone z1", Node: "n1", PodCIDRs: PodCIDRs},
		{Name: "zone z2", Node: "n2", PodCIDRs: PodCIDRs},
		{Name: "no zone", Node: "n4", PodCIDRs: PodCIDRs},
		{Name: "no Pod ranges", Node: "n1"},
	}
	b.matrix(&views[0], &views[1], &views[2])
	b.singles(&views[0])
	b.withoutPodRanges(&views[3])
	return &b.world, views
}

// builder collects Services and numbers them.
type builder struct {
	world World
	last  int // number of the newest Service
}

// service adds a Service with one port 80 for each of TCP, UDP and SCTP, and an address of each kind in each family; edit takes away or changes
// what the rule at hand needs.
func (b *builder) service(name string, edit func(*model.Service)) *numbered {
	b.last++
	n := &numbered{b.last, &model.Service{
		Name: model.Name{Namespace: "default", Name: name}, Type: model.LoadBalancer,
	}}
	for _, f := range Families {
		n.ClusterIPs = append(n.ClusterIPs, n.Addr(f, plan.ClusterIP))
		n.ExternalIPs = append(n.ExternalIPs, n.Addr(f, plan.ExternalIP))
		n.LoadBalancerIPs = append(n.LoadBalancerIPs, n.Addr(f, plan.LoadBalancerIP))
	}
	for _, p := range Protocols {
		n.Ports = append(n.Ports, model.Port{Name: portName(p), Protocol: p, Port: 80, NodePort: n.nodePort()})
	}
	if edit != nil {
		edit(n.Service)
	}
	if n.Type == model.LoadBalancer && n.ExternalPolicy == model.PolicyLocal {
		n.HealthCheckNodePort = uint16(32000 + n.n)
	}
	b.world.Services = append(b.world.Services, n.Service)
	return n
}

func portName(p model.Protocol) string {
	return map[model.Protocol]string{model.TCP: "tcp", model.UDP: "udp", model.SCTP: "sctp"}[p]
}

// numbered is a Service whose addresses follow from its number.
type numbered struct {
	n int
	*model.Service
}

func (n *numbered) nodePort() uint16 { return uint16(30000 + n.n) }

// Addr gives the Service's address of one kind; NodePorts have none of their own.
func (n *numbered) Addr(f Family, kind plan.Scope) netip.Addr {
	v4, v6 := map[plan.Scope]string{plan.ClusterIP: "10.96.1.%d", plan.ExternalIP: "198.18.1.%d", plan.LoadBalancerIP: "198.19.1.%d"}[kind],
		map[plan.Scope]string{plan.ClusterIP: "fd00:10:96::1%02x", plan.ExternalIP: "2001:db8:e::1:%x", plan.LoadBalancerIP: "2001:db8:1b::1:%x"}[kind]
	return f.of(fmt.Sprintf(v4, n.n), fmt.Sprintf(v6, n.n))
}

// key is where the Service is reached, on the node that looks.
func (n *numbered) key(f Family, kind plan.Scope, p model.Protocol, node string) plan.Key {
	if kind == plan.NodePort {
		return plan.Key{Addr: nodeAddr(f, node), Protocol: p, Port: n.nodePort()}
	}
	return plan.Key{Addr: n.Addr(f, kind), Protocol: p, Port: 80}
}

// slices gives the Service one slice of each family for every "; "-separated list of endpoints. edit may be nil.
func (b *builder) slices(s *numbered, endpoints string, edit func(i int, sl *model.EndpointSlice)) {
	for i, list := range lists(endpoints) {
		for _, f := range Families {
			sl := &model.EndpointSlice{
				Name: model.Name{Namespace: "default", Name: fmt.Sprintf("%s-%s-%d", s.Name.Name, f.label(), i)}, Service: s.Name, IPv6: f.IPv6,
			}
			for _, p := range Protocols {
				sl.Ports = append(sl.Ports, model.EndpointPort{Name: portName(p), Protocol: p, Port: Target})
			}
			for _, e := range list {
				sl.Endpoints = append(sl.Endpoints, e.at(f))
			}
			if edit != nil {
				edit(i, sl)
			}
			b.world.Slices = append(b.world.Slices, sl)
		}
	}
}

// Target is the port of the backends.
const Target = 8080

func backends(f Family, names []string, port uint16) (out []netip.AddrPort) {
	for _, n := range names {
		out = append(out, netip.AddrPortFrom(podAddr(f, n), port))
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}
