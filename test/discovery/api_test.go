package discovery_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"fairway.dev/fairway/internal/apiserver"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/testkit/questions"
)

// api is an API server in this process.
type api struct {
	kubernetes.Interface
	config     *rest.Config
	kubeconfig string
}

// startAPI runs an API server until the test ends. Addresses of Services come from ranges that the table's are not in.
func startAPI(t *testing.T) *api {
	t.Helper()
	dir := t.TempDir()
	s, err := apiserver.New(apiserver.Config{
		Dir: dir, Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, NoSync: true,
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd66:96::/112")},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	select {
	case <-s.Ready():
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	case <-time.After(2 * time.Minute):
		t.Fatal("the API server is not ready after two minutes")
	}
	a := &api{config: s.ClientConfig("test"), kubeconfig: dir + "/kubeconfig"}
	if a.Interface, err = kubernetes.NewForConfig(a.config); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteKubeconfig(a.kubeconfig, -1, -1); err != nil {
		t.Fatal(err)
	}
	return a
}

// ranges are where the table's Services have their addresses.
var ranges = map[string][]string{"table": {"10.0.0.0/24", "1234:abcd::/112"}, "table6": {"10::/112"}}

// create writes a world, as far as the API takes it: it gives what it refused, by the names of the objects.
func (a *api) create(t *testing.T, w questions.World) (refused map[string]error) {
	t.Helper()
	ctx, opts := t.Context(), metav1.CreateOptions{}
	refused = map[string]error{}
	for name, cidrs := range ranges {
		_, err := a.NetworkingV1().ServiceCIDRs().Create(ctx, &networkingv1.ServiceCIDR{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}, opts)
		if err != nil {
			t.Fatal(err)
		}
	}
	namespaces := map[string]bool{}
	for _, n := range w.Namespaces {
		namespaces[n] = true
	}
	for _, s := range w.Services {
		namespaces[s.Name.Namespace] = true
	}
	for n := range namespaces {
		_, err := a.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n}}, opts)
		if err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	for _, s := range w.Services {
		if _, err := a.CoreV1().Services(s.Name.Namespace).Create(ctx, serviceObject(s), opts); err != nil {
			refused[s.Name.String()] = err
		}
	}
	g := errgroup.Group{}
	g.SetLimit(4)
	for _, s := range w.Slices {
		if !namespaces[s.Name.Namespace] {
			refused[s.Name.String()] = nil
			continue
		}
		g.Go(func() error {
			_, err := a.DiscoveryV1().EndpointSlices(s.Name.Namespace).Create(ctx, sliceObject(s), opts)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return refused
}

func serviceObject(s *model.Service) *corev1.Service {
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.Name.Namespace, Name: s.Name.Name}}
	spec := &o.Spec
	spec.Type, spec.ExternalName = corev1.ServiceType(s.Type), s.ExternalName
	for _, p := range s.Ports {
		spec.Ports = append(spec.Ports, corev1.ServicePort{Name: p.Name, Protocol: corev1.Protocol(p.Protocol.String()), Port: int32(p.Port)})
	}
	for _, a := range s.ClusterIPs {
		spec.ClusterIPs = append(spec.ClusterIPs, a.String())
		family := corev1.IPv4Protocol
		if a.Is6() {
			family = corev1.IPv6Protocol
		}
		spec.IPFamilies = append(spec.IPFamilies, family)
	}
	switch {
	case s.Headless:
		spec.ClusterIPs = []string{corev1.ClusterIPNone}
		spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyPreferDualStack)
	case len(s.ClusterIPs) > 1:
		spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
	case len(s.ClusterIPs) == 1:
		spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicySingleStack)
	}
	if len(spec.ClusterIPs) > 0 {
		spec.ClusterIP = spec.ClusterIPs[0]
	}
	return o
}

func sliceObject(s *model.EndpointSlice) *discoveryv1.EndpointSlice {
	o := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Name.Namespace, Name: s.Name.Name, Labels: map[string]string{discoveryv1.LabelServiceName: s.Service.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	if s.IPv6 {
		o.AddressType = discoveryv1.AddressTypeIPv6
	}
	for _, p := range s.Ports {
		o.Ports = append(o.Ports, discoveryv1.EndpointPort{
			Name: ptr.To(p.Name), Protocol: ptr.To(corev1.Protocol(p.Protocol.String())), Port: ptr.To(int32(p.Port)),
		})
	}
	for _, e := range s.Endpoints {
		oe := discoveryv1.Endpoint{Addresses: []string{e.Addr.String()}, Conditions: discoveryv1.EndpointConditions{
			Ready: ptr.To(e.Ready), Serving: ptr.To(e.Serving), Terminating: ptr.To(e.Terminating),
		}}
		if e.Hostname != "" {
			oe.Hostname = ptr.To(e.Hostname)
		}
		o.Endpoints = append(o.Endpoints, oe)
	}
	return o
}
