package mirroring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"

	"fairway.dev/fairway/internal/kube"
)

// workers is how many Endpoints are mirrored at the same time. They are few, and rarely change.
const workers = 4

const (
	firstPause = 5 * time.Millisecond
	maxPause   = 10 * time.Second
)

// Options are what may differ between controllers.
type Options struct {
	// Logger gets failed writes, and at debug level every write; nil logs nothing.
	Logger *slog.Logger
}

// Controller writes EndpointSlices. Use New.
type Controller struct {
	cfg *rest.Config
	log *slog.Logger
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
	client, err := kube.NewClient(c.cfg)
	if err != nil {
		return fmt.Errorf("mirroring controller: %w", err)
	}
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](firstPause, maxPause))
	s := newState(queue.Add)
	var all, listed sync.WaitGroup
	listed.Add(3)
	core, discovery := corev1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion
	own := kube.Selection{Labels: discoveryv1.LabelManagedBy + "=" + managedBy}
	all.Go(func() {
		follow(ctx, c.log, client, core.WithResource("services"), kube.Selection{}, withoutSelector, observeServices{s}, &listed)
	})
	all.Go(func() {
		follow(ctx, c.log, client, core.WithResource("endpoints"), kube.Selection{}, endpointsRow, observeEndpoints{s}, &listed)
	})
	all.Go(func() {
		follow(ctx, c.log, client, discovery.WithResource("endpointslices"), own, sliceRow, observeSlices{s}, &listed)
	})
	all.Go(func() {
		<-ctx.Done()
		queue.ShutDown()
	})
	w := &writer{client.Group(core), client.Group(discovery), c.log, s}
	for range workers {
		all.Go(func() {
			listed.Wait() // before everything is known, slices would be removed that are right
			for w.next(ctx, queue) {
			}
		})
	}
	all.Wait()
	return ctx.Err()
}

func withoutSelector(o *corev1.Service) (struct{}, bool) { return struct{}{}, o.Spec.Selector == nil }

func endpointsRow(o *corev1.Endpoints) (*corev1.Endpoints, bool) {
	if !mirrorable(o) {
		return nil, false
	}
	e := *o
	e.ManagedFields = nil
	return &e, true
}

func sliceRow(o *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, bool) {
	if !owned(o.Labels) {
		return nil, false
	}
	sl := *o
	sl.ManagedFields = nil
	return &sl, true
}

// follow watches one resource and says when its first list is in, or that there will be none.
func follow[O kube.Object, R any](ctx context.Context, log *slog.Logger, client *kube.Client, r schema.GroupVersionResource, sel kube.Selection,
	conv kube.Convert[O, R], to kube.Receiver[R], listed *sync.WaitGroup,
) {
	f := &firstList[R]{Receiver: to, listed: sync.OnceFunc(listed.Done)}
	defer f.listed()
	kube.Watch(ctx, log, r.Resource, client.ListWatch(r, sel), conv, f)
}

type firstList[R any] struct {
	kube.Receiver[R]
	listed func()
}

func (f *firstList[R]) Replace(items []kube.Item[R], at kube.Version) {
	f.Receiver.Replace(items, at)
	f.listed()
}

// writer makes the slices of Endpoints what they should be.
type writer struct {
	core, discovery rest.Interface
	log             *slog.Logger
	*state
}

// next mirrors the next Endpoints of the queue; false when it is shut down.
func (w *writer) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[types.NamespacedName]) bool {
	name, over := queue.Get()
	if over || ctx.Err() != nil {
		return false
	}
	defer queue.Done(name)
	if err := w.mirror(ctx, name); err != nil {
		if ctx.Err() == nil {
			w.log.Warn("write failed", "err", err)
			queue.AddRateLimited(name)
		}
		return true
	}
	queue.Forget(name)
	return true
}

func (w *writer) mirror(ctx context.Context, name types.NamespacedName) error {
	endpoints, existing := w.look(name)
	var wanted []*discoveryv1.EndpointSlice
	var l left
	if endpoints != nil {
		wanted, l = desired(endpoints)
	}
	todo := change(existing, wanted)
	if endpoints != nil && endpoints.DeletionTimestamp != nil {
		todo.create = nil
	}
	if len(todo.create)+len(todo.update)+len(todo.remove) == 0 {
		return nil
	}
	var errs []error
	for _, sl := range todo.create {
		out := new(discoveryv1.EndpointSlice)
		err := w.discovery.Post().Namespace(sl.Namespace).Resource("endpointslices").Body(sl).Do(ctx).Into(out)
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			continue // soon there is nothing to mirror there
		}
		errs = append(errs, w.wrote("create", name, out, err))
	}
	for _, sl := range todo.update {
		out := new(discoveryv1.EndpointSlice)
		err := w.discovery.Put().Namespace(sl.Namespace).Resource("endpointslices").Name(sl.Name).Body(sl).Do(ctx).Into(out)
		if apierrors.IsNotFound(err) {
			w.removed(sl)
		}
		errs = append(errs, w.wrote("update", name, out, err))
	}
	for _, sl := range todo.remove {
		o := &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &sl.UID}}
		err := w.discovery.Delete().Namespace(sl.Namespace).Resource("endpointslices").Name(sl.Name).Body(o).Do(ctx).Error()
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			errs = append(errs, fmt.Errorf("endpoints %s: delete endpointslice %s: %w", name, sl.Name, err))
			continue
		}
		w.removed(sl)
		w.log.Debug("deleted", "endpoints", name, "slice", sl.Name)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return w.tell(ctx, endpoints, l)
}

func (w *writer) wrote(verb string, name types.NamespacedName, sl *discoveryv1.EndpointSlice, err error) error {
	if err != nil {
		return fmt.Errorf("endpoints %s: %s endpointslice: %w", name, verb, err)
	}
	sl.ManagedFields = nil
	w.hold(sl)
	w.log.Debug(verb+"d", "endpoints", name, "slice", sl.Name, "endpoints", len(sl.Endpoints))
	return nil
}

// tell writes an Event of what could not be mirrored.
func (w *writer) tell(ctx context.Context, e *corev1.Endpoints, l left) error {
	var errs []error
	say := func(reason, format string, args ...any) {
		now := metav1.Now()
		event := &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, GenerateName: e.Name + "."},
			InvolvedObject: corev1.ObjectReference{
				APIVersion: "v1", Kind: "Endpoints", Namespace: e.Namespace, Name: e.Name, UID: e.UID, ResourceVersion: e.ResourceVersion,
			},
			Type: corev1.EventTypeWarning, Reason: reason, Message: fmt.Sprintf(format, args...),
			Source: corev1.EventSource{Component: "endpoint-slice-mirroring-controller"}, FirstTimestamp: now, LastTimestamp: now, Count: 1,
		}
		if err := w.core.Post().Namespace(e.Namespace).Resource("events").Body(event).Do(ctx).Error(); err != nil && !apierrors.IsForbidden(err) {
			errs = append(errs, fmt.Errorf("endpoints %s/%s: write event: %w", e.Namespace, e.Name, err))
		}
	}
	if l.invalid > 0 {
		say("InvalidIPAddress", "Skipped %d invalid IP addresses when mirroring to EndpointSlices", l.invalid)
	}
	if l.tooMany > 0 {
		say("TooManyAddressesToMirror", "A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", maxAddresses, l.tooMany)
	}
	return errors.Join(errs...)
}
