package service

import (
	"context"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	api "k8s.io/kubernetes/pkg/apis/core"
)

// write is one create or update on its way to the database. The generic store tells the hooks of an update that it
// succeeded before it has been stored, and tries again after a conflict with somebody else's write. So the reservations of
// all attempts are kept here until the outcome of the whole is known; freeing an address earlier could give it to a second
// Service while the first one still has it.
type write struct {
	last   *reservation // of the latest attempt
	passed bool         // the generic store had no objection to the latest attempt
}

type writeKey struct{}

func withWrite(ctx context.Context) (context.Context, *write) {
	w := &write{}
	return context.WithValue(ctx, writeKey{}, w), w
}

// next begins an attempt. If there was one before, it met a conflict: nothing of it was stored, and what it had taken must be
// free for this one, which may ask for the same.
func (w *write) next() {
	if w.last != nil {
		w.last.undo()
	}
	w.last, w.passed = nil, false
}

// attempt follows the attempt that made the reservation.
func (w *write) attempt(r *reservation) genericregistry.FinishFunc {
	w.last = r
	return func(_ context.Context, success bool) { w.passed = success }
}

// end settles the reservation, given the outcome of the whole: what is stored, or the error. It reports whether that leaves
// something to be found out.
func (w *write) end(stored runtime.Object, err error) (doubtful bool) {
	known := err == nil || outcomeKnown(err)
	switch {
	case w.last == nil:
	case err == nil && w.passed:
		w.last.keep(stored.(*api.Service))
	case known: // refused; or, without error, an update that removed the last finalizer and so became a deletion
		w.last.undo()
	default:
		w.last.leave()
	}
	return !known
}

func (s *Storage) end(w *write, stored runtime.Object, err error) {
	if w.end(stored, err) {
		s.doubt()
	}
}

// Create implements rest.Creater.
func (s *Storage) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	ctx, w := withWrite(ctx)
	created, err := s.Store.Create(ctx, obj, validate, options)
	s.end(w, created, err)
	return created, err
}

// Update implements rest.Updater.
func (s *Storage) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, validateCreate rest.ValidateObjectFunc, validateUpdate rest.ValidateObjectUpdateFunc, allowCreate bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	ctx, w := withWrite(ctx)
	updated, created, err := s.Store.Update(ctx, name, info, validateCreate, validateUpdate, allowCreate, options)
	s.end(w, updated, err)
	return updated, created, err
}

// Delete implements rest.GracefulDeleter.
func (s *Storage) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	deleted, now, err := s.Store.Delete(ctx, name, validate, options)
	if err != nil && !outcomeKnown(err) {
		s.doubt()
	}
	return deleted, now, err
}

// DeleteCollection implements rest.CollectionDeleter.
func (s *Storage) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions, list *metainternalversion.ListOptions) (runtime.Object, error) {
	deleted, err := s.Store.DeleteCollection(ctx, validate, options, list)
	if err != nil && !outcomeKnown(err) {
		s.doubt()
	}
	return deleted, err
}
