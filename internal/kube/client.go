package kube

import (
	"context"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// The generated clientset would link every API group there is; these three are all that Fairway reads and writes.
var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
)

func init() {
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(discoveryv1.AddToScheme(scheme))
	utilruntime.Must(networkingv1.AddToScheme(scheme))
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
}

// Client speaks to one API server about the groups core, discovery.k8s.io and networking.k8s.io, in protobuf. It is safe for
// concurrent use; all that it does goes over one HTTP/2 connection.
type Client struct {
	groups map[schema.GroupVersion]*rest.RESTClient
}

// Exists asks for one object, past every cache: an answer is true of a moment after the call.
func (c *Client) Exists(ctx context.Context, r schema.GroupVersionResource, namespace, name string) (bool, error) {
	err := c.groups[r.GroupVersion()].Get().NamespaceIfScoped(namespace, namespace != "").Resource(r.Resource).Name(name).Do(ctx).Error()
	switch {
	case err == nil:
		return true, nil
	case apierrors.IsNotFound(err):
		return false, nil
	}
	return false, fmt.Errorf("get %s %s/%s: %w", r.Resource, namespace, name, err)
}

// NewClient makes a client; it does not connect.
func NewClient(cfg *rest.Config) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.ContentType = runtime.ContentTypeProtobuf
	cfg.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	cfg.NegotiatedSerializer = codecs.WithoutConversion()
	cfg.QPS = -1 // the server's priority and fairness knows its load better than a client's guess
	cfg.RateLimiter = nil
	if cfg.UserAgent == "" {
		cfg.UserAgent = "fairway"
	}
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubernetes API %s: make an HTTP client: %w", cfg.Host, err)
	}
	c := &Client{groups: map[schema.GroupVersion]*rest.RESTClient{}}
	for _, gv := range []schema.GroupVersion{corev1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, networkingv1.SchemeGroupVersion} {
		if c.groups[gv], err = restClient(cfg, gv, httpClient); err != nil {
			return nil, fmt.Errorf("kubernetes API %s: make a client of %s: %w", cfg.Host, gv, err)
		}
	}
	return c, nil
}

func restClient(cfg *rest.Config, gv schema.GroupVersion, h *http.Client) (*rest.RESTClient, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.GroupVersion = &gv
	cfg.APIPath = "/apis"
	if gv.Group == "" {
		cfg.APIPath = "/api"
	}
	return rest.RESTClientForConfigAndClient(cfg, h)
}

// Group gives the REST client of one API group and version; it panics for a group that the client does not speak.
func (c *Client) Group(gv schema.GroupVersion) rest.Interface {
	g, ok := c.groups[gv]
	if !ok {
		panic("kube: no client of " + gv.String())
	}
	return g
}

// Selection narrows a list and its watch on the server; Fields and Labels are selectors in the API's syntax, and each may be "".
type Selection struct {
	Fields, Labels string
	// Namespace is the only one that is looked at; "" is all.
	Namespace string
}

// ListWatch gives the list and watch of what is selected of one resource.
func (c *Client) ListWatch(r schema.GroupVersionResource, s Selection) cache.ListerWatcher {
	return cache.NewFilteredListWatchFromClient(c.Group(r.GroupVersion()), r.Resource, s.Namespace, func(o *metav1.ListOptions) {
		o.FieldSelector, o.LabelSelector = s.Fields, s.Labels
	})
}
