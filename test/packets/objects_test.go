package packets_test

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/testkit/packets"
)

// The objects of the API that rows come from.

func nodeObject(n *model.Node) *corev1.Node {
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name}}
	if n.Zone != "" {
		o.Labels = map[string]string{corev1.LabelTopologyZone: n.Zone}
	}
	for i, a := range n.Addresses {
		kind := corev1.NodeInternalIP
		if i >= 2 {
			kind = corev1.NodeExternalIP
		}
		o.Status.Addresses = append(o.Status.Addresses, corev1.NodeAddress{Type: kind, Address: a.String()})
	}
	return o
}

func serviceObject(w *packets.World, s *model.Service) *corev1.Service {
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.Name.Namespace, Name: s.Name.Name}}
	if s.OtherProxy {
		o.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "another"}
	}
	spec := &o.Spec
	spec.Type = corev1.ServiceType(s.Type)
	for _, a := range s.ClusterIPs {
		spec.ClusterIPs = append(spec.ClusterIPs, a.String())
		family := corev1.IPv4Protocol
		if a.Is6() {
			family = corev1.IPv6Protocol
		}
		spec.IPFamilies = append(spec.IPFamilies, family)
	}
	spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicySingleStack)
	if len(s.ClusterIPs) > 1 {
		spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
	}
	if s.Headless {
		spec.ClusterIPs = []string{corev1.ClusterIPNone}
	}
	if len(spec.ClusterIPs) > 0 {
		spec.ClusterIP = spec.ClusterIPs[0]
	}
	spec.ExternalIPs = texts(s.ExternalIPs)
	if s.InternalPolicy != "" {
		spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicy(s.InternalPolicy))
	}
	spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicy(s.ExternalPolicy)
	if spec.ExternalTrafficPolicy == "" && (s.Type != model.ClusterIP || len(s.ExternalIPs) > 0) {
		spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	}
	if s.Affinity > 0 {
		spec.SessionAffinity = corev1.ServiceAffinityClientIP
		spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To(int32(s.Affinity.Seconds()))}}
	}
	for _, p := range s.Ports {
		spec.Ports = append(spec.Ports, corev1.ServicePort{Name: p.Name, Protocol: corev1.Protocol(p.Protocol.String()), Port: int32(p.Port), NodePort: int32(p.NodePort)})
	}
	if s.Type == model.LoadBalancer {
		spec.AllocateLoadBalancerNodePorts = ptr.To(s.Ports[0].NodePort != 0)
		spec.HealthCheckNodePort = int32(s.HealthCheckNodePort)
		for _, r := range s.SourceRanges {
			spec.LoadBalancerSourceRanges = append(spec.LoadBalancerSourceRanges, r.String())
		}
		for _, a := range s.LoadBalancerIPs {
			o.Status.LoadBalancer.Ingress = append(o.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)})
		}
		for _, a := range w.ProxyIPs[s.Name] {
			o.Status.LoadBalancer.Ingress = append(o.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeProxy)})
		}
	}
	return o
}

func texts(as []netip.Addr) (out []string) {
	for _, a := range as {
		out = append(out, a.String())
	}
	return out
}

func sliceObject(s *model.EndpointSlice) *discoveryv1.EndpointSlice {
	o := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: s.Name.Namespace, Name: s.Name.Name, Labels: map[string]string{discoveryv1.LabelServiceName: s.Service.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	if s.IPv6 {
		o.AddressType = discoveryv1.AddressTypeIPv6
	}
	if s.Headless {
		o.Labels[corev1.IsHeadlessService] = ""
	}
	for _, p := range s.Ports {
		q := discoveryv1.EndpointPort{Name: ptr.To(p.Name), Protocol: ptr.To(corev1.Protocol(p.Protocol.String()))}
		if p.Port != 0 {
			q.Port = ptr.To(int32(p.Port))
		}
		o.Ports = append(o.Ports, q)
	}
	for _, e := range s.Endpoints {
		q := discoveryv1.Endpoint{
			Addresses:  []string{e.Addr.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: known(e.Ready, true), Serving: known(e.Serving, true), Terminating: known(e.Terminating, false)},
		}
		if e.Node != "" {
			q.NodeName, q.Zone = ptr.To(e.Node), ptr.To(e.Zone)
		}
		if len(e.ForZones)+len(e.ForNodes) > 0 {
			q.Hints = &discoveryv1.EndpointHints{}
			for _, z := range e.ForZones {
				q.Hints.ForZones = append(q.Hints.ForZones, discoveryv1.ForZone{Name: z})
			}
			for _, n := range e.ForNodes {
				q.Hints.ForNodes = append(q.Hints.ForNodes, discoveryv1.ForNode{Name: n})
			}
		}
		o.Endpoints = append(o.Endpoints, q)
	}
	return o
}

// known leaves a condition out where the API takes it for what it is.
func known(v, absent bool) *bool {
	if v == absent {
		return nil
	}
	return &v
}
