package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensionsserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	extensionsoptions "k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// customResources is upstream's server of custom resources, behind the server of the kinds that are built in: what that one does
// not know, this one is asked for. Upstream puts a third server in front of both (the aggregator), which joins discovery and
// OpenAPI of the two and forwards to servers elsewhere. Here nothing is elsewhere, and the two are joined directly:
//
//   - the kind CustomResourceDefinition itself is served by the front, as any other;
//   - both write into one aggregated discovery, and names of groups of custom resources are copied to the other form of it;
//   - the controllers that describe custom resources in OpenAPI write into the documents of the front.
type customResources struct {
	*extensionsserver.CustomResourceDefinitions
}

// newCustomResources makes the server from a copy of the configuration of the front.
func newCustomResources(front *genericapiserver.RecommendedConfig, layout layout, storages *storages, client kubernetes.Interface) (*customResources, error) {
	config := *front
	config.PostStartHooks = make(map[string]genericapiserver.PostStartHookConfigEntry)
	config.MergedResourceConfig = serverstorage.NewResourceConfig() // the front has the definitions
	extensions := extensionsserver.Config{
		GenericConfig: &config,
		ExtraConfig: extensionsserver.ExtraConfig{
			CRDRESTOptionsGetter: overJSON{extensionsoptions.NewCRDRESTOptionsGetter(layout.options, config.ResourceTransformers, config.StorageObjectCountTracker), storages},
			MasterCount:          1,
			ServiceResolver:      serviceResolver{client},
			AuthResolverWrapper:  webhook.NewDefaultAuthenticationInfoResolverWrapper(nil, nil, config.LoopbackClientConfig, noop.NewTracerProvider()),
		},
	}
	server, err := extensions.Complete().New(genericapiserver.NewEmptyDelegate())
	if err != nil {
		return nil, fmt.Errorf("server of custom resources: make: %w", err)
	}
	return &customResources{server}, nil
}

// definitions is the group of CustomResourceDefinition for the front to serve.
func definitions(options generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error) {
	info := genericapiserver.NewDefaultAPIGroupInfo(apiextensions.GroupName, extensionsserver.Scheme, metav1.ParameterCodec, extensionsserver.Codecs)
	store, err := customresourcedefinition.NewREST(extensionsserver.Scheme, options)
	if err != nil {
		return info, fmt.Errorf("customresourcedefinitions: make storage: %w", err)
	}
	info.VersionedResourcesStorageMap[apiextensionsv1.SchemeGroupVersion.Version] = map[string]rest.Storage{
		"customresourcedefinitions":        store,
		"customresourcedefinitions/status": customresourcedefinition.NewStatusREST(extensionsserver.Scheme, store),
	}
	return info, nil
}

// join makes discovery and OpenAPI of the front those of both. It must come before the front's Run.
func (c *customResources) join(front *genericapiserver.GenericAPIServer, documents *documents) error {
	// The controllers take these when they start.
	c.GenericAPIServer.StaticOpenAPISpec = documents.builtIn
	c.GenericAPIServer.OpenAPIVersionedService = documents.second
	c.GenericAPIServer.OpenAPIV3VersionedService = documents.third

	groups := groupNames{definitions: c.Informers.Apiextensions().V1().CustomResourceDefinitions().Informer(), list: front.DiscoveryGroupManager, builtIn: sets.New[string]()}
	known, err := front.DiscoveryGroupManager.Groups(context.Background(), new(http.Request))
	if err != nil {
		return fmt.Errorf("API groups: list: %w", err)
	}
	for _, g := range known {
		groups.builtIn.Insert(g.Name)
	}
	_, err = groups.definitions.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    groups.update,
		UpdateFunc: func(_, obj any) { groups.update(obj) },
		DeleteFunc: groups.update,
	})
	return err
}

// groupNames keeps the groups of custom resources in the list of groups that clients get who do not ask for aggregated
// discovery. It is called by one goroutine, the informer's.
type groupNames struct {
	definitions cache.SharedIndexInformer
	list        discovery.GroupManager
	builtIn     sets.Set[string]
}

func (g groupNames) update(obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	definition, ok := obj.(*apiextensionsv1.CustomResourceDefinition)
	if !ok || g.builtIn.Has(definition.Spec.Group) {
		return
	}
	group, served := groupOf(definition.Spec.Group, g.definitions.GetStore().List())
	if served {
		g.list.AddGroup(group)
	} else {
		g.list.RemoveGroup(group.Name)
	}
}

// groupOf is the pure part: the versions of a group, best first, as all definitions together have it; none if nothing of the
// group is served.
func groupOf(name string, definitions []any) (_ metav1.APIGroup, served bool) {
	versions := sets.New[string]()
	for _, obj := range definitions {
		definition := obj.(*apiextensionsv1.CustomResourceDefinition)
		if definition.Spec.Group != name || !apihelpers.IsCRDConditionTrue(definition, apiextensionsv1.Established) {
			continue
		}
		for _, v := range definition.Spec.Versions {
			if v.Served {
				versions.Insert(v.Name)
			}
		}
	}
	group := metav1.APIGroup{Name: name}
	for _, v := range slices.SortedFunc(slices.Values(versions.UnsortedList()), func(a, b string) int { return version.CompareKubeAwareVersionStrings(b, a) }) {
		group.Versions = append(group.Versions, metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + v, Version: v})
	}
	if len(group.Versions) == 0 {
		return group, false
	}
	group.PreferredVersion = group.Versions[0]
	return group, true
}

// resolveLimit bounds the look-up of a webhook's Service.
const resolveLimit = 5 * time.Second

// serviceResolver finds where the Service of a webhook is: at its cluster IP, which this machine routes. It asks the API each
// time, since webhooks are few and Services may be many.
type serviceResolver struct{ client kubernetes.Interface }

// ResolveEndpoint implements webhook.ServiceResolver.
func (r serviceResolver) ResolveEndpoint(namespace, name string, port int32) (*url.URL, error) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveLimit)
	defer cancel()
	service, err := r.client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	one := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	if err := one.Add(service); err != nil {
		return nil, err
	}
	return proxy.ResolveCluster(corelisters.NewServiceLister(one), namespace, name, port)
}
