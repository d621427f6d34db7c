package endpointslice

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// worthTelling is after how many failures in a row the Service's owner is told: a conflict or two are nothing, half a second without endpoints is.
const worthTelling = 7

// writer is the part of the API that is written to. Each call returns what the API now holds.
type writer interface {
	create(context.Context, *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error)
	update(context.Context, *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error)
	delete(context.Context, *discoveryv1.EndpointSlice) error
	event(context.Context, *corev1.Event) error
}

// restWriter writes slices by the group discovery.k8s.io, events by the core group.
type restWriter struct {
	rest.Interface
	core rest.Interface
}

func (r restWriter) create(ctx context.Context, sl *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error) {
	out := new(discoveryv1.EndpointSlice)
	return out, r.Post().Namespace(sl.Namespace).Resource("endpointslices").Body(sl).Do(ctx).Into(out)
}

func (r restWriter) update(ctx context.Context, sl *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error) {
	out := new(discoveryv1.EndpointSlice)
	return out, r.Put().Namespace(sl.Namespace).Resource("endpointslices").Name(sl.Name).Body(sl).Do(ctx).Into(out)
}

func (r restWriter) delete(ctx context.Context, sl *discoveryv1.EndpointSlice) error {
	o := &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &sl.UID}}
	return r.Delete().Namespace(sl.Namespace).Resource("endpointslices").Name(sl.Name).Body(o).Do(ctx).Error()
}

func (r restWriter) event(ctx context.Context, e *corev1.Event) error {
	return r.core.Post().Namespace(e.Namespace).Resource("events").Body(e).Do(ctx).Error()
}

// work looks at one Service after the other until the world closes.
func (c *Controller) work(ctx context.Context, w *world, api writer) {
	for {
		t, ok := w.take()
		if !ok {
			return
		}
		groups, orphans := desired(t.service, t.members)
		if len(orphans) > 0 {
			c.log.Warn("Pods left out: their Node is not known", "service", t.service.name, "pods", orphans)
		}
		todo := pack(t.service, groups, t.stock, triggered(t.service, t.first, t.members))
		err := c.apply(ctx, w, api, t, todo)
		pause, failures := w.done(t, todo.topology, err != nil)
		switch {
		case err == nil:
			c.tell(ctx, api, t.service, topologyEvents(t.topology, todo.topology)...)
		case ctx.Err() == nil:
			c.log.Warn("write failed", "err", err, "retry", pause)
			if failures == worthTelling {
				c.tell(ctx, api, t.service, event{corev1.EventTypeWarning, "FailedToUpdateEndpointSlices", err.Error()})
			}
		}
	}
}

// apply writes, and notes each write as it is done, so that after a failure the next look starts from what is.
func (c *Controller) apply(ctx context.Context, w *world, api writer, t task, todo changes) error {
	err := each(todo.create, func(sl *discoveryv1.EndpointSlice) error {
		got, err := api.create(ctx, sl)
		switch {
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return nil // nothing can be created there any more, and soon there is nothing to create for
		case err != nil:
			return failed("create", t, sl, err)
		}
		c.note(w, t, "created", got)
		return nil
	})
	if err != nil {
		return err
	}
	err = each(todo.update, func(sl *discoveryv1.EndpointSlice) error {
		got, err := api.update(ctx, sl)
		if apierrors.IsNotFound(err) {
			observeSlices{w}.Delete(types.NamespacedName{Namespace: sl.Namespace, Name: sl.Name})
		}
		if err != nil {
			return failed("update", t, sl, err)
		}
		c.note(w, t, "updated", got)
		return nil
	})
	if err != nil {
		return err
	}
	return each(todo.remove, func(sl *discoveryv1.EndpointSlice) error {
		// A slice that is gone, or replaced by another of its name, is as good as deleted.
		if err := api.delete(ctx, sl); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return failed("delete", t, sl, err)
		}
		w.deleted(sl)
		c.log.Debug("deleted", "service", t.service.name, "slice", sl.Name)
		return nil
	})
}

// each does the writes of one Service, a few at the same time: an API write is mostly waiting, and a Service of two families always has two.
func each(list []*discoveryv1.EndpointSlice, write func(*discoveryv1.EndpointSlice) error) error {
	if len(list) == 1 {
		return write(list[0])
	}
	errs := make([]error, len(list))
	slots := make(chan struct{}, 4)
	var all sync.WaitGroup
	for i, sl := range list {
		slots <- struct{}{}
		all.Go(func() {
			errs[i] = write(sl)
			<-slots
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func failed(verb string, t task, sl *discoveryv1.EndpointSlice, err error) error {
	return fmt.Errorf("service %s: %s endpointslice %s: %w", t.service.name, verb, sl.Name, err)
}

func (c *Controller) note(w *world, t task, verb string, sl *discoveryv1.EndpointSlice) {
	sl.ManagedFields = nil
	w.wrote(t.entry, sl)
	c.log.Debug(verb, "service", t.service.name, "slice", sl.Name, "endpoints", len(sl.Endpoints))
}
