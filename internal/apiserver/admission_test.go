package apiserver

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What is made of a Pod before it is stored.
func TestPodAdmission(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	core, no := shared.client.CoreV1(), false
	for name, automount := range map[string]*bool{"seller": nil, "shy": &no} {
		if _, err := core.ServiceAccounts(ns).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}, AutomountServiceAccountToken: automount}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := shared.client.SchedulingV1().PriorityClasses().Create(t.Context(), &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: ns}, Value: 7}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change   func(*corev1.PodSpec)
		account  string
		token    bool
		priority int32
	}{
		"plain":      {func(*corev1.PodSpec) {}, "default", true, 0},
		"account":    {func(s *corev1.PodSpec) { s.ServiceAccountName = "seller" }, "seller", true, 0},
		"account-no": {func(s *corev1.PodSpec) { s.ServiceAccountName = "shy" }, "shy", false, 0},
		"pod-no":     {func(s *corev1.PodSpec) { s.AutomountServiceAccountToken = &no }, "default", false, 0},
		"priority":   {func(s *corev1.PodSpec) { s.PriorityClassName = ns }, "default", true, 7},
		"critical":   {func(s *corev1.PodSpec) { s.PriorityClassName = "system-node-critical" }, "default", true, 2000001000},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		test.change(&pod.Spec)
		eventually(t, func() error { // the plugins learn of what was just made by watching
			made, err := core.Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{})
			if err == nil {
				pod = made
			}
			return err
		})
		if pod.Spec.ServiceAccountName != test.account || pod.Spec.Priority == nil || *pod.Spec.Priority != test.priority || len(pod.Spec.Tolerations) != 2 {
			t.Errorf("%s: %+v", name, pod.Spec)
		}
		mounted := len(pod.Spec.Volumes) == 1 && strings.HasPrefix(pod.Spec.Volumes[0].Name, "kube-api-access-") &&
			pod.Spec.Containers[0].VolumeMounts[0].MountPath == "/var/run/secrets/kubernetes.io/serviceaccount"
		if mounted != test.token || !test.token && len(pod.Spec.Volumes) != 0 {
			t.Errorf("%s: volumes %+v", name, pod.Spec.Volumes)
		}
	}
	for what, spec := range map[string]corev1.PodSpec{
		`serviceaccount "nobody" not found`:         {ServiceAccountName: "nobody"},
		`no PriorityClass with name none was found`: {PriorityClassName: "none"},
	} {
		spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
		_, err := core.Pods(ns).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "refused"}, Spec: spec}, metav1.CreateOptions{})
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want %s", err, what)
		}
	}
}

// A namespace's label is kept to: what it forbids is refused, and what is there already is told.
func TestPodSecurity(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	core, yes := shared.client.CoreV1(), true
	create := func(name string) error {
		_, err := core.Pods(ns).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
			HostNetwork: true, Containers: []corev1.Container{{Name: "c", Image: "i", SecurityContext: &corev1.SecurityContext{Privileged: &yes}}}}}, metav1.CreateOptions{})
		return err
	}
	eventually(t, func() error { return create("before") })
	out, err := shared.kubectl(t, "", "label", "namespace", ns, "pod-security.kubernetes.io/enforce=baseline")
	if err != nil || !strings.Contains(out, "existing pods in namespace") || !strings.Contains(out, "before: host namespaces, privileged") {
		t.Errorf("%v: %s", err, out)
	}
	eventually(t, func() error {
		if err := create("after"); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true), privileged`) {
			_ = core.Pods(ns).Delete(t.Context(), "after", *metav1.NewDeleteOptions(0))
			return fmt.Errorf("a Pod on the machine's network: %v", err)
		}
		return nil
	})
}
