package source

import (
	"net/netip"
	"slices"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/utils/net"

	"fairway.dev/fairway/internal/model"
)

// endpointSlice has no row for slices of names (type FQDN, deprecated) and for slices of no Service.
func endpointSlice(o *discoveryv1.EndpointSlice) (*model.EndpointSlice, bool) {
	service := o.Labels[discoveryv1.LabelServiceName]
	if service == "" || o.AddressType == discoveryv1.AddressTypeFQDN {
		return nil, false
	}
	s := &model.EndpointSlice{
		Name:    model.Name{Namespace: o.Namespace, Name: o.Name},
		Service: model.Name{Namespace: o.Namespace, Name: service},
		IPv6:    o.AddressType == discoveryv1.AddressTypeIPv6,
	}
	_, s.Headless = o.Labels[corev1.IsHeadlessService]
	for _, p := range o.Ports {
		if q, ok := endpointPort(p); ok {
			s.Ports = append(s.Ports, q)
		}
	}
	if n := len(o.Endpoints); n > 0 { // exactly as many as needed: endpoints are most of what there is
		s.Endpoints = make([]model.Endpoint, 0, n)
	}
	for i := range o.Endpoints {
		if e, ok := endpoint(&o.Endpoints[i]); ok && e.Addr.Is6() == s.IPv6 {
			s.Endpoints = append(s.Endpoints, e)
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, o.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil {
		s.Triggered = t
	}
	return s, true
}

// endpointPort leaves out a port without a number: by the API it stands for all ports, which no Service port can be sent to.
func endpointPort(p discoveryv1.EndpointPort) (model.EndpointPort, bool) {
	if p.Port == nil {
		return model.EndpointPort{}, false
	}
	number, ok := port(*p.Port)
	proto, known := model.ParseProtocol(string(value(p.Protocol)))
	if !ok || !known {
		return model.EndpointPort{}, false
	}
	return model.EndpointPort{Name: value(p.Name), Protocol: proto, Port: number, AppProtocol: value(p.AppProtocol)}, true
}

func endpoint(o *discoveryv1.Endpoint) (model.Endpoint, bool) {
	if len(o.Addresses) == 0 {
		return model.Endpoint{}, false
	}
	a, ok := addr(o.Addresses[0])
	if !ok {
		return model.Endpoint{}, false
	}
	e := model.Endpoint{
		Addr:        a,
		Ready:       o.Conditions.Ready == nil || *o.Conditions.Ready,
		Serving:     o.Conditions.Serving == nil || *o.Conditions.Serving,
		Terminating: value(o.Conditions.Terminating),
		Hostname:    value(o.Hostname),
		Node:        one(value(o.NodeName)),
		Zone:        one(value(o.Zone)),
	}
	if t := o.TargetRef; t != nil {
		e.Target = t.Kind + " " + t.Name
	}
	if h := o.Hints; h != nil {
		for _, z := range h.ForZones {
			e.ForZones = append(e.ForZones, one(z.Name))
		}
		for _, n := range h.ForNodes {
			e.ForNodes = append(e.ForNodes, one(n.Name))
		}
	}
	return e, true
}

// taintToBeDeleted is what the cluster autoscaler puts on a node before it deletes it.
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

func node(o *corev1.Node) (*model.Node, bool) {
	n := &model.Node{Name: o.Name, Zone: o.Labels[corev1.LabelTopologyZone]}
	add := func(internal bool) {
		for _, a := range o.Status.Addresses {
			// The type is looked at too: a host name may look like an address.
			if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP || internal != (a.Type == corev1.NodeInternalIP) {
				continue
			}
			if ip, ok := addr(a.Address); ok && !slices.Contains(n.Addresses, ip) {
				n.Addresses = append(n.Addresses, ip)
			}
		}
	}
	add(true)
	add(false)
	n.PodCIDRs = podCIDRs(o)
	n.Leaving = o.DeletionTimestamp != nil ||
		slices.ContainsFunc(o.Spec.Taints, func(t corev1.Taint) bool { return t.Key == taintToBeDeleted })
	return n, true
}

func podCIDRs(o *corev1.Node) (out []netip.Prefix) {
	list := o.Spec.PodCIDRs
	if len(list) == 0 {
		list = []string{o.Spec.PodCIDR}
	}
	for _, c := range list {
		if _, n, err := net.ParseCIDRSloppy(c); err == nil {
			out = append(out, prefix(n.IP, n.Mask))
		}
	}
	return out
}

func serviceCIDR(o *networkingv1.ServiceCIDR) (*model.ServiceCIDR, bool) {
	c := &model.ServiceCIDR{Name: o.Name}
	for _, s := range o.Spec.CIDRs {
		if _, n, err := net.ParseCIDRSloppy(s); err == nil {
			c.CIDRs = append(c.CIDRs, prefix(n.IP, n.Mask))
		}
	}
	return c, true
}

func namespace(o *corev1.Namespace) (*model.Namespace, bool) {
	return &model.Namespace{Name: o.Name}, true
}

// one gives one copy of a string for all the endpoints that have it: nodes and zones are few.
func one(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(s).Value()
}

// pod has no row for a Pod without an address, and for one that has ended or is about to: its address may be another's soon.
func pod(o *corev1.Pod) (*model.Pod, bool) {
	if o.DeletionTimestamp != nil || o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed {
		return nil, false
	}
	p := &model.Pod{Name: model.Name{Namespace: o.Namespace, Name: o.Name}}
	for _, a := range o.Status.PodIPs {
		p.Addresses = append(p.Addresses, addrs([]string{a.IP})...)
	}
	return p, len(p.Addresses) > 0
}

// value is what a pointer of the API points at, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
