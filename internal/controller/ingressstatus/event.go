package ingressstatus

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// Finding is what the author of an Ingress is told by an Event on it, of type Warning.
type Finding struct {
	Ingress model.Name
	// Reason is a word in CamelCase for programs, Message a line for people.
	Reason, Message string
}

// component is who Events come from.
const component = "fairway-ingress"

// maxMessage is the API's bound for the message of an Event, in bytes.
const maxMessage = 1024

// teller writes an Event for each finding that is new, and remembers those that are told already.
type teller struct {
	c    *Config
	told map[Finding]struct{}
}

// tell compares the findings with those told before. An Event that cannot be written is tried again with the next change: it must not hold up anything.
func (t *teller) tell(ctx context.Context, snap *store.Snapshot) {
	now := make(map[Finding]struct{}, len(t.told))
	for _, f := range t.c.Findings() {
		ing := snap.Ingresses.Get(f.Ingress)
		if ing == nil {
			continue // gone since
		}
		if _, ok := t.told[f]; !ok {
			if err := t.write(ctx, ing, f); err != nil {
				if ctx.Err() == nil {
					t.c.Logger.Debug("event lost", "ingress", f.Ingress.String(), "err", err)
				}
				continue
			}
		}
		now[f] = struct{}{}
	}
	t.told = now
}

// write makes an Event whose name follows from what it says, so that a restart, or another node that finds the same, refreshes it instead of saying it
// twice.
func (t *teller) write(ctx context.Context, ing *model.Ingress, f Finding) error {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%s", ing.UID, f.Reason, f.Message)
	at := metav1.Time{Time: time.Now()}
	message := f.Message
	if len(message) > maxMessage {
		message = message[:maxMessage-3] + "..."
	}
	e := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: f.Ingress.Namespace, Name: fmt.Sprintf("%.200s.%016x", f.Ingress.Name, h.Sum64())},
		InvolvedObject: corev1.ObjectReference{APIVersion: "networking.k8s.io/v1", Kind: "Ingress", Namespace: f.Ingress.Namespace, Name: f.Ingress.Name, UID: types.UID(ing.UID)},
		Type:           corev1.EventTypeWarning, Reason: f.Reason, Message: message,
		Source: corev1.EventSource{Component: component}, FirstTimestamp: at, LastTimestamp: at, Count: 1,
	}
	api := t.c.Client.CoreV1().Events(f.Ingress.Namespace)
	_, err := api.Create(ctx, e, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	patch, err := json.Marshal(map[string]any{"lastTimestamp": at})
	if err != nil {
		return err
	}
	_, err = api.Patch(ctx, e.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}
