package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// Object is a pointer to a type of the Kubernetes API.
type Object interface {
	runtime.Object
	metav1.Object
}

// Version is an object's resourceVersion, or a list's. The API compares the versions of one resource as numbers (KEP-5504).
type Version string

// Newer is true when v comes after o. A version that is no number is newer than any: who asks then looks again once too often, never
// too seldom.
func (v Version) Newer(o Version) bool {
	if !v.number() || !o.number() {
		return v != o
	}
	if len(v) != len(o) {
		return len(v) > len(o)
	}
	return v > o
}

func (v Version) number() bool {
	if v == "" || v[0] == '0' {
		return false
	}
	for _, c := range []byte(v) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// Item is one converted object of a list.
type Item[R any] struct {
	Name types.NamespacedName
	Row  R
}

// Receiver gets what happens. The calls come one at a time.
type Receiver[R any] interface {
	// Replace says that items is all there is, as of that version of the list.
	Replace(items []Item[R], at Version)
	// Put says that the object was added or changed.
	Put(name types.NamespacedName, row R)
	// Delete says that the object is gone, or no longer selected or convertible.
	Delete(name types.NamespacedName)
}

// Optional is a Receiver of a kind that an API may not serve.
type Optional interface {
	// Unserved says that the API has answered, and does not know the kind. Watch asks again from time to time.
	Unserved()
}

// Convert makes a row of an object; ok is false for an object that has none. It keeps no reference to the object but to immutable parts.
type Convert[O Object, R any] func(O) (row R, ok bool)

// Watch keeps the receiver equal to what lw lists and watches until ctx ends. The resource's name
// is for the log.
func Watch[O Object, R any](ctx context.Context, log *slog.Logger, resource string, lw cache.ListerWatcher, conv Convert[O, R], to Receiver[R]) {
	in := &inlet[O, R]{log: log.With("resource", resource), convert: conv, to: to}
	pause := wait.Backoff{Duration: 50 * time.Millisecond, Factor: 1.7, Jitter: 0.3, Steps: 7, Cap: 2 * time.Second}
	var expected O
	r := cache.NewReflectorWithOptions(in.observe(lw), expected, in, cache.ReflectorOptions{
		Name: "fairway/" + resource, Clock: stopClock{ctx: ctx}, Backoff: &pause,
	})
	// The reflector's own loop of attempts would tell only its own log why one failed.
	delay := pause.DelayWithReset(clock.RealClock{}, 10*time.Second)
	for {
		err := r.ListAndWatchWithContext(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := delay()
		if optional, ok := to.(Optional); ok && apierrors.IsNotFound(err) {
			in.log.Debug("the API does not serve this kind", "err", err)
			optional.Unserved()
			wait = unservedPause
		} else if err != nil {
			in.failed(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// inlet is the reflector's store: it converts and passes on, and keeps nothing.
type inlet[O Object, R any] struct {
	log     *slog.Logger
	convert Convert[O, R]
	to      Receiver[R]

	mu       sync.Mutex
	known    bool // the API has answered before
	failures int  // since it last answered
}

// unservedPause is how long an API stays without a kind, at least: it may be upgraded.
const unservedPause = time.Minute

// patience is how many failures are normal while the API is starting: about a second's worth.
const patience = 6

var _ cache.TransformingStore = (*inlet[Object, int])(nil)

// converted stands for an object between Transformer and Replace. It is an object with a name, for the reflector's own key function.
type converted[R any] struct {
	metav1.ObjectMeta
	row R
	ok  bool
}

// Transformer makes the reflector convert while a first list streams in, so that it never holds all of it in the API's form.
func (in *inlet[O, R]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return in.conv(obj) }
}

func (in *inlet[O, R]) conv(obj any) (*converted[R], error) {
	switch o := obj.(type) {
	case *converted[R]:
		return o, nil
	case O:
		c := &converted[R]{ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: o.GetName()}}
		c.row, c.ok = in.convert(o)
		return c, nil
	}
	return nil, fmt.Errorf("kube: object is a %T", obj)
}

func (in *inlet[O, R]) Add(obj any) error { return in.Update(obj) }

func (in *inlet[O, R]) Update(obj any) error {
	c, err := in.conv(obj)
	if err != nil {
		return err
	}
	if name := c.name(); c.ok {
		in.to.Put(name, c.row)
	} else {
		in.to.Delete(name)
	}
	return nil
}

func (in *inlet[O, R]) Delete(obj any) error {
	o, ok := obj.(O)
	if !ok {
		return fmt.Errorf("kube: deleted object is a %T", obj)
	}
	in.to.Delete(types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()})
	return nil
}

func (in *inlet[O, R]) Replace(list []any, version string) error {
	items := make([]Item[R], 0, len(list))
	for _, obj := range list {
		c, err := in.conv(obj)
		if err != nil {
			return err
		}
		if c.ok {
			items = append(items, Item[R]{c.name(), c.row})
		}
	}
	in.to.Replace(items, Version(version))
	in.succeeded()
	return nil
}

func (in *inlet[O, R]) Resync() error { return nil }

func (c *converted[R]) name() types.NamespacedName {
	return types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
}

// failed logs once that the API is away; an hour of that is one line, not thousands.
func (in *inlet[O, R]) failed(err error) {
	in.mu.Lock()
	in.failures++
	n, known := in.failures, in.known
	in.mu.Unlock()
	switch {
	case known && n == 1:
		in.log.Warn("watch lost; what was known stays in force", "err", err)
	case !known && n == patience:
		in.log.Warn("watch waits for the API", "err", err)
	default:
		in.log.Debug("watch failed", "err", err, "failures", n)
	}
}

func (in *inlet[O, R]) succeeded() {
	in.mu.Lock()
	n, known := in.failures, in.known
	in.failures, in.known = 0, true
	in.mu.Unlock()
	if known && n > 0 || n >= patience {
		in.log.Info("watch back")
	}
}

// observe makes an outage seen that the reflector bridges by itself: a watch that is refused and then taken up again where it ended.
func (in *inlet[O, R]) observe(lw cache.ListerWatcher) cache.ListerWatcher {
	inner := cache.ToListerWatcherWithContext(lw)
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: inner.ListWithContext,
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := inner.WatchWithContext(ctx, o)
			switch {
			case err == nil:
				in.succeeded()
			case utilnet.IsConnectionRefused(err):
				in.failed(err)
			}
			return w, err
		},
	}, lw)
}

// stopClock is the real clock, but waiting ends with the context: the reflector's pause between two attempts does not look at it.
type stopClock struct {
	clock.RealClock
	ctx context.Context
}

func (c stopClock) After(d time.Duration) <-chan time.Time {
	out := make(chan time.Time, 1)
	go func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case now := <-t.C:
			out <- now
		case <-c.ctx.Done():
			out <- time.Now()
		}
	}()
	return out
}
