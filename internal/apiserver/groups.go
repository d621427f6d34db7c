package apiserver

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/generic"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"

	// Upstream's internal types, defaulting, conversion and validation register themselves.
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/authentication/install"
	_ "k8s.io/kubernetes/pkg/apis/authorization/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install" // the type Scale
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/coordination/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	_ "k8s.io/kubernetes/pkg/apis/events/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"

	authenticationrest "k8s.io/kubernetes/pkg/registry/authentication/rest"
	authorizationrest "k8s.io/kubernetes/pkg/registry/authorization/rest"
	batchrest "k8s.io/kubernetes/pkg/registry/batch/rest"
	coordinationrest "k8s.io/kubernetes/pkg/registry/coordination/rest"
	discoveryrest "k8s.io/kubernetes/pkg/registry/discovery/rest"
	eventsrest "k8s.io/kubernetes/pkg/registry/events/rest"
	policyrest "k8s.io/kubernetes/pkg/registry/policy/rest"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	schedulingrest "k8s.io/kubernetes/pkg/registry/scheduling/rest"
)

// eventLife is how long an event is kept.
const eventLife = time.Hour

// served lists every resource that is served; subresources come with theirs. A resource is on it if something in stand-alone
// mode acts on it: a StatefulSet that is accepted and never becomes Pods would be worse than one that is refused.
var served = map[schema.GroupVersion][]string{
	{Version: "v1"}: {"namespaces", "services", "pods", "nodes", "endpoints", "events", "configmaps", "secrets", "serviceaccounts", "replicationcontrollers"},

	{Group: "apps", Version: "v1"}:                      {"deployments", "replicasets", "statefulsets", "daemonsets", "controllerrevisions"},
	{Group: "authentication.k8s.io", Version: "v1"}:     {"selfsubjectreviews", "tokenreviews"},
	{Group: "authorization.k8s.io", Version: "v1"}:      {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews", "localsubjectaccessreviews"},
	{Group: "batch", Version: "v1"}:                     {"jobs", "cronjobs"},
	{Group: "coordination.k8s.io", Version: "v1"}:       {"leases"},
	{Group: "discovery.k8s.io", Version: "v1"}:          {"endpointslices"},
	{Group: "events.k8s.io", Version: "v1"}:             {"events"},
	{Group: "networking.k8s.io", Version: "v1"}:         {"ingresses", "ingressclasses", "ipaddresses", "servicecidrs"},
	{Group: "policy", Version: "v1"}:                    {"poddisruptionbudgets"},
	{Group: "rbac.authorization.k8s.io", Version: "v1"}: {"roles", "rolebindings", "clusterroles", "clusterrolebindings"},
	{Group: "scheduling.k8s.io", Version: "v1"}:         {"priorityclasses"},
}

func servedResources() *serverstorage.ResourceConfig {
	config := serverstorage.NewResourceConfig()
	for version, resources := range served {
		for _, resource := range resources {
			config.EnableResources(version.WithResource(resource))
		}
	}
	return config
}

// restProvider is upstream's maker of the storage of one group.
type restProvider interface {
	GroupName() string
	NewRESTStorage(serverstorage.APIResourceConfigSource, generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error)
}

// firstGroupPriority is where the first group at /apis stands in discovery; the others follow it. Groups of custom resources stand at 1000.
const firstGroupPriority = 17000

// installGroups serves the core group, made by core, at /api and the other groups at /apis, in upstream's order. What rules
// lists, `kubectl auth can-i --list` shows.
func installGroups(server *genericapiserver.GenericAPIServer, config *genericapiserver.RecommendedConfig, core *coreGroup, rules authorizer.RuleResolver, options generic.RESTOptionsGetter) error {
	resources := servedResources()
	coreInfo, err := core.storage(resources, options)
	if err != nil {
		return fmt.Errorf("core group: make storage: %w", err)
	}
	if err := server.InstallLegacyAPIGroup(genericapiserver.DefaultLegacyAPIPrefix, &coreInfo); err != nil {
		return fmt.Errorf("core group: install: %w", err)
	}
	extensions, err := definitions(options)
	if err != nil {
		return err
	}
	var infos []*genericapiserver.APIGroupInfo
	for _, provider := range []restProvider{
		appsProvider{},
		eventsrest.RESTStorageProvider{TTL: eventLife},
		authenticationrest.RESTStorageProvider{Authenticator: config.Authentication.Authenticator, APIAudiences: config.Authentication.APIAudiences},
		authorizationrest.RESTStorageProvider{Authorizer: config.Authorization.Authorizer, RuleResolver: rules},
		batchrest.RESTStorageProvider{},
		networkingProvider{services: core.services},
		policyrest.RESTStorageProvider{},
		rbacrest.RESTStorageProvider{Authorizer: config.Authorization.Authorizer},
		schedulingrest.RESTStorageProvider{},
		coordinationrest.RESTStorageProvider{},
		discoveryrest.StorageProvider{},
	} {
		info, err := provider.NewRESTStorage(resources, options)
		if err != nil {
			return fmt.Errorf("group %s: make storage: %w", provider.GroupName(), err)
		}
		infos = append(infos, &info)
	}
	infos = append(infos, &extensions)
	if err := server.InstallAPIGroups(infos...); err != nil {
		return fmt.Errorf("API groups: install: %w", err)
	}
	// Where two groups have a resource of one name, clients take the group that stands first.
	for i, info := range infos {
		for j, version := range info.PrioritizedVersions {
			server.AggregatedDiscoveryGroupManager.SetGroupVersionPriority(metav1.GroupVersion(version), firstGroupPriority-i, len(info.PrioritizedVersions)-j)
		}
	}
	return nil
}
