package app

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// The cluster's DNS is a Service like any other, under the name that everybody looks for. It has no selector; each node adds a
// slice with its own server, and the policy Local keeps questions on the node they were asked on.
const (
	dnsNamespace = "kube-system"
	dnsService   = "kube-dns"
	managedBy    = "fairway.dev"
)

// clusterDNS gives the addresses that cluster DNS has by convention: the tenth of each Service range.
func clusterDNS(serviceCIDRs []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, p := range serviceCIDRs {
		a := p.Masked().Addr()
		for range 10 {
			a = a.Next()
		}
		out = append(out, a)
	}
	return out
}

// ensureDNSService creates the Service if it is not there. One that is there, of whatever shape, belongs to the user.
func ensureDNSService(ctx context.Context, client kubernetes.Interface, addrs []netip.Addr) error {
	ips := make([]string, len(addrs))
	for i, a := range addrs {
		ips[i] = a.String()
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: dnsNamespace, Name: dnsService,
			Labels: map[string]string{"k8s-app": "kube-dns", "kubernetes.io/name": "Fairway"},
		},
		Spec: corev1.ServiceSpec{
			ClusterIP: ips[0], ClusterIPs: ips,
			IPFamilyPolicy:        ptr.To(corev1.IPFamilyPolicyPreferDualStack),
			InternalTrafficPolicy: ptr.To(corev1.ServiceInternalTrafficPolicyLocal),
			Ports: []corev1.ServicePort{
				{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(53)},
				{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt32(53)},
			},
		},
	}
	api := client.CoreV1().Services(dnsNamespace)
	// Create would complain of the address before it complains of the name, so look first.
	_, err := api.Get(ctx, dnsService, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = api.Create(ctx, svc, metav1.CreateOptions{})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("service %s/%s: create: %w", dnsNamespace, dnsService, err)
	}
	return nil
}

// publishDNS writes this node's slices of the DNS Service, one for each family: the server is at addrs, on one port.
func publishDNS(ctx context.Context, client kubernetes.Interface, node string, addrs []netip.Addr, port uint16) error {
	for _, a := range addrs {
		family, kind := "4", discoveryv1.AddressTypeIPv4
		if a.Is6() {
			family, kind = "6", discoveryv1.AddressTypeIPv6
		}
		want := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: dnsNamespace, Name: dnsService + "-" + node + "-ipv" + family,
				Labels: map[string]string{discoveryv1.LabelServiceName: dnsService, discoveryv1.LabelManagedBy: managedBy},
			},
			AddressType: kind,
			Endpoints: []discoveryv1.Endpoint{{
				Addresses:  []string{a.String()},
				Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
				NodeName:   &node,
			}},
			Ports: []discoveryv1.EndpointPort{
				{Name: ptr.To("dns"), Protocol: ptr.To(corev1.ProtocolUDP), Port: ptr.To(int32(port))},
				{Name: ptr.To("dns-tcp"), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(int32(port))},
			},
		}
		if err := putSlice(ctx, client, want); err != nil {
			return fmt.Errorf("endpointslice %s/%s: %w", want.Namespace, want.Name, err)
		}
	}
	return nil
}

// hasDNS tells whether the DNS Service is known, and the servers at addrs as endpoints of it.
func hasDNS(snap *store.Snapshot, addrs []netip.Addr) bool {
	name := model.Name{Namespace: dnsNamespace, Name: dnsService}
	if snap.Services.Get(name) == nil {
		return false
	}
	for _, a := range addrs {
		found := false
		for s := range snap.Slices(name) {
			found = found || slices.ContainsFunc(s.Endpoints, func(e model.Endpoint) bool { return e.Addr == a })
		}
		if !found {
			return false
		}
	}
	return true
}

// putSlice creates the slice, or makes the one that is there equal to it.
func putSlice(ctx context.Context, client kubernetes.Interface, want *discoveryv1.EndpointSlice) error {
	api := client.DiscoveryV1().EndpointSlices(want.Namespace)
	_, err := api.Create(ctx, want, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	have, err := api.Get(ctx, want.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if have.AddressType != want.AddressType { // cannot be changed
		if err := api.Delete(ctx, want.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
		_, err = api.Create(ctx, want, metav1.CreateOptions{})
		return err
	}
	if apiequality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) && apiequality.Semantic.DeepEqual(have.Ports, want.Ports) && maps.Equal(have.Labels, want.Labels) {
		return nil
	}
	have.Endpoints, have.Ports, have.Labels = want.Endpoints, want.Ports, want.Labels
	_, err = api.Update(ctx, have, metav1.UpdateOptions{})
	return err
}

// keepDNS publishes this node's slices and keeps them there until ctx ends. It tells warn once when they cannot be written, however long
// that lasts.
func keepDNS(ctx context.Context, client kubernetes.Interface, node string, addrs []netip.Addr, port uint16, warn func(error)) error {
	addrs = slices.Clone(addrs)
	for told := false; ; {
		wait := time.Minute // somebody may have deleted them
		err := publishDNS(ctx, client, node, addrs, port)
		if err != nil {
			wait = time.Second
			if !told && ctx.Err() == nil {
				warn(err)
			}
		}
		told = err != nil
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
