package endpointslice

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// event is what a Service's owner is told; types and reasons are those of Kubernetes' controller.
type event struct{ kind, reason, message string }

// topologyEvents tells when topology hints come, go, or stay away for another reason; before and after have "" or why there are none, by family.
func topologyEvents(before, after map[discoveryv1.AddressType]string) (out []event) {
	for _, family := range slices.Sorted(maps.Keys(after)) {
		was, known := before[family]
		switch why := after[family]; {
		case known && why == was:
		case why == "":
			out = append(out, event{corev1.EventTypeNormal, "TopologyAwareHintsEnabled", fmt.Sprintf("Topology hints are set, addressType: %s", family)})
		default:
			out = append(out, event{corev1.EventTypeWarning, "TopologyAwareHintsDisabled", fmt.Sprintf("No topology hints: %s, addressType: %s", why, family)})
		}
	}
	for _, family := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[family]; !ok && before[family] == "" {
			out = append(out, event{corev1.EventTypeWarning, "TopologyAwareHintsDisabled", fmt.Sprintf("No topology hints: they are not asked for any more, addressType: %s", family)})
		}
	}
	return out
}

// tell writes events. One that cannot be written is lost: it must not hold up the slices.
func (c *Controller) tell(ctx context.Context, api writer, s *service, events ...event) {
	for _, e := range events {
		now := metav1.Now()
		err := api.event(ctx, &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Namespace: s.name.Namespace, GenerateName: s.name.Name + "."},
			InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: s.name.Namespace, Name: s.name.Name, UID: s.uid},
			Type:           e.kind, Reason: e.reason, Message: e.message,
			Source: corev1.EventSource{Component: "endpoint-slice-controller"}, FirstTimestamp: now, LastTimestamp: now, Count: 1,
		})
		if err != nil && ctx.Err() == nil {
			c.log.Debug("event lost", "service", s.name, "event", e.message, "err", err)
		}
	}
}
