package workload

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// Config says for which API to work.
type Config struct {
	// API is the server and who to be there: it must be allowed everything, as a garbage collector must.
	API *rest.Config
	// Logger says when the parts have started; nil logs nothing. What upstream's code logs goes to klog.
	Logger *slog.Logger
}

// Run works until ctx ends, and returns its error.
func Run(ctx context.Context, c Config) error {
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	began := time.Now()
	client, err := kubernetes.NewForConfig(c.API)
	if err != nil {
		return fmt.Errorf("workload: make a client: %w", err)
	}
	metadataClient, err := metadata.NewForConfig(c.API)
	if err != nil {
		return fmt.Errorf("workload: make a client of metadata: %w", err)
	}
	// Everything below ends before Run returns, also where only one of the parts fails to start.
	ctx, stop := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stop()

	shared := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim))
	absent, idle := absentInformers(client)
	controllers, err := newControllers(ctx, client, shared, absent)
	if err != nil {
		return err
	}
	namespaces, err := newNamespaces(ctx, client, metadataClient, shared)
	if err != nil {
		return err
	}
	garbage, err := newCollector(ctx, client, metadataClient, shared)
	if err != nil {
		return err
	}
	pods, err := newScheduler(ctx, client, absent)
	if err != nil {
		return err
	}
	shared.Start(ctx.Done())
	defer shared.Shutdown()

	for _, i := range idle {
		parts.Go(func() { i.RunWithContext(ctx) })
	}
	for _, c := range append(controllers, namespaces) {
		parts.Go(func() { c.Run(ctx, workers) })
	}
	parts.Go(func() { garbage.run(ctx) })
	parts.Go(func() { pods.run(ctx) })
	shared.WaitForCacheSync(ctx.Done())
	if ctx.Err() == nil {
		log.Debug("workload controllers and scheduler started", "took", time.Since(began))
	}
	<-ctx.Done()
	return ctx.Err()
}

// trim takes from an object what nobody here reads and what is often the bigger part of it.
func trim(obj any) (any, error) {
	if o, err := meta.Accessor(obj); err == nil {
		o.SetManagedFields(nil)
	}
	return obj, nil
}
