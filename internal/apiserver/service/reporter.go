package service

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/networking"
)

// repairController is who reports, in upstream's name.
const repairController = "ipallocator-repair-controller"

// reporter tells the log and, as events, the users of what the repair found.
type reporter struct {
	client kubernetes.Interface
	log    *slog.Logger
	known  map[string]bool // troubles that persist and were told
}

func newReporter(client kubernetes.Interface, log *slog.Logger) *reporter {
	return &reporter{client: client, log: log}
}

// troubles tells of those that are new since the last call.
func (r *reporter) troubles(ctx context.Context, now []trouble) {
	known := make(map[string]bool, len(now))
	for _, t := range now {
		key := string(t.service.UID) + t.note
		known[key] = true
		if r.known[key] {
			continue
		}
		action := "ClusterIPAllocation"
		if t.reason == "PortAlreadyAllocated" || t.reason == "PortOutOfRange" {
			action = "PortAllocation"
		}
		r.event(ctx, t.service, t.reason, action, t.note)
	}
	r.known = known
}

// event writes a warning about a Service or an IPAddress object. That it cannot be written is not worth more than a log line.
func (r *reporter) event(ctx context.Context, about runtime.Object, reason, action, note string) {
	var regarding corev1.ObjectReference
	switch o := about.(type) {
	case *api.Service:
		regarding = corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion}
	case *networking.IPAddress:
		regarding = corev1.ObjectReference{APIVersion: "networking.k8s.io/v1", Kind: "IPAddress", Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion}
	}
	r.log.Warn("allocated addresses and ports: "+note, "kind", regarding.Kind, "name", regarding.Name, "namespace", regarding.Namespace)
	namespace := regarding.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	now := time.Now()
	_, err := r.client.EventsV1().Events(namespace).Create(ctx, &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%x", regarding.Name, now.UnixNano())},
		EventTime:           metav1.NewMicroTime(now),
		ReportingController: repairController, ReportingInstance: repairController,
		Action: action, Reason: reason, Note: note, Type: corev1.EventTypeWarning, Regarding: regarding,
	}, metav1.CreateOptions{})
	if err != nil && ctx.Err() == nil {
		r.log.Warn("event: write", "reason", reason, "name", regarding.Name, "error", err)
	}
}
