package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"fairway.dev/fairway/internal/model"
)

// Key is the address, protocol and port at which a frontend is reached.
type Key struct {
	Addr     netip.Addr
	Protocol model.Protocol
	Port     uint16
}

// String gives "10.96.0.10:53/UDP".
func (k Key) String() string {
	return netip.AddrPortFrom(k.Addr, k.Port).String() + "/" + k.Protocol.String()
}

// Compare orders keys by address, port and protocol.
func (k Key) Compare(o Key) int {
	return cmp.Or(k.Addr.Compare(o.Addr), cmp.Compare(k.Port, o.Port), cmp.Compare(k.Protocol, o.Protocol))
}

// Scope says by which of a Service's addresses a frontend is reached.
type Scope uint8

// The scopes. ClusterIP is ruled by the internal traffic policy, the others by the external one.
const (
	ClusterIP Scope = iota
	NodePort
	ExternalIP
	LoadBalancerIP
)

// String names the scope as the API does.
func (s Scope) String() string {
	return [...]string{"ClusterIP", "NodePort", "ExternalIP", "LoadBalancerIP"}[s]
}

// Masquerade says whose source address becomes the node's own, so that answers come back through this node. Beside it every
// Pod that reaches itself through a Service is masqueraded (see Service.Hairpin).
type Masquerade uint8

// The classes of clients that are masqueraded.
const (
	// MasqueradeNone leaves every source as it is.
	MasqueradeNone Masquerade = iota
	// MasqueradeNonPods is for ClusterIPs: all but Pods, for only a Pod's address is sure to be routed back here.
	MasqueradeNonPods
	// MasqueradeAll is for external frontends with policy Cluster.
	MasqueradeAll
	// MasqueradeNode is for external frontends with policy Local: the node itself, which may be sent to another node.
	MasqueradeNode
)

// String names the class as the nft chains do.
func (m Masquerade) String() string { return [...]string{"none", "non-pods", "all", "node"}[m] }

// Verdict is what happens to a new flow.
type Verdict uint8

// The verdicts.
const (
	// Forward sends the flow to one of the backends.
	Forward Verdict = iota
	// Reject answers TCP with a reset and the rest with ICMP port unreachable: there is no backend anywhere.
	Reject
	// Drop is silent: a backend exists, but the Local policy forbids this node to use it, so that another node may answer.
	Drop
)

// String names the verdict.
func (v Verdict) String() string { return [...]string{"forward", "reject", "drop"}[v] }

// Choice is what one kind of client gets. Backends is empty unless the verdict is Forward, and sorted.
type Choice struct {
	Verdict  Verdict
	Backends []netip.AddrPort
}

// Frontend is what a node must do at one address, protocol and port.
type Frontend struct {
	Key
	Scope Scope
	// PortName is the name of the Service port, often "".
	PortName string
	// Inside is for the node itself and for Pods, Outside for everybody else. They differ only when Split is true.
	Inside, Outside Choice
	// Split is true for external frontends with policy Local, whose outside clients get this node's backends only.
	Split      bool
	Masquerade Masquerade
	// Affinity is how long after its last new flow a client (by source address) keeps its backend; 0 means no affinity.
	Affinity time.Duration
	// Sticky identifies the Service port whose frontends of one family share the affinity: its ClusterIP.
	Sticky Key
	// Sources limits who may come in at all; empty admits everybody.
	Sources []netip.Prefix
	// Serving are all backends that may keep flows they already have, terminating ones included, sorted; only for UDP and TCP, where
	// the kernel must be told to forget flows to others that would not end by themselves (see package conntrack).
	Serving []netip.AddrPort
}

// String says on one line what the node must do.
func (f *Frontend) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", f.Scope, f.Key, f.Inside)
	if f.Split {
		fmt.Fprintf(&b, " outside %s", f.Outside)
	}
	if f.Masquerade != MasqueradeNone {
		fmt.Fprintf(&b, " masquerade %s", f.Masquerade)
	}
	if f.Affinity > 0 {
		fmt.Fprintf(&b, " affinity %s", f.Affinity)
	}
	if len(f.Sources) > 0 {
		fmt.Fprintf(&b, " sources %v", f.Sources)
	}
	return b.String()
}

// String gives the verdict, or the backends separated by commas.
func (c Choice) String() string {
	if c.Verdict != Forward {
		return c.Verdict.String()
	}
	s := make([]string, len(c.Backends))
	for i, b := range c.Backends {
		s[i] = b.String()
	}
	return "→ " + strings.Join(s, ",")
}

// Service is the plan of one Service. A Service that is not to be proxied, or does not exist, has no frontends.
type Service struct {
	Name model.Name
	// Frontends are sorted by Key; no key occurs twice.
	Frontends []Frontend
	// ClusterIPs are the addresses that belong to this Service whole: other ports on them are rejected.
	ClusterIPs []netip.Addr
	// Hairpin are the addresses of backends on this node, sorted: each must be masqueraded when it is its own backend.
	Hairpin []netip.Addr
	// Health is what load balancers may ask this node about the Service.
	Health Health
	// Created is when the Service was, for Precedes.
	Created time.Time
}

// Precedes decides between two Services that both want one frontend: the older one has it, so that nobody can take an address away by
// naming it too. Of the same age the first by name has it.
func (s *Service) Precedes(o *Service) bool {
	return cmp.Or(s.Created.Compare(o.Created), s.Name.Compare(o.Name)) < 0
}

// Health is the health check of a Service of type LoadBalancer with external policy Local (spec.healthCheckNodePort): an HTTP port on
// which load balancers ask each node whether it has a backend of the Service.
type Health struct {
	// Port is 0 where there is none.
	Port uint16
	// Addrs are where to listen.
	Addrs []netip.Addr
	// Ready are the addresses of the ready backends on this node, sorted: the answer counts those of the family asked in. Those that
	// terminate are not among them, so that a load balancer lets go while they still serve.
	Ready []netip.Addr
}

// String gives one line per frontend.
func (s *Service) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "service %s\n", s.Name)
	for i := range s.Frontends {
		fmt.Fprintf(&b, "  %s\n", &s.Frontends[i])
	}
	return b.String()
}
