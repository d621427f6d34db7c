package workload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/namespace/deletion"
)

const (
	// namespaceSettle is how long after its deletion a namespace is left alone, so that the API's own cache, by which it refuses new objects in it,
	// has learned of the deletion. Upstream waits five seconds, for several API servers and a database of several members.
	namespaceSettle = 200 * time.Millisecond
	// namespaceRetry is how often a namespace is looked at in which something is left that nobody tells us the end of. Upstream sleeps through half
	// of the longest grace period that a Pod in it has, however soon the Pod ends.
	namespaceRetry = time.Second
	// An unexpected failure is tried again after firstRetry, and then ever later; upstream's numbers.
	firstRetry, lastRetry = 5 * time.Millisecond, time.Minute
)

// namespaces empties the namespaces that are being deleted, with the code of upstream's controller for what to delete and in which order, and a
// loop of its own for when: at once, and again as soon as a Pod in it has ended.
type namespaces struct {
	deleter deletion.NamespacedResourcesDeleterInterface
	lister  corelisters.NamespaceLister
	synced  []cache.InformerSynced
	queue   workqueue.TypedRateLimitingInterface[string]
}

func newNamespaces(ctx context.Context, client kubernetes.Interface, metadataClient metadata.Interface, shared informers.SharedInformerFactory) (*namespaces, error) {
	all, pods := shared.Core().V1().Namespaces(), shared.Core().V1().Pods()
	n := &namespaces{
		// It asks anew each time which resources there are, so it knows custom ones as soon as they are served.
		deleter: deletion.NewNamespacedResourcesDeleter(ctx, client.CoreV1().Namespaces(), metadataClient, client.CoreV1(),
			client.Discovery().ServerPreferredNamespacedResources, corev1.FinalizerKubernetes),
		lister: all.Lister(),
		queue:  workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry)),
	}
	changed := func(obj any) {
		if ns, ok := obj.(*corev1.Namespace); ok && ns.DeletionTimestamp != nil {
			n.queue.AddAfter(ns.Name, namespaceSettle)
		}
	}
	podGone := func(obj any) {
		key, err := cache.DeletionHandlingObjectToName(obj)
		if err != nil {
			return
		}
		if ns, err := n.lister.Get(key.Namespace); err == nil && ns.DeletionTimestamp != nil {
			n.queue.Add(ns.Name)
		}
	}
	for _, watched := range []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandlerFuncs
	}{
		{all.Informer(), cache.ResourceEventHandlerFuncs{AddFunc: changed, UpdateFunc: func(_, obj any) { changed(obj) }}},
		{pods.Informer(), cache.ResourceEventHandlerFuncs{DeleteFunc: podGone}},
	} {
		handler, err := watched.informer.AddEventHandler(watched.handler)
		if err != nil {
			return nil, fmt.Errorf("workload: make the namespace controller: %w", err)
		}
		n.synced = append(n.synced, handler.HasSynced)
	}
	return n, nil
}

// Run implements controller.
func (n *namespaces) Run(ctx context.Context, workers int) {
	if !cache.WaitForCacheSync(ctx.Done(), n.synced...) {
		return
	}
	context.AfterFunc(ctx, n.queue.ShutDown)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for {
				name, ended := n.queue.Get()
				if ended {
					return
				}
				n.empty(ctx, name)
				n.queue.Done(name)
			}
		})
	}
	running.Wait()
}

// empty does what can be done for a namespace now, and says when to come back.
func (n *namespaces) empty(ctx context.Context, name string) {
	_, err := n.lister.Get(name)
	if err == nil {
		err = n.deleter.Delete(ctx, name)
	}
	var remaining *deletion.ResourcesRemainingError
	switch {
	case err == nil || apierrors.IsNotFound(err):
		n.queue.Forget(name)
	case errors.As(err, &remaining):
		n.queue.AddAfter(name, namespaceRetry)
	case ctx.Err() == nil:
		klog.FromContext(ctx).Error(err, "Namespace could not be emptied", "namespace", name)
		n.queue.AddRateLimited(name)
	}
}
