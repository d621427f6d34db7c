package endpointslice

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"fairway.dev/fairway/internal/kube"
)

// workers is how many Services are written at the same time. A writer mostly waits for the API's disk, so this is about that, not about cores.
const workers = 16

// Options are what may differ between controllers.
type Options struct {
	// Logger gets failed writes, and at debug level every write; nil logs nothing.
	Logger *slog.Logger
}

// Controller writes EndpointSlices. Use New.
type Controller struct {
	cfg *rest.Config
	log *slog.Logger

	// open and api are nil but in tests.
	open func(schema.GroupVersionResource, kube.Selection) cache.ListerWatcher
	api  writer
}

// New prepares a controller for the API server of cfg. It does not connect.
func New(cfg *rest.Config, o Options) *Controller {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Controller{cfg: cfg, log: o.Logger}
}

// Run works until ctx ends, and returns its error.
func (c *Controller) Run(ctx context.Context) error {
	open, api := c.open, c.api
	if open == nil {
		client, err := kube.NewClient(c.cfg)
		if err != nil {
			return fmt.Errorf("endpointslice controller: %w", err)
		}
		open, api = client.ListWatch, restWriter{client.Group(discoveryv1.SchemeGroupVersion), client.Group(corev1.SchemeGroupVersion)}
	}
	w := newWorld()
	core := corev1.SchemeGroupVersion
	var all sync.WaitGroup
	all.Go(func() {
		follow(ctx, c.log, w, "services", open(core.WithResource("services"), kube.Selection{}), serviceRow, observeServices{w})
	})
	all.Go(func() {
		follow(ctx, c.log, w, "pods", open(core.WithResource("pods"), kube.Selection{}), podRow, observePods{w})
	})
	all.Go(func() {
		follow(ctx, c.log, w, "nodes", open(core.WithResource("nodes"), kube.Selection{}), nodeRow, observeNodes{w})
	})
	own := kube.Selection{Labels: discoveryv1.LabelManagedBy + "=" + managedBy}
	all.Go(func() {
		lw := open(discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), own)
		follow(ctx, c.log, w, "endpointslices", lw, ownSlice, observeSlices{w})
	})
	for range workers {
		all.Go(func() { c.work(ctx, w, api) })
	}
	<-ctx.Done()
	w.close()
	all.Wait()
	return ctx.Err()
}

func follow[O kube.Object, R any](ctx context.Context, log *slog.Logger, w *world, resource string, lw cache.ListerWatcher, conv kube.Convert[O, R], to kube.Receiver[R]) {
	kube.Watch(ctx, log, resource, lw, conv, &firstList[R]{Receiver: to, listed: sync.OnceFunc(w.listed)})
}

// firstList tells the world of the first list, after it.
type firstList[R any] struct {
	kube.Receiver[R]
	listed func()
}

func (f *firstList[R]) Replace(items []kube.Item[R], at kube.Version) {
	f.Receiver.Replace(items, at)
	f.listed()
}
