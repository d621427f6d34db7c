package source

import (
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/net"

	"fairway.dev/fairway/internal/model"
)

// defaultAffinity is the timeout that the API gives sessionAffinity ClientIP where none is named (core/v1 ClientIPConfig).
const defaultAffinity = 3 * time.Hour

// labelServiceProxyName takes a Service from the default proxy, whatever its value (kube-proxy's well-known label).
const labelServiceProxyName = "service.kubernetes.io/service-proxy-name"

func service(o *corev1.Service) (*model.Service, bool) {
	s := &model.Service{
		Name:            model.Name{Namespace: o.Namespace, Name: o.Name},
		UID:             string(o.UID),
		Created:         o.CreationTimestamp.Time,
		Type:            model.ServiceType(o.Spec.Type),
		Headless:        o.Spec.ClusterIP == corev1.ClusterIPNone,
		ExternalIPs:     addrs(o.Spec.ExternalIPs),
		ExternalPolicy:  model.TrafficPolicy(o.Spec.ExternalTrafficPolicy),
		PublishNotReady: o.Spec.PublishNotReadyAddresses,
	}
	_, s.OtherProxy = o.Labels[labelServiceProxyName]
	if s.Type == "" {
		s.Type = model.ClusterIP
	}
	if s.Type == model.ExternalName {
		s.ExternalName = o.Spec.ExternalName
	} else {
		s.ClusterIPs = clusterIPs(o)
	}
	s.LoadBalancerIPs, s.SourceRanges = loadBalancer(o)
	for _, p := range o.Spec.Ports {
		if q, ok := servicePort(p); ok {
			s.Ports = append(s.Ports, q)
		}
	}
	if p := o.Spec.InternalTrafficPolicy; p != nil {
		s.InternalPolicy = model.TrafficPolicy(*p)
	}
	if o.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		s.Affinity = defaultAffinity
		if c := o.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			s.Affinity = time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
		}
	}
	s.HealthCheckNodePort, _ = port(o.Spec.HealthCheckNodePort)
	return s, true
}

// clusterIPs reads the list, or the single address that an API server before dual stack gave.
func clusterIPs(o *corev1.Service) []netip.Addr {
	if len(o.Spec.ClusterIPs) == 0 {
		return addrs([]string{o.Spec.ClusterIP})
	}
	return addrs(o.Spec.ClusterIPs)
}

// loadBalancer gives the addresses that the node is to catch, and from where. An ingress of ipMode Proxy must reach the load
// balancer itself (KEP-1860). Where ranges are set and not one can be read, the addresses are left out: shut, rather than open to all.
func loadBalancer(o *corev1.Service) (ips []netip.Addr, ranges []netip.Prefix) {
	for _, r := range o.Spec.LoadBalancerSourceRanges {
		if _, n, err := net.ParseCIDRSloppy(strings.TrimSpace(r)); err == nil {
			ranges = append(ranges, prefix(n.IP, n.Mask))
		}
	}
	if len(ranges) < 1 && len(o.Spec.LoadBalancerSourceRanges) > 0 {
		return nil, nil
	}
	for _, i := range o.Status.LoadBalancer.Ingress {
		if i.IPMode == nil || *i.IPMode == corev1.LoadBalancerIPModeVIP {
			ips = append(ips, addrs([]string{i.IP})...)
		}
	}
	return ips, ranges
}

func servicePort(p corev1.ServicePort) (model.Port, bool) {
	proto, ok := model.ParseProtocol(string(p.Protocol))
	if !ok {
		return model.Port{}, false
	}
	q := model.Port{Name: p.Name, Protocol: proto}
	if q.Port, ok = port(p.Port); !ok {
		return model.Port{}, false
	}
	q.NodePort, _ = port(p.NodePort)
	if p.AppProtocol != nil {
		q.AppProtocol = *p.AppProtocol
	}
	return q, true
}
