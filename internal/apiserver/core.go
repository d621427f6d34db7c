package apiserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	admissionregistrationclient "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	policyclient "k8s.io/client-go/kubernetes/typed/policy/v1"
	restclient "k8s.io/client-go/rest"
	kubeletclient "k8s.io/kubernetes/pkg/kubelet/client"
	endpointsstore "k8s.io/kubernetes/pkg/registry/core/endpoint/storage"
	nodestore "k8s.io/kubernetes/pkg/registry/core/node/storage"
	podstore "k8s.io/kubernetes/pkg/registry/core/pod/storage"
	replicationstore "k8s.io/kubernetes/pkg/registry/core/replicationcontroller/storage"
	corerest "k8s.io/kubernetes/pkg/registry/core/rest"
	accountstore "k8s.io/kubernetes/pkg/registry/core/serviceaccount/storage"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"fairway.dev/fairway/internal/apiserver/pki"
	"fairway.dev/fairway/internal/apiserver/service"
)

// kubeletDialLimit bounds how long `kubectl logs` waits for the node.
const kubeletDialLimit = 5 * time.Second

// coreGroup puts the core group together: upstream's storage for all but Services. Upstream's own assembly of the group
// cannot be used, because it brings its allocators with it.
type coreGroup struct {
	layout     layout
	database   *database
	allocators *service.Allocators
	loopback   *restclient.Config
	authorizer authorizer.Authorizer
	accounts   *accounts
	// transport is how the proxies of Pods, Services and Nodes reach them.
	transport *http.Transport
	// kubelet and authority are what the server shows to a node's kubelet API, and what it expects from it.
	kubelet       pki.Pair
	authorityFile string

	services *service.Storage // set by storage
}

func (g *coreGroup) storage(resources serverstorage.APIResourceConfigSource, options generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error) {
	none := genericapiserver.APIGroupInfo{}
	plain := corerest.GenericConfig{StorageFactory: g.layout, EventTTL: eventLife, LoopbackClientConfig: g.loopback}
	info, err := plain.NewRESTStorage(resources, options)
	if err != nil {
		return none, err
	}
	endpoints, err := endpointsstore.NewREST(options)
	if err != nil {
		return none, fmt.Errorf("endpoints: %w", err)
	}
	nodes, err := nodestore.NewStorage(options, g.kubeletClient(), g.transport)
	if err != nil {
		return none, fmt.Errorf("nodes: %w", err)
	}
	budgets, err := policyclient.NewForConfig(g.loopback)
	if err != nil {
		return none, fmt.Errorf("client for poddisruptionbudgets: %w", err)
	}
	pods, err := podstore.NewStorage(options, nodes.KubeletConnectionInfo, g.transport, budgets, g.authorizer)
	if err != nil {
		return none, fmt.Errorf("pods: %w", err)
	}
	upstreams, ok := pods.Pod.CreateStrategy.(creation)
	if !ok {
		return none, errors.New("pods: upstream validates them in another way")
	}
	pods.Pod.CreateStrategy = runnable{upstreams}
	controllers, err := replicationstore.NewStorage(options)
	if err != nil {
		return none, fmt.Errorf("replicationcontrollers: %w", err)
	}
	services, serviceStatus, err := service.NewStorage(options, g.allocators, g.database.client())
	if err != nil {
		return none, err
	}
	g.services = services
	slices, err := discoveryclient.NewForConfig(g.loopback)
	if err != nil {
		return none, fmt.Errorf("client for endpointslices: %w", err)
	}

	storage := info.VersionedResourcesStorageMap[corev1.SchemeGroupVersion.Version]
	storage["serviceaccounts"].Destroy() // it makes no tokens
	accounts, err := g.serviceAccounts(options, pods.Pod, storage["secrets"].(rest.Getter), nodes.Node)
	if err != nil {
		return none, err
	}
	for path, handler := range map[string]rest.Storage{
		"endpoints":                     endpoints,
		"nodes":                         nodes.Node,
		"nodes/proxy":                   nodes.Proxy,
		"nodes/status":                  nodes.Status,
		"pods":                          pods.Pod,
		"pods/attach":                   pods.Attach,
		"pods/binding":                  pods.Binding,
		"pods/ephemeralcontainers":      noEphemeralContainers{pods.EphemeralContainers},
		"pods/eviction":                 pods.Eviction,
		"pods/exec":                     pods.Exec,
		"pods/log":                      pods.Log,
		"pods/portforward":              pods.PortForward,
		"pods/proxy":                    pods.Proxy,
		"pods/status":                   pods.Status,
		"replicationcontrollers":        controllers.Controller,
		"replicationcontrollers/scale":  controllers.Scale,
		"replicationcontrollers/status": controllers.Status,
		"serviceaccounts":               accounts,
		"serviceaccounts/token":         accounts.Token,
		"services":                      services,
		"services/proxy":                services.NewProxy(slices, pods.Pod, g.transport),
		"services/status":               serviceStatus,
	} {
		storage[path] = handler
	}
	return info, nil
}

// serviceAccounts makes the storage of ServiceAccounts, which makes tokens that are bound to what the getters find, and tells the checker of tokens where
// all of that is.
func (g *coreGroup) serviceAccounts(options generic.RESTOptionsGetter, pods, secrets, nodes rest.Getter) (*accountstore.REST, error) {
	webhooks, err := admissionregistrationclient.NewForConfig(g.loopback)
	if err != nil {
		return nil, fmt.Errorf("client for webhook configurations: %w", err)
	}
	// As upstream has it, the token that every Pod gets outlives the hour after which the node replaces it, for programs that read it only once.
	const extended = serviceaccount.ExpirationExtensionSeconds * time.Second
	storage, err := accountstore.NewREST(options, g.accounts.generator, tokenAudiences, g.authorizer, 0, pods, secrets, nodes,
		webhooks.ValidatingWebhookConfigurations(), webhooks.MutatingWebhookConfigurations(), true, extended)
	if err != nil {
		return nil, fmt.Errorf("serviceaccounts: %w", err)
	}
	g.accounts.serviceAccounts, g.accounts.pods, g.accounts.secrets, g.accounts.nodes = storage, pods, secrets, nodes
	return storage, nil
}

// newProxyTransport makes the transport of the proxies. What they reach are addresses, of programs whose certificates the server has nothing
// to check by; the client's own proxy settings are about other things.
func newProxyTransport() *http.Transport {
	return utilnet.SetTransportDefaults(&http.Transport{
		Proxy:           func(*http.Request) (*url.URL, error) { return nil, nil },
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	})
}

// kubeletClient is how pods/log and its like reach the kubelet API of a node: at its internal address, with certificates of
// one authority on both sides.
func (g *coreGroup) kubeletClient() kubeletclient.KubeletClientConfig {
	return kubeletclient.KubeletClientConfig{
		Port:                  10250, // if the Node does not name another one
		PreferredAddressTypes: []string{string(corev1.NodeInternalIP)},
		HTTPTimeout:           kubeletDialLimit,
		TLSClientConfig: kubeletclient.KubeletTLSConfig{
			CertFile: g.kubelet.CertFile,
			KeyFile:  g.kubelet.KeyFile,
			CAFile:   g.authorityFile,
		},
	}
}
