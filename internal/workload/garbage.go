package workload

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
)

const (
	// rediscover is how often the collector asks which resources there are, if nothing tells it that they have changed.
	rediscover = 30 * time.Second
	// quiet is how long it waits after a change of a CustomResourceDefinition for more of them, and for discovery to follow.
	quiet = time.Second
)

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

type collector struct {
	*garbagecollector.GarbageCollector
	client   kubernetes.Interface
	metadata metadatainformer.SharedInformerFactory
}

func newCollector(ctx context.Context, client kubernetes.Interface, metadataClient metadata.Interface, shared informers.SharedInformerFactory) (*collector, error) {
	// The mapper needs a discovery cache of its own, which the collector empties when resources come or go.
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	others := metadatainformer.NewSharedInformerFactoryWithOptions(metadataClient, 0, metadatainformer.WithTransform(trim))
	started := make(chan struct{})
	close(started) // nothing here depends on all informers beginning at the same time
	gc, err := garbagecollector.NewGarbageCollector(ctx, client, metadataClient, mapper, garbagecollector.DefaultIgnoredResources(),
		&collectorInformers{shared, others}, started)
	if err != nil {
		return nil, fmt.Errorf("workload: make the garbage collector: %w", err)
	}
	return &collector{gc, client, others}, nil
}

func (c *collector) run(ctx context.Context) {
	var parts sync.WaitGroup
	// Sync first finds out what to watch, so the collector has something to wait for.
	parts.Go(func() { c.follow(ctx) })
	parts.Go(func() { c.Run(ctx, workers, rediscover) })
	parts.Wait()
	c.metadata.Shutdown()
}

// follow keeps the collector's knowledge of resources up to date. Upstream's Sync looks at fixed times; a new Sync looks at once.
func (c *collector) follow(ctx context.Context) {
	changed := make(chan struct{}, 1)
	notice := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	// It fails only for an informer that has been stopped.
	_, _ = c.metadata.ForResource(definitions).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: notice, UpdateFunc: func(_, obj any) { notice(obj) }, DeleteFunc: notice,
	})
	for ctx.Err() == nil {
		era, over := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.Sync(era, c.client.Discovery(), rediscover)
		}()
		select {
		case <-ctx.Done():
		case <-changed:
			select {
			case <-ctx.Done():
			case <-time.After(quiet):
			}
		}
		over()
		<-ended
	}
}

// collectorInformers gives the garbage collector the informers of the kinds that others here hold whole, and for all else informers of metadata.
type collectorInformers struct {
	shared   informers.SharedInformerFactory
	metadata metadatainformer.SharedInformerFactory
}

func (i *collectorInformers) ForResource(r schema.GroupVersionResource) (informers.GenericInformer, error) {
	switch r.GroupResource().String() {
	case "pods", "namespaces", "nodes", "replicationcontrollers", "jobs.batch", "cronjobs.batch",
		"deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps", "controllerrevisions.apps":
		return i.shared.ForResource(r)
	}
	return i.metadata.ForResource(r), nil
}

func (i *collectorInformers) Start(stop <-chan struct{}) {
	i.shared.Start(stop)
	i.metadata.Start(stop)
}
