package apiserver

import (
	"context"
	"fmt"
	"sync"
	"time"

	extensionsserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/filters"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/pkg/api/legacyscheme"

	"fairway.dev/fairway/internal/apiserver/openapi"
	"fairway.dev/fairway/internal/apiserver/service"
)

// drainLimit bounds how long connections with open requests (`kubectl logs -f`) are waited for when the server stops.
const drainLimit = 5 * time.Second

// watchLimit is how long watches are waited for, which are told to end when the server stops. Without it they are not told.
const watchLimit = 100 * time.Millisecond

// longRunning tells the requests that last as long as their client wants; any other has a minute.
var longRunning = filters.BasicLongRunningRequestCheck(
	sets.NewString("watch", "proxy"),
	sets.NewString("attach", "exec", "log", "portforward", "proxy"),
)

// assembly is a generic server with everything installed, ready to run, and the parts of it that want goroutines.
type assembly struct {
	prepared interface {
		RunWithContext(context.Context) error
	}
	services *service.Storage
	objects  systemObjects
	defaults *defaults
	storages *storages
}

// assemble builds the generic server while etcd starts, and returns once both are there. started delivers the outcome of
// etcd's start.
func (s *Server) assemble(ctx context.Context, started <-chan error) (_ *assembly, err error) {
	config, client, rules, err := s.genericConfig(ctx)
	if err != nil {
		<-started
		return nil, err
	}
	layout := newLayout(s.database.endpoint())
	made := &storages{RESTOptionsGetter: layout.getter(), database: s.database}
	config.RESTOptionsGetter = made
	// The watch caches retry slowly, so that making them before etcd answers would cost more than it saves.
	if err := <-started; err != nil {
		return nil, err
	}
	custom, err := newCustomResources(config, layout, made, client)
	if err != nil {
		return nil, err
	}
	server, err := config.Complete().New("fairway", custom.GenericAPIServer)
	if err != nil {
		custom.GenericAPIServer.Destroy()
		return nil, fmt.Errorf("API server: make: %w", err)
	}
	defer func() {
		if err != nil {
			server.Destroy() // its connections would hold up the end of etcd
			made.destroy()
		}
	}()
	server.ShutdownTimeout = drainLimit
	core := &coreGroup{
		layout:        layout,
		database:      s.database,
		allocators:    s.allocators,
		loopback:      s.loopback,
		authorizer:    config.Authorization.Authorizer,
		accounts:      s.accounts,
		transport:     newProxyTransport(),
		kubelet:       s.kubelet,
		authorityFile: s.authority.CertFile(),
	}
	server.RegisterDestroyFunc(core.transport.CloseIdleConnections)
	if err := installGroups(server, config, core, rules, config.RESTOptionsGetter); err != nil {
		return nil, err
	}
	if err := s.accounts.discovery(server, s.reachable()); err != nil {
		return nil, err
	}
	defaults, err := s.newDefaults(ctx, client, config.SharedInformerFactory)
	if err != nil {
		return nil, err
	}
	s.services = core.services
	if err := core.services.Load(ctx); err != nil {
		return nil, err
	}
	objects := systemObjects{client, s.wantedSystemObjects(), s.log, new(sync.Once)}
	server.AddPostStartHookOrDie("fairway-system-objects", func(hook genericapiserver.PostStartHookContext) error {
		return objects.restore(hook)
	})
	prepared := server.PrepareRun()
	documents, err := serveDocuments(server, config.OpenAPIConfig, config.OpenAPIV3Config)
	if err != nil {
		return nil, fmt.Errorf("OpenAPI documents: serve: %w", err)
	}
	if err := custom.join(server, documents); err != nil {
		return nil, err
	}
	return &assembly{prepared, core.services, objects, defaults, made}, nil
}

// genericConfig is all that can be configured without etcd. It comes with a client of the server itself and with what lists somebody's rights.
func (s *Server) genericConfig(ctx context.Context) (*genericapiserver.RecommendedConfig, kubernetes.Interface, authorizer.RuleResolver, error) {
	config := genericapiserver.NewRecommendedConfig(legacyscheme.Codecs)
	config.EffectiveVersion = newServedVersion()
	config.FeatureGate = utilfeature.DefaultFeatureGate
	config.ShutdownWatchTerminationGracePeriod = watchLimit
	config.LongRunningFunc = longRunning
	config.LoopbackClientConfig = s.loopback
	config.ExternalAddress = s.addresses[0].String()

	var err error
	config.SecureServing = &genericapiserver.SecureServingInfo{Listener: s.listeners}
	if config.SecureServing.Cert, err = dynamiccertificates.NewStaticCertKeyContent("serving", s.serving.CertPEM, s.serving.KeyPEM); err != nil {
		return nil, nil, nil, fmt.Errorf("serving certificate: %w", err)
	}
	if config.SecureServing.ClientCA, err = dynamiccertificates.NewStaticCAContent("authority", s.authority.CertPEM()); err != nil {
		return nil, nil, nil, fmt.Errorf("certificate authority: %w", err)
	}

	config.AggregatedDiscoveryGroupManager = aggregated.NewResourceManager("apis")
	namer := openapinamer.NewDefinitionNamer(legacyscheme.Scheme, extensionsserver.Scheme)
	config.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(openapi.GetOpenAPIDefinitions, namer)
	config.OpenAPIConfig.Info.Title = "Fairway"
	config.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitions, namer)
	config.OpenAPIV3Config.Info.Title = "Fairway"
	config.SkipOpenAPIInstallation = true // serveDocuments does it

	client, err := kubernetes.NewForConfig(s.loopback)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("client of the API server itself: make: %w", err)
	}
	config.SharedInformerFactory = informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(withoutManagedFields))
	accounts, err := s.accounts.authenticator(client.CoreV1())
	if err != nil {
		return nil, nil, nil, err
	}
	config.Authentication.Authenticator = newAuthenticator(s.authority.Pool(), &s.tokens, accounts)
	config.Authentication.APIAudiences = tokenAudiences
	var rules authorizer.RuleResolver
	if config.Authorization.Authorizer, rules, err = newAuthorizer(config.SharedInformerFactory); err != nil {
		return nil, nil, nil, err
	}
	if config.AdmissionControl, err = newAdmission(ctx, config, client); err != nil {
		return nil, nil, nil, err
	}
	return config, client, rules, nil
}

// withoutManagedFields saves the memory of what no reader of a cache looks at.
func withoutManagedFields(obj any) (any, error) {
	if o, err := meta.Accessor(obj); err == nil {
		o.SetManagedFields(nil)
	}
	return obj, nil
}
