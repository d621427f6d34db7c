package service

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/proxy"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	api "k8s.io/kubernetes/pkg/apis/core"
	upstream "k8s.io/kubernetes/pkg/registry/core/service"
)

// NewProxy makes the storage of services/proxy: requests for a Service are sent to one of its ready endpoints. Slices are where those are found, and
// pods has the Pods that they must be; the requests take that transport.
func (s *Storage) NewProxy(slices discoveryclient.EndpointSlicesGetter, pods rest.Getter, transport http.RoundTripper) *upstream.ProxyREST {
	return &upstream.ProxyREST{Redirector: &locator{s, slices, pods, transport}, ProxyTransport: transport}
}

// locator finds where a request for a Service is sent to.
type locator struct {
	services  *Storage
	slices    discoveryclient.EndpointSlicesGetter
	pods      rest.Getter
	transport http.RoundTripper
}

var _ rest.Redirector = (*locator)(nil)

// ResourceLocation implements rest.Redirector. The id is that of the API: "name", "name:port" or "scheme:name:port", the port by its name or
// number.
func (l *locator) ResourceLocation(ctx context.Context, id string) (*url.URL, http.RoundTripper, error) {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(id)
	if !ok {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid service request %q", id))
	}
	port, err := l.portName(ctx, name, port)
	if err != nil {
		return nil, nil, err
	}
	// A list for each request costs less than to hold all slices for the few there are.
	list, err := l.slices.EndpointSlices(request.NamespaceValue(ctx)).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
	if err != nil {
		return nil, nil, apierrors.NewInternalError(fmt.Errorf("service %s: list endpointslices: %w", name, err))
	}
	candidates := make([]*discoveryv1.EndpointSlice, len(list.Items))
	for i := range list.Items {
		candidates[i] = &list.Items[i]
	}
	family := corev1.IPFamily(l.services.allocators.families[0])
	host, err := proxy.RandomEndpoint(name, candidates, port, family, func(e *discoveryv1.Endpoint) bool { return l.isPod(ctx, e) })
	if err != nil {
		return nil, nil, err
	}
	return &url.URL{Scheme: scheme, Host: host}, l.transport, nil
}

// portName gives the name of a Service's port, which the slices know it by.
func (l *locator) portName(ctx context.Context, name, port string) (string, error) {
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return port, nil // it is a name
	}
	found, err := l.services.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	ports := found.(*api.Service).Spec.Ports
	i := slices.IndexFunc(ports, func(p api.ServicePort) bool { return int64(p.Port) == number })
	if i < 0 {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", number, name))
	}
	return ports[i].Name, nil
}

// isPod tells whether the endpoint is a Pod of the namespace. Whoever may write slices must not make the server send requests to any
// address in its reach.
func (l *locator) isPod(ctx context.Context, e *discoveryv1.Endpoint) bool {
	if e.TargetRef == nil || e.TargetRef.Namespace != request.NamespaceValue(ctx) || len(e.Addresses) == 0 {
		return false
	}
	found, err := l.pods.Get(ctx, e.TargetRef.Name, &metav1.GetOptions{})
	if err != nil {
		return false
	}
	return slices.ContainsFunc(found.(*api.Pod).Status.PodIPs, func(ip api.PodIP) bool { return ip.IP == e.Addresses[0] })
}
