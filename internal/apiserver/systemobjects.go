package apiserver

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	apiServiceName = "kubernetes"
	apiServicePort = 443
	apiPortName    = "https"
	// systemCheck is how often the system objects are looked at when nothing says that they changed.
	systemCheck = 10 * time.Second
)

var systemNamespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}

// keep watches over the system objects until ctx ends, and restores what is changed or removed.
func (o systemObjects) keep(ctx context.Context, log *slog.Logger) {
	changed := make(chan struct{}, 1)
	notice := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	watched := informers.NewSharedInformerFactoryWithOptions(o.client, 0,
		informers.WithNamespace(metav1.NamespaceDefault),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector("metadata.name", apiServiceName).String()
		}))
	for _, informer := range []cache.SharedIndexInformer{
		watched.Core().V1().Services().Informer(),
		watched.Core().V1().Endpoints().Informer(),
		watched.Discovery().V1().EndpointSlices().Informer(),
		watched.Networking().V1().ServiceCIDRs().Informer(),
	} {
		// It fails only for an informer that has been stopped.
		_, _ = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: notice, UpdateFunc: func(_, obj any) { notice(obj) }, DeleteFunc: notice})
	}
	watched.Start(ctx.Done())
	defer watched.Shutdown()

	check := time.NewTicker(systemCheck)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-check.C: // for the namespaces, which cannot be removed, and for a restore that failed
		}
		if err := o.restore(ctx); err != nil && ctx.Err() == nil {
			log.Error("system objects: restore", "error", err)
		}
	}
}

// wantedObjects is what must be there.
type wantedObjects struct {
	service   *corev1.Service
	endpoints *corev1.Endpoints //nolint:staticcheck // deprecated, but part of what every cluster has
	slice     *discoveryv1.EndpointSlice
	cidr      *networkingv1.ServiceCIDR
}

// wantedSystemObjects is the pure part: what the configuration asks for.
func (s *Server) wantedSystemObjects() wantedObjects {
	port := int32(s.addresses[0].Port())
	if s.config.Advertise.IsValid() {
		port = int32(s.config.Advertise.Port())
	}
	var w wantedObjects
	w.service = &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: apiServiceName, Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"},
		},
		Spec: corev1.ServiceSpec{
			Type:      corev1.ServiceTypeClusterIP,
			ClusterIP: s.allocators.FirstAddress().String(),
			Ports:     []corev1.ServicePort{{Name: apiPortName, Port: apiServicePort, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(port)}},
		},
	}
	w.cidr = &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}}
	for _, prefix := range s.config.ServiceCIDRs {
		w.cidr.Spec.CIDRs = append(w.cidr.Spec.CIDRs, prefix.Masked().String())
	}
	if !s.config.Advertise.IsValid() {
		return w
	}
	address := s.config.Advertise.Addr().Unmap()
	w.endpoints = &corev1.Endpoints{ //nolint:staticcheck // see above
		ObjectMeta: metav1.ObjectMeta{
			Name: apiServiceName, Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"},
		},
		Subsets: []corev1.EndpointSubset{{ //nolint:staticcheck // see above
			Addresses: []corev1.EndpointAddress{{IP: address.String()}},                                     //nolint:staticcheck // see above
			Ports:     []corev1.EndpointPort{{Name: apiPortName, Port: port, Protocol: corev1.ProtocolTCP}}, //nolint:staticcheck // see above
		}},
	}
	name, protocol, ready := apiPortName, corev1.ProtocolTCP, true
	w.slice = &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: apiServiceName, Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelServiceName: apiServiceName},
		},
		AddressType: addressType(address),
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	return w
}

func addressType(address netip.Addr) discoveryv1.AddressType {
	if address.Is4() {
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv6
}

// systemObjects writes the wanted objects.
type systemObjects struct {
	client kubernetes.Interface
	want   wantedObjects
	log    *slog.Logger
	odds   *sync.Once // tells once that the default ServiceCIDR is at odds with the configuration
}

// restore makes what is missing and corrects what differs.
func (o systemObjects) restore(ctx context.Context) error {
	for _, name := range systemNamespaces {
		if err := o.namespace(ctx, name); err != nil {
			return fmt.Errorf("namespace %s: keep: %w", name, err)
		}
	}
	for _, step := range []struct {
		what string
		keep func(context.Context) error
	}{
		{"service CIDR " + o.want.cidr.Name, o.serviceCIDR},
		{"service default/" + apiServiceName, o.service},
		{"endpoints default/" + apiServiceName, o.endpoints},
		{"endpoint slice default/" + apiServiceName, o.slice},
	} {
		if err := step.keep(ctx); err != nil {
			return fmt.Errorf("%s: keep: %w", step.what, err)
		}
	}
	return nil
}

func (o systemObjects) namespace(ctx context.Context, name string) error {
	namespaces := o.client.CoreV1().Namespaces()
	_, err := namespaces.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	}
	return err
}

func (o systemObjects) service(ctx context.Context) error {
	services := o.client.CoreV1().Services(metav1.NamespaceDefault)
	have, err := services.Get(ctx, apiServiceName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = services.Create(ctx, o.want.service, metav1.CreateOptions{})
		return err
	}
	want := o.want.service
	if err != nil || have.Spec.Type == want.Spec.Type && equality.Semantic.DeepEqual(have.Spec.Ports, want.Spec.Ports) && hasLabels(have.Labels, want.Labels) && len(have.Spec.Selector) == 0 {
		return err
	}
	have.Spec.Type, have.Spec.Ports, have.Spec.Selector = want.Spec.Type, want.Spec.Ports, nil
	have.Labels = withLabels(have.Labels, want.Labels)
	_, err = services.Update(ctx, have, metav1.UpdateOptions{})
	return err
}

func (o systemObjects) endpoints(ctx context.Context) error {
	want := o.want.endpoints
	if want == nil {
		return nil
	}
	endpoints := o.client.CoreV1().Endpoints(metav1.NamespaceDefault)
	have, err := endpoints.Get(ctx, apiServiceName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = endpoints.Create(ctx, want, metav1.CreateOptions{})
		return err
	}
	if err != nil || equality.Semantic.DeepEqual(have.Subsets, want.Subsets) && hasLabels(have.Labels, want.Labels) {
		return err
	}
	have.Subsets, have.Labels = want.Subsets, withLabels(have.Labels, want.Labels)
	_, err = endpoints.Update(ctx, have, metav1.UpdateOptions{})
	return err
}

func (o systemObjects) slice(ctx context.Context) error {
	want := o.want.slice
	if want == nil {
		return nil
	}
	slices := o.client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	have, err := slices.Get(ctx, apiServiceName, metav1.GetOptions{})
	if err == nil && have.AddressType != want.AddressType { // immutable: make a new one
		if err = slices.Delete(ctx, apiServiceName, metav1.DeleteOptions{}); err == nil {
			_, err = slices.Create(ctx, want, metav1.CreateOptions{})
		}
		return err
	}
	if apierrors.IsNotFound(err) {
		_, err = slices.Create(ctx, want, metav1.CreateOptions{})
		return err
	}
	if err != nil || equality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) && equality.Semantic.DeepEqual(have.Ports, want.Ports) && hasLabels(have.Labels, want.Labels) {
		return err
	}
	have.Endpoints, have.Ports, have.Labels = want.Endpoints, want.Ports, withLabels(have.Labels, want.Labels)
	_, err = slices.Update(ctx, have, metav1.UpdateOptions{})
	return err
}

func hasLabels(have, want map[string]string) bool {
	for key, value := range want {
		if have[key] != value {
			return false
		}
	}
	return true
}

// withLabels adds want to have, in place if have is a map.
func withLabels(have, want map[string]string) map[string]string {
	if have == nil {
		have = make(map[string]string, len(want))
	}
	for key, value := range want {
		have[key] = value
	}
	return have
}
