package node_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What of a Pod is not done is said in an Event, by name; the Pod runs.
func TestFieldsNotDone(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run("web", "serve=:8080", func(p *corev1.Pod) {
		withReadiness(p)
		p.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
		p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}}
	})
	m.until("web", "ready", ready)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		events, err := m.client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events.Items {
			if e.Reason == "FieldsNotDone" && e.InvolvedObject.Name == "web" && e.Type == corev1.EventTypeWarning &&
				strings.Contains(e.Message, "spec.securityContext.seccompProfile.type: ") && strings.Contains(e.Message, "spec.imagePullSecrets: ") {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no such Event: %+v", events.Items)
		}
	}
}
