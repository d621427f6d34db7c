package node

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/scheme"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"fairway.dev/fairway/internal/node/network"
	"fairway.dev/fairway/internal/node/runtime"
)

// Node runs the Pods that are bound to it.
type Node struct {
	Config
	runtime   *runtime.Runtime
	addresses *network.Allocator
	services  listers.ServiceLister
	events    record.EventRecorder

	authorities sync.Map // by namespace: what was last read of the ConfigMap rootCA

	mu      sync.Mutex
	workers map[types.UID]*worker
	names   map[string]types.UID // "namespace/name" → the newest Pod of that name
}

// New checks the configuration and looks for runc. It starts nothing.
func New(c Config) (*Node, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	for _, dir := range []*string{&c.DataDir, &c.RunDir} {
		if err := os.MkdirAll(*dir, 0o755); err != nil {
			return nil, fmt.Errorf("node %s: %w", c.Name, err)
		}
		// The kernel lists mounts by their real paths.
		real, err := filepath.EvalSymlinks(*dir)
		if err == nil {
			real, err = filepath.Abs(real)
		}
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", c.Name, err)
		}
		*dir = real
	}
	r, err := runtime.New(c.Runc, c.RunDir)
	if err != nil {
		return nil, err
	}
	return &Node{
		Config: c, runtime: r, addresses: network.NewAllocator(c.PodCIDRs),
		workers: map[types.UID]*worker{}, names: map[string]types.UID{},
	}, nil
}

// Run registers the node and runs its Pods until ctx ends. The machine's network must be set up (network.Setup). Pods go on after Run
// has returned.
func (n *Node) Run(ctx context.Context) error {
	present, err := n.present()
	if err != nil {
		return fmt.Errorf("node %s: find Pods from before: %w", n.Name, err)
	}
	for _, p := range present {
		n.addresses.Reserve(p.Addresses)
	}
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()

	broadcaster := record.NewBroadcaster()
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&eventSink{ctx, n.Client.CoreV1()})
	n.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "fairway-node", Host: n.Name})

	if err := n.register(ctx); err != nil {
		return err
	}
	all := informers.NewSharedInformerFactory(n.Client, 0)
	own := informers.NewSharedInformerFactoryWithOptions(n.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", n.Name).String()
	}))
	services, pods := all.Core().V1().Services(), own.Core().V1().Pods()
	n.services = services.Lister()
	serviceInformer, podInformer := services.Informer(), pods.Informer()
	all.Start(ctx.Done())
	defer all.Shutdown()
	// A Pod's environment names the Services, so none may start before they are known.
	if !cache.WaitForCacheSync(ctx.Done(), serviceInformer.HasSynced) {
		return nil
	}
	registration, err := podInformer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { n.podChanged(ctx, &background, o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { n.podChanged(ctx, &background, o.(*corev1.Pod)) },
		DeleteFunc: func(o any) {
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			n.podGone(o.(*corev1.Pod))
		},
	})
	if err != nil {
		return fmt.Errorf("node %s: watch Pods: %w", n.Name, err)
	}
	own.Start(ctx.Done())
	defer own.Shutdown()
	defer cancel() // before the factories are waited for
	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return nil
	}
	background.Go(func() { n.removeOrphans(ctx, present) })
	background.Go(func() { n.heartbeat(ctx) })
	background.Go(func() { n.keepVolumes(ctx) })
	if n.KubeletListen.IsValid() {
		return n.serve(ctx)
	}
	<-ctx.Done()
	return nil
}

// podChanged hands a Pod to its worker, which is started for a new one.
func (n *Node) podChanged(ctx context.Context, background *sync.WaitGroup, p *corev1.Pod) {
	if ctx.Err() != nil {
		return
	}
	n.mu.Lock()
	w, known := n.workers[p.UID]
	if !known {
		w = n.newWorker(p)
		n.workers[p.UID] = w
		n.names[p.Namespace+"/"+p.Name] = p.UID
	}
	n.mu.Unlock()
	if !known {
		background.Go(func() {
			w.run(ctx)
			n.forget(w)
		})
		return
	}
	w.writer.observe(p)
	w.post(func() { w.updated(p) })
}

// updated takes in what changed in the API.
func (w *worker) updated(p *corev1.Pod) {
	before, grace := w.pod.DeletionGracePeriodSeconds, p.DeletionGracePeriodSeconds
	w.pod = p
	w.state.generation = p.Generation
	if w.cancel != nil && grace != nil && (before == nil || *grace < *before) {
		// Somebody deletes the Pod again, and is in more of a hurry. After the stop's end this does nothing.
		time.AfterFunc(time.Duration(*grace)*time.Second, w.cancel)
	}
}

func (n *Node) podGone(p *corev1.Pod) {
	n.mu.Lock()
	w := n.workers[p.UID]
	n.mu.Unlock()
	if w == nil {
		return
	}
	w.post(func() {
		w.gone = true
		if w.cancel != nil {
			w.cancel()
		}
	})
}

func (n *Node) forget(w *worker) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.workers, w.uid)
	if name := w.pod.Namespace + "/" + w.pod.Name; n.names[name] == w.uid {
		delete(n.names, name)
	}
}

// worker returns the worker of a Pod by its name.
func (n *Node) worker(namespace, name string) *worker {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.workers[n.names[namespace+"/"+name]]
}

func (n *Node) allWorkers() []*worker {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(n.workers))
}

// removeOrphans removes the Pods that were here before and are not in the API any more.
func (n *Node) removeOrphans(ctx context.Context, present []podRecord) {
	for _, p := range present {
		n.mu.Lock()
		_, known := n.workers[p.UID]
		n.mu.Unlock()
		if known || n.podExists(ctx, p) {
			continue
		}
		n.Logger.Info("Pod is no longer in the API: removing it here", "pod", p.Namespace+"/"+p.Name)
		if err := n.removeOrphan(ctx, p); err != nil {
			n.Logger.Warn("Pod not fully removed", "pod", p.Namespace+"/"+p.Name, "error", err)
		}
	}
}

// podExists asks the API itself, because a worker that has just ended is not in the list.
func (n *Node) podExists(ctx context.Context, p podRecord) bool {
	pod, err := n.Client.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
	if err == nil {
		return pod.UID == p.UID && pod.Spec.NodeName == n.Name
	}
	return !apierrors.IsNotFound(err)
}

// event writes an Event about a Pod.
func (n *Node) event(p *corev1.Pod, kind, reason, format string, args ...any) {
	n.events.Eventf(p, kind, reason, format, args...)
}
