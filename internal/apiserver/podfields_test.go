package apiserver

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Pod that would run as another one than was asked for is refused, each field by name; one that only gets less protection is made, and kubectl warns.
func TestPodFields(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	yes := true
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{
		ShareProcessNamespace: &yes,
		Containers:            []corev1.Container{{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}}},
	}}
	_, err := shared.client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "use a Service of type NodePort") {
		t.Fatalf("refused with %v", err)
	}
	status, _ := err.(apierrors.APIStatus)
	var fields []string
	for _, c := range status.Status().Details.Causes {
		fields = append(fields, c.Field)
	}
	if want := []string{"spec.containers[0].ports[0].hostPort", "spec.shareProcessNamespace"}; !slices.Equal(fields, want) {
		t.Errorf("causes %q, want %q", fields, want)
	}
	manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  securityContext: {seccompProfile: {type: RuntimeDefault}}\n" +
		"  containers: [{name: c, image: i, securityContext: {procMount: Default}}]\n"
	out, err := shared.kubectl(t, manifest, "-n", ns, "apply", "-f", "-")
	if err != nil || !strings.Contains(out, "Warning: spec.securityContext.seccompProfile.type: the profile of system calls is not set") || strings.Count(out, "Warning") != 1 {
		t.Errorf("%v\n%s", err, out)
	}
	// What a profile of kubectl sets without being told to.
	if out, err := shared.kubectl(t, "", "-n", ns, "debug", "web", "--copy-to=copy", "--image=tools", "--profile=general"); err == nil || !strings.Contains(out, "spec.shareProcessNamespace: Forbidden") {
		t.Errorf("%v\n%s", err, out)
	}
}
