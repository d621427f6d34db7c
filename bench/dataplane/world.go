package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// world is what is to be programmed: so many Services, and endpoints of each. Beside these there are a few sentinels.
type world struct{ services, endpoints int }

func (w *world) parse(s string) error {
	if n, err := fmt.Sscanf(s, "%dx%d", &w.services, &w.endpoints); n != 2 || err != nil || w.services < 1 || w.endpoints < 1 {
		return errors.New("write SERVICESxENDPOINTS, for instance 10000x10")
	}
	if w.services > 1<<19 || w.services*w.endpoints > 1<<22 {
		return errors.New("the ranges of addresses are too small for so much")
	}
	return nil
}

const (
	namespace = "default"
	nodeName  = "bench"
	created   = "2026-01-01T00:00:00Z"
)

func serviceName(i int) string { return fmt.Sprintf("service-%06d", i) }

// clusterIP leaves the range's lower band, from which the API server takes addresses by itself, alone.
func clusterIP(i int) string {
	n := 1<<12 + i
	return fmt.Sprintf("10.%d.%d.%d", 96+n>>16, n>>8&255, n&255)
}

func endpointIP(n int) string { return fmt.Sprintf("10.%d.%d.%d", 128+n>>16, n>>8&255, n&255) }

// sentinel tells whether a Service's endpoints are the server in the room; there are some fifty, all over the world.
func (w world) sentinel(i int) bool { return i%max(1, w.services/50) == 0 }

func uid(kind, i int) types.UID {
	return types.UID(fmt.Sprintf("%08x-0000-4000-8000-%012x", kind, i))
}

// meta is that of an object as a controller or kubectl has written it, with the record of who owns which field.
func meta(name string, kind, i int, fields string) metav1.ObjectMeta {
	at, _ := time.Parse(time.RFC3339, created)
	t := metav1.NewTime(at)
	return metav1.ObjectMeta{
		Name: name, Namespace: namespace, UID: uid(kind, i), CreationTimestamp: t, Generation: 1,
		ManagedFields: []metav1.ManagedFieldsEntry{{
			Manager: "bench", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &t, FieldsType: "FieldsV1",
			FieldsV1: metav1.NewFieldsV1(fields),
		}},
	}
}

const (
	serviceFields = `{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},"f:selector":{},"f:sessionAffinity":{},"f:type":{}}}`
	sliceFields   = `{"f:addressType":{},"f:endpoints":{},"f:metadata":{"f:annotations":{".":{},"f:endpoints.kubernetes.io/last-change-trigger-time":{}},"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:endpointslice.kubernetes.io/managed-by":{},"f:kubernetes.io/service-name":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"0\"}":{}}},"f:ports":{}}`
)

func service(i int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: meta(serviceName(i), 1, i, serviceFields), Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: clusterIP(i), ClusterIPs: []string{clusterIP(i)}, Selector: map[string]string{"app": serviceName(i)},
		IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicySingleStack),
		SessionAffinity: corev1.ServiceAffinityNone, InternalTrafficPolicy: ptr.To(corev1.ServiceInternalTrafficPolicyCluster),
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
	}}
	s.Labels = map[string]string{"app": serviceName(i)}
	s.Spec.Ports[0].TargetPort.IntVal = echoPort
	return s
}

func (w world) slice(i int) *discoveryv1.EndpointSlice {
	name := serviceName(i)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  meta(name+"-x7k2p", 2, i, sliceFields),
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To(int32(echoPort)), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	s.GenerateName = name + "-"
	s.Labels = map[string]string{"app": name, discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "bench"}
	s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: created}
	s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: name, UID: uid(1, i), Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true)}}
	for k := range w.endpoints {
		n := i*w.endpoints + k
		e := discoveryv1.Endpoint{
			Addresses:  []string{endpointIP(n)},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
			NodeName:   ptr.To(fmt.Sprintf("node-%04d", n%100)), Zone: ptr.To(fmt.Sprintf("zone-%d", n%3)),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("%s-7d9c5b8f6d-%05d", name, k), UID: uid(3, n)},
		}
		if w.sentinel(i) {
			e.Addresses = echoAddrs()[k%echoes : k%echoes+1]
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// ipAddress is the object with which the API server's allocator holds a ClusterIP.
func ipAddress(i int) *networkingv1.IPAddress {
	o := &networkingv1.IPAddress{ObjectMeta: meta(clusterIP(i), 4, i, `{}`), Spec: networkingv1.IPAddressSpec{
		ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: namespace, Name: serviceName(i)},
	}}
	o.Namespace = ""
	o.Labels = map[string]string{networkingv1.LabelIPAddressFamily: "IPv4", networkingv1.LabelManagedBy: "ipallocator.k8s.io"}
	return o
}

// stored yields everything with its key below /registry.
func (w world) stored(yield func(key string, o runtime.Object) bool) {
	for i := range w.services {
		if !yield("services/specs/"+namespace+"/"+serviceName(i), service(i)) ||
			!yield("endpointslices/"+namespace+"/"+w.slice(i).Name, w.slice(i)) ||
			!yield("ipaddresses/"+clusterIP(i), ipAddress(i)) {
			return
		}
	}
}

// echoes is how many endpoints the server in the room has, each an address of its own.
const (
	echoes   = 10
	echoPort = 8080
)

func echoAddrs() (out []string) {
	for i := range echoes {
		out = append(out, netip.AddrFrom4([4]byte{10, 239, 255, byte(1 + i)}).String())
	}
	return out
}
