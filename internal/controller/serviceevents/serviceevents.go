// Package serviceevents tells in Events on a Service what this node could not put in force of it, where its owner looks: `kubectl describe service`.
//
// Contract. It reads the store's status table, where each consumer names the objects that failed, and writes one Event of type Warning for each
// Service, reason and message, once it has lasted a moment: what the next attempt mends is no news. While it lasts nothing more is written. When it is
// mended an Event of type Normal says so. Names of Events are made of what they say, so that a restart refreshes the Event that is there rather
// than adding another. An Event that cannot be written is tried again; it holds up nothing. Run blocks until its context ends.
//
// To debug, compare `fairway status` with the Events. To test, report failures to a store and run it against an API.
package serviceevents

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// Component is the source that Events name.
const Component = "fairway-agent"

// Reason says what Events are made of one consumer's failures.
type Reason struct {
	// Failed is the reason of the Warning, Mended that of the Normal Event afterwards.
	Failed, Mended string
}

// Config says on whose behalf Events are written.
type Config struct {
	Client kubernetes.Interface
	// Node is the node's name.
	Node string
	// Reasons has a row for each consumer whose failures are told.
	Reasons map[string]Reason
	// Logger gets Events that could not be written; nil discards.
	Logger *slog.Logger
}

// How long to wait.
const (
	// lasting is how old a failure must be to be told.
	lasting = 500 * time.Millisecond
	// again is the time after which a changed message, or an Event that could not be written, is tried.
	again = 5 * time.Second
)

// problem is one failure that is there now.
type problem struct {
	service model.Name
	reason  Reason
}

// teller is the state of Run.
type teller struct {
	Config
	since map[problem]time.Time
	told  map[problem]string    // the message
	next  map[problem]time.Time // not before then
}

// Run writes Events until ctx ends.
func Run(ctx context.Context, st *store.Store, c Config) error {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	t := &teller{c, map[problem]time.Time{}, map[problem]string{}, map[problem]time.Time{}}
	for {
		statuses, changed := st.FollowStatuses()
		wait := t.tell(ctx, st, t.problems(statuses))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		case <-changed:
		}
		timer.Stop()
	}
}

// problems gives what failed, with its message.
func (t *teller) problems(statuses []store.Status) map[problem]string {
	out := map[problem]string{}
	for _, s := range statuses {
		reason, known := t.Reasons[s.Consumer]
		if !known {
			continue
		}
		for object, err := range s.Failed {
			kind, name, _ := strings.Cut(object, " ")
			namespace, name, ok := strings.Cut(name, "/")
			if kind == "service" && ok {
				out[problem{model.Name{Namespace: namespace, Name: name}, reason}] = err.Error()
			}
		}
	}
	return out
}

// tell writes what is due, and says when to look again.
func (t *teller) tell(ctx context.Context, st *store.Store, now map[problem]string) (wait time.Duration) {
	wait = time.Hour
	for p, message := range now {
		if _, known := t.since[p]; !known {
			t.since[p] = time.Now()
		}
		if t.told[p] == message {
			continue
		}
		due := t.since[p].Add(lasting)
		if n := t.next[p]; n.After(due) {
			due = n
		}
		if d := time.Until(due); d > 0 {
			wait = min(wait, d)
			continue
		}
		t.next[p] = time.Now().Add(again)
		if err := t.write(ctx, st, p, corev1.EventTypeWarning, p.reason.Failed, fmt.Sprintf("node %s: %s", t.Node, message)); err == nil {
			t.told[p] = message
		} else {
			wait = min(wait, again)
		}
	}
	for p := range t.since {
		if _, still := now[p]; still {
			continue
		}
		if _, told := t.told[p]; told {
			_ = t.write(ctx, st, p, corev1.EventTypeNormal, p.reason.Mended, fmt.Sprintf("node %s: in force now", t.Node))
		}
		delete(t.since, p)
		delete(t.told, p)
		delete(t.next, p)
	}
	return wait
}

// write writes one Event, or moves the time of the one that is there. A Service that is gone gets none.
func (t *teller) write(ctx context.Context, st *store.Store, p problem, kind, reason, message string) error {
	svc := st.Snapshot().Services.Get(p.service)
	if svc == nil {
		return nil
	}
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, t.Node, "\x00", svc.UID, "\x00", reason, "\x00", message)
	now := metav1.Now()
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: svc.Name.Namespace, Name: fmt.Sprintf("%s.%016x", svc.Name.Name, h.Sum64())},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Service", Namespace: svc.Name.Namespace, Name: svc.Name.Name, UID: types.UID(svc.UID),
		},
		Type: kind, Reason: reason, Message: message, Source: corev1.EventSource{Component: Component, Host: t.Node},
		ReportingController: Component, ReportingInstance: t.Node,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
	api := t.Client.CoreV1().Events(e.Namespace)
	_, err := api.Create(ctx, e, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		var patch []byte
		if patch, err = json.Marshal(map[string]any{"lastTimestamp": now}); err == nil {
			_, err = api.Patch(ctx, e.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		}
	}
	if err != nil && ctx.Err() == nil {
		t.Logger.Warn("Event not written", "service", svc.Name, "reason", reason, "message", message, "err", err)
	}
	return err
}
