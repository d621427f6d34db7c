package service

import (
	"slices"

	apiservice "k8s.io/kubernetes/pkg/api/service"
	api "k8s.io/kubernetes/pkg/apis/core"
)

// linkClusterIPs brings spec.clusterIP and spec.clusterIPs together, for clients that know only the older, singular field
// (KEP-563). A client that knows both sets both, and validation compares them.
func linkClusterIPs(svc, old *api.Service) {
	switch {
	case old == nil:
	case svc.Spec.ClusterIP == old.Spec.ClusterIP:
		if len(svc.Spec.ClusterIPs) == 0 { // left out, not emptied: the singular field still says what is meant
			svc.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	case slices.Equal(svc.Spec.ClusterIPs, old.Spec.ClusterIPs): // only the singular field was changed: the plural one follows
		svc.Spec.ClusterIPs = nil
	}
	if svc.Spec.ClusterIP != "" && len(svc.Spec.ClusterIPs) == 0 {
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	}
}

// keepAllocated copies into an update what the server had allocated and the client left out, so that the manifest that made
// a Service may be put again.
func keepAllocated(svc, old *api.Service) {
	if svc.Spec.Type != api.ServiceTypeExternalName && old.Spec.Type != api.ServiceTypeExternalName {
		if svc.Spec.ClusterIP == "" {
			svc.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(svc.Spec.ClusterIPs) == 0 {
			svc.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	}
	if wantsNodePorts(svc) && wantsNodePorts(old) {
		keepNodePorts(svc, old)
	}
	if svc.Spec.HealthCheckNodePort == 0 && apiservice.NeedsHealthCheck(svc) && apiservice.NeedsHealthCheck(old) {
		svc.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

// keepNodePorts gives ports without a node port the one that the port of the same name had, unless the update has given
// it to another one.
func keepNodePorts(svc, old *api.Service) {
	spoken := make(map[int32]bool)
	for _, p := range svc.Spec.Ports {
		spoken[p.NodePort] = true
	}
	before := make(map[string]int32)
	for _, p := range old.Spec.Ports {
		before[p.Name] = p.NodePort
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if was := before[p.Name]; p.NodePort == 0 && was != 0 && !spoken[was] {
			p.NodePort = was
		}
	}
}
