package mirroring

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/net"
)

// managedBy is the label value of the slices that are ours: Kubernetes' name of this controller.
const managedBy = "endpointslicemirroring-controller.k8s.io"

// maxAddresses is how many addresses of one subset are mirrored: one slice takes no more.
const maxAddresses = 1000

// leader is the annotation of Endpoints that are a lock, and are written every few seconds.
const leader = "control-plane.alpha.kubernetes.io/leader"

// mirrorable tells whether Endpoints are to be mirrored, as far as they say so themselves.
func mirrorable(e *corev1.Endpoints) bool {
	_, lock := e.Annotations[leader]
	return !lock && e.Labels[discoveryv1.LabelSkipMirror] != "true"
}

// left says what of some Endpoints is not mirrored.
type left struct {
	invalid int // addresses that are none
	tooMany int // addresses over the limit
}

// desired gives the slices that mirror the Endpoints, without names: for each set of ports, one of each address family.
func desired(e *corev1.Endpoints) (out []*discoveryv1.EndpointSlice, l left) {
	for _, s := range repack(e.Subsets) {
		byFamily := map[discoveryv1.AddressType]*discoveryv1.EndpointSlice{}
		room := maxAddresses
		for _, a := range s.addresses { // the ready ones first
			ip := net.ParseIPSloppy(a.IP)
			switch {
			case ip == nil:
				l.invalid++
				continue
			case room == 0:
				l.tooMany++
				continue
			}
			room--
			family := discoveryv1.AddressTypeIPv4
			if ip.To4() == nil {
				family = discoveryv1.AddressTypeIPv6
			}
			sl := byFamily[family]
			if sl == nil {
				sl = newSlice(e, family, s.ports)
				byFamily[family] = sl
				out = append(out, sl)
			}
			endpoint := discoveryv1.Endpoint{
				Addresses:  []string{ip.String()}, // the usual spelling
				Conditions: discoveryv1.EndpointConditions{Ready: new(a.ready)},
				NodeName:   a.NodeName, TargetRef: a.TargetRef,
			}
			if a.Hostname != "" {
				endpoint.Hostname = new(a.Hostname)
			}
			sl.Endpoints = append(sl.Endpoints, endpoint)
		}
	}
	return out, l
}

func newSlice(e *corev1.Endpoints, family discoveryv1.AddressType, ports []corev1.EndpointPort) *discoveryv1.EndpointSlice {
	sl := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: e.Namespace, GenerateName: e.Name + "-", Labels: map[string]string{}, Annotations: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(e, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
		},
		AddressType: family, Ports: []discoveryv1.EndpointPort{},
	}
	maps.Copy(sl.Labels, e.Labels)
	sl.Labels[discoveryv1.LabelServiceName], sl.Labels[discoveryv1.LabelManagedBy] = e.Name, managedBy
	maps.Copy(sl.Annotations, e.Annotations)
	delete(sl.Annotations, corev1.EndpointsLastChangeTriggerTime)
	delete(sl.Annotations, corev1.LastAppliedConfigAnnotation)
	for _, p := range ports {
		sl.Ports = append(sl.Ports, discoveryv1.EndpointPort{Name: new(p.Name), Port: new(p.Port), Protocol: new(p.Protocol), AppProtocol: p.AppProtocol})
	}
	return sl
}

// subset is one of Endpoints in its canonical form: every port is in one subset only, and those that have the same addresses share one.
type subset struct {
	ports     []corev1.EndpointPort // sorted
	addresses []address             // sorted, the ready ones first
}

type address struct {
	corev1.EndpointAddress
	ready bool
}

// identity tells addresses apart. The same IP may be that of several Pods, which are on their node's network.
type identity struct {
	ip  string
	uid types.UID
}

// noPorts stands for the ports of a subset that has none.
var noPorts = corev1.EndpointPort{Port: -1}

// repack brings subsets into their canonical form. An address that is ready in one of them and not in another is not.
func repack(subsets []corev1.EndpointSubset) []subset {
	ports := map[string]corev1.EndpointPort{}
	offered := map[string]map[identity]address{} // by port
	for _, s := range subsets {
		list := s.Ports
		if len(list) == 0 {
			list = []corev1.EndpointPort{noPorts}
		}
		for _, p := range list {
			key := portKey(p)
			ports[key] = p
			if offered[key] == nil {
				offered[key] = map[identity]address{}
			}
			add := func(a corev1.EndpointAddress, ready bool) {
				id := identity{ip: a.IP}
				if a.TargetRef != nil {
					id.uid = a.TargetRef.UID
				}
				if known, ok := offered[key][id]; ok {
					known.ready = known.ready && ready
					offered[key][id] = known
					return
				}
				offered[key][id] = address{a, ready}
			}
			for _, a := range s.Addresses {
				add(a, true)
			}
			for _, a := range s.NotReadyAddresses {
				add(a, false)
			}
		}
	}
	byAddresses := map[string]*subset{}
	var order []*subset
	for _, key := range slices.Sorted(maps.Keys(offered)) {
		addresses := slices.SortedFunc(maps.Values(offered[key]), compareAddresses)
		same := addressKey(addresses)
		s := byAddresses[same]
		if s == nil {
			s = &subset{addresses: addresses}
			byAddresses[same] = s
			order = append(order, s)
		}
		if ports[key].Port != noPorts.Port {
			s.ports = append(s.ports, ports[key])
		}
	}
	out := make([]subset, 0, len(order))
	for _, s := range order {
		out = append(out, *s)
	}
	return out
}

func compareAddresses(a, b address) int {
	if a.ready != b.ready {
		return cmp.Compare(rank(a.ready), rank(b.ready))
	}
	return cmp.Or(strings.Compare(a.IP, b.IP), strings.Compare(uid(a), uid(b)))
}

func rank(ready bool) int {
	if ready {
		return 0
	}
	return 1
}

func uid(a address) string {
	if a.TargetRef == nil {
		return ""
	}
	return string(a.TargetRef.UID)
}

// addressKey is the same for the same addresses, ready or not alike.
func addressKey(list []address) string {
	var key strings.Builder
	for _, a := range list {
		fmt.Fprintf(&key, "%s/%s/%t ", a.IP, uid(a), a.ready)
	}
	return key.String()
}

func portKey(p corev1.EndpointPort) string {
	application := ""
	if p.AppProtocol != nil {
		application = *p.AppProtocol
	}
	return fmt.Sprintf("%s/%s/%d/%s", p.Name, p.Protocol, p.Port, application)
}
