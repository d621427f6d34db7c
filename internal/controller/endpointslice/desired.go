package endpointslice

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// member is a Pod that a Service selects, with what is known of the Pod's node.
type member struct {
	*pod
	// nodeKnown is false while no Node of the Pod's node name exists.
	nodeKnown bool
	zone      string
	// told is the Pod's readyAt when its slices were last written.
	told time.Time
	// only is the one family that is asked about, or "" for all.
	only discoveryv1.AddressType
}

// group is a set of endpoints that may share slices: one address family, and the same port numbers. Pods that give
// a named port different numbers are in different groups.
type group struct {
	family    discoveryv1.AddressType
	key       string // portsKey of ports
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
}

// desired says which endpoints a Service is to have, in the order of members. Pods whose node is not known are left out and named in orphans: where they
// are cannot be told, and their addresses may be gone with the node.
func desired(s *service, members []member) (groups []*group, orphans []string) {
	type id struct {
		family discoveryv1.AddressType
		key    string
	}
	found := map[id]*group{}
	for _, m := range members {
		if !m.nodeKnown && !s.publishNotReady {
			orphans = append(orphans, m.name.Name)
			continue
		}
		ports := endpointPorts(s, m.pod)
		key := portsKey(ports)
		for _, family := range s.families {
			if m.only != "" && m.only != family {
				continue
			}
			e, ok := endpoint(s, m, family)
			if !ok {
				continue
			}
			g := found[id{family, key}]
			if g == nil {
				g = &group{family: family, key: key, ports: ports}
				found[id{family, key}] = g
				groups = append(groups, g)
			}
			g.endpoints = append(g.endpoints, e)
		}
	}
	return groups, orphans
}

// endpoint gives the Pod's endpoint of one family; ok is false if it has no address there.
func endpoint(s *service, m member, family discoveryv1.AddressType) (e discoveryv1.Endpoint, ok bool) {
	for _, a := range m.addrs {
		if familyOf(a) == family {
			e.Addresses = append(e.Addresses, a.String())
		}
	}
	if len(e.Addresses) == 0 {
		return e, false
	}
	slices.Sort(e.Addresses)
	// Serving says whether the Pod is ready whatever else; ready says whether new connections should go there (KEP-1672).
	ready := s.publishNotReady || m.ready && !m.deleting
	e.Conditions = discoveryv1.EndpointConditions{Ready: &ready, Serving: new(m.ready), Terminating: new(m.deleting)}
	e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: m.name.Namespace, Name: m.name.Name, UID: m.uid}
	if m.node != "" {
		e.NodeName = new(m.node)
	}
	if m.zone != "" {
		e.Zone = new(m.zone)
	}
	// The Pod asks for a name under exactly this Service.
	if m.hostname != "" && m.subdomain == s.name.Name {
		e.Hostname = new(m.hostname)
	}
	if ready && (s.hints == zoneHints || s.hints == nodeHints) {
		e.Hints = nearHints(&e, s.hints == nodeHints)
	}
	return e, true
}

// nearHints are for those in the endpoint's own zone, and on its own node if asked for.
func nearHints(e *discoveryv1.Endpoint, node bool) *discoveryv1.EndpointHints {
	var h discoveryv1.EndpointHints
	if e.Zone != nil {
		h.ForZones = []discoveryv1.ForZone{{Name: *e.Zone}}
	}
	if node && e.NodeName != nil {
		h.ForNodes = []discoveryv1.ForNode{{Name: *e.NodeName}}
	}
	if h.ForZones == nil && h.ForNodes == nil {
		return nil
	}
	return &h
}

func familyOf(a netip.Addr) discoveryv1.AddressType {
	if a.Is4() {
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv6
}

// endpointPorts resolves the Service's ports for one Pod. A port whose name the Pod does not have is left out; never nil.
func endpointPorts(s *service, p *pod) []discoveryv1.EndpointPort {
	out := []discoveryv1.EndpointPort{}
	for i := range s.ports {
		sp := &s.ports[i]
		if n, ok := targetPort(sp, p); ok {
			out = append(out, discoveryv1.EndpointPort{
				Name: new(sp.Name), Protocol: new(protocol(sp.Protocol)), Port: &n, AppProtocol: sp.AppProtocol,
			})
		}
	}
	return out
}

func targetPort(sp *corev1.ServicePort, p *pod) (int32, bool) {
	switch {
	case sp.TargetPort.Type == intstr.Int && sp.TargetPort.IntVal != 0:
		return sp.TargetPort.IntVal, true
	case sp.TargetPort.Type == intstr.Int:
		return sp.Port, true // the API's default, for objects that did not get it
	}
	for _, q := range p.ports {
		if q.name == sp.TargetPort.StrVal && q.protocol == protocol(sp.Protocol) {
			return q.port, true
		}
	}
	return 0, false
}

// portsKey is equal for equal sets of ports, in whatever order.
func portsKey(ports []discoveryv1.EndpointPort) string {
	keys := make([]string, len(ports))
	for i, p := range ports {
		number := "all" // what the API means by no number
		if p.Port != nil {
			number = strconv.Itoa(int(*p.Port))
		}
		keys[i] = strings.Join([]string{text(p.Name), string(protocol(text(p.Protocol))), number, text(p.AppProtocol)}, "\x00")
	}
	slices.Sort(keys)
	return strings.Join(keys, "\n")
}

// text is what a pointer points at, or "".
func text[S ~string](p *S) S {
	if p == nil {
		return ""
	}
	return *p
}
