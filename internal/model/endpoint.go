package model

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// EndpointSlice is one discovery/v1 EndpointSlice of IP addresses. Slices of address type FQDN have no row.
type EndpointSlice struct {
	// Name is the slice's own name.
	Name Name
	// Service is the Service it belongs to: the label kubernetes.io/service-name in the slice's namespace.
	Service Name
	// IPv6 tells the address type.
	IPv6 bool
	// Headless is true when the slice carries the label service.kubernetes.io/headless: proxies leave it alone, DNS reads it.
	Headless  bool
	Ports     []EndpointPort
	Endpoints []Endpoint
	// Triggered is the annotation endpoints.kubernetes.io/last-change-trigger-time, or zero.
	Triggered time.Time
}

// EndpointPort is one port of a slice. It serves the Service port of the same Name and Protocol.
type EndpointPort struct {
	Name        string
	Protocol    Protocol
	Port        uint16
	AppProtocol string
}

// Endpoint is one endpoint of a slice. Conditions are resolved as discovery/v1 says: an absent ready or serving is true,
// an absent terminating is false.
type Endpoint struct {
	// Addr is the first address; the API says that the others have no meaning.
	Addr                        netip.Addr
	Ready, Serving, Terminating bool
	// Hostname is set when the Pod asked for a name of its own under the Service.
	Hostname string
	// Node and Zone are "" when unknown.
	Node, Zone string
	// ForZones and ForNodes are the topology hints.
	ForZones, ForNodes []string
	// Target is what stands behind the address, for people: "Pod imaging-5d9-abcde", or "".
	Target string
}

// String says what the endpoint is, on one line.
func (e Endpoint) String() string {
	var c []string
	if e.Ready {
		c = append(c, "ready")
	}
	if e.Serving {
		c = append(c, "serving")
	}
	if e.Terminating {
		c = append(c, "terminating")
	}
	return fmt.Sprintf("%s(%s)", e.Addr, strings.Join(c, ","))
}

// String says what the slice is, on one line.
func (s *EndpointSlice) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "endpointslice %s of %s", s.Name, s.Service.Name)
	for _, p := range s.Ports {
		fmt.Fprintf(&b, " %s:%d/%s", p.Name, p.Port, p.Protocol)
	}
	for _, e := range s.Endpoints {
		b.WriteString(" " + e.String())
	}
	return b.String()
}

// Node is one core/v1 Node.
type Node struct {
	// Name has no namespace.
	Name string
	// Addresses are the internal addresses first, then the others, as status.addresses lists them.
	Addresses []netip.Addr
	PodCIDRs  []netip.Prefix
	// Zone is the label topology.kubernetes.io/zone, or "".
	Zone string
	// Leaving is true when the node is about to go: its object is being deleted, or an autoscaler has marked it (KEP-3836).
	Leaving bool
}

// ServiceCIDR is one networking/v1 ServiceCIDR: ranges that ClusterIPs come from. One that is being deleted counts until it is gone, for it stays as
// long as a Service needs it.
type ServiceCIDR struct {
	// Name has no namespace.
	Name  string
	CIDRs []netip.Prefix
}

// Namespace is one core/v1 Namespace: DNS tells an empty namespace from one that does not exist.
type Namespace struct {
	Name string
}

// Pod is what DNS needs of one core/v1 Pod to tell that it exists: DNS asks for these rows only if it is to verify the names of Pods. A Pod
// that has ended, or is about to, has no row.
type Pod struct {
	Name      Name
	Addresses []netip.Addr
}
