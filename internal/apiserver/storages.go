package apiserver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/etcd3"
	etcdfeature "k8s.io/apiserver/pkg/storage/feature"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// storages makes the storage of every resource: upstream's watch cache over upstream's etcd storage, over a client that calls the etcd
// of this process directly. Upstream's own factory can only dial: a connection per resource, and every request through two
// HTTP/2 stacks and a socket. Each writes only while there is room.
//
// It remembers what it made. The generic server destroys those storages that it serves; upstream also makes some that it does
// not (resourcequotas), and whatever is left would hold up the end of etcd.
type storages struct {
	generic.RESTOptionsGetter
	database *database

	mu        sync.Mutex
	compactor stoppable
	number    int                         // of the last storage made
	made      map[int]factory.DestroyFunc // those that are not destroyed yet
}

// overJSON makes the storages of custom resources, which come and go: getter knows their form.
type overJSON struct {
	getter generic.RESTOptionsGetter
	*storages
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (o overJSON) GetRESTOptions(resource schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	options, err := o.getter.GetRESTOptions(resource, example)
	options.Decorator = o.make
	return options, err
}

// stoppable is upstream's compactor, whose type has no name.
type stoppable interface {
	etcd3.Compactor
	Stop()
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (s *storages) GetRESTOptions(resource schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	options, err := s.RESTOptionsGetter.GetRESTOptions(resource, example)
	options.Decorator = s.make
	return options, err
}

// make implements generic.StorageDecorator.
func (s *storages) make(config *storagebackend.ConfigForResource, prefix string, key func(runtime.Object) (string, error),
	object, list func() runtime.Object, attributes storage.AttrFunc, trigger storage.IndexerFuncs, indexers *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	client := s.database.client()
	versioner := storage.APIObjectVersioner{}
	raw, err := etcd3.New(client, s.compactorFor(config.Config), config.Codec, object, list, config.Prefix, prefix, config.GroupResource,
		identity.NewEncryptCheckTransformer(), config.LeaseManagerConfig, etcd3.NewDefaultDecoder(config.Codec, versioner), versioner)
	if err != nil {
		_ = client.Close()
		return nil, nil, fmt.Errorf("%s: make storage: %w", config.GroupResource, err)
	}
	cached, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage: raw, Versioner: versioner, GroupResource: config.GroupResource, EventsHistoryWindow: config.EventsHistoryWindow,
		ResourcePrefix: prefix, KeyFunc: key, NewFunc: object, NewListFunc: list, GetAttrsFunc: attributes,
		IndexerFuncs: trigger, Indexers: indexers, Codec: config.Codec,
	})
	if err != nil {
		raw.Close()
		_ = client.Close()
		return nil, nil, fmt.Errorf("%s: make watch cache: %w", config.GroupResource, err)
	}
	delegator := cacher.NewCacheDelegator(cached, raw)
	s.mu.Lock()
	defer s.mu.Unlock()
	return guarded{delegator, s.database.room, s.database.quota}, s.remember(func() {
		delegator.Stop()
		cached.Stop()
		raw.Close()
		_ = client.Close()
	}), nil
}

// remember returns end in a form that does its work once (upstream destroys what subresources share once for each), and keeps it
// until then. The caller holds mu.
func (s *storages) remember(end func()) factory.DestroyFunc {
	if s.made == nil {
		s.made = make(map[int]factory.DestroyFunc)
	}
	s.number++
	number := s.number
	once := sync.OnceFunc(func() {
		end()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.made, number)
	})
	s.made[number] = once
	return once
}

// compactorFor is the one compactor of the database, which removes revisions that nobody can ask for any more.
func (s *storages) compactorFor(config storagebackend.Config) etcd3.Compactor {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.compactor == nil {
		client := s.database.client()
		s.compactor = etcd3.NewCompactor(client.Client, config.CompactionInterval, clock.RealClock{}, func() {})
		s.remember(func() {
			s.compactor.Stop()
			_ = client.Close()
		})
		// Upstream asks each endpoint of a client for its version, to know what its watches can do. A direct client has no endpoint.
		etcdfeature.DefaultFeatureSupportChecker.CheckClient(client.Ctx(), member{client.Client, s.database.endpoint()}, storage.RequestWatchProgress)
	}
	return s.compactor
}

// member is a direct client with the endpoint that upstream wants to see.
type member struct {
	*clientv3.Client
	endpoint string
}

// Endpoints tells the one endpoint.
func (m member) Endpoints() []string { return []string{m.endpoint} }

// Status asks the one member.
func (m member) Status(ctx context.Context, _ string) (*clientv3.StatusResponse, error) {
	return m.Client.Status(ctx, m.endpoint)
}

// destroy ends all of them. What is destroyed already is left alone.
func (s *storages) destroy() {
	s.mu.Lock()
	left := slices.Collect(maps.Values(s.made))
	s.mu.Unlock()
	for _, d := range left {
		d()
	}
}
