package workload

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// The garbage collector and the namespace controller know a kind that came after them: what it owns goes with its objects, and they go with
// their namespace.
func TestCustomResourcesOwnAndGo(t *testing.T) {
	t.Parallel()
	client, err := dynamic.NewForConfig(api.config)
	if err != nil {
		t.Fatal(err)
	}
	definition := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": "owners.own.example.test"},
		"spec": map[string]any{
			"group": "own.example.test", "scope": "Namespaced", "names": map[string]any{"kind": "Owner", "plural": "owners"},
			"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true, "schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object"}}}},
		},
	}}
	definitions := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	if _, err := definitions.Create(t.Context(), definition, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ns := newNamespace(t)
	owners := client.Resource(schema.GroupVersionResource{Group: "own.example.test", Version: "v1", Resource: "owners"}).Namespace(ns)
	var owner *unstructured.Unstructured
	poll(t, "the kind is served", func() bool {
		owner, err = owners.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "own.example.test/v1", "kind": "Owner", "metadata": map[string]any{"name": "one"},
		}}, metav1.CreateOptions{})
		return err == nil
	})
	owned := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owned", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: owner.GetAPIVersion(), Kind: owner.GetKind(), Name: owner.GetName(), UID: owner.GetUID()},
	}}}
	if _, err := api.client.CoreV1().ConfigMaps(ns).Create(t.Context(), owned, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := owners.Delete(t.Context(), "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	poll(t, "what it owned is gone", func() bool {
		_, err := api.client.CoreV1().ConfigMaps(ns).Get(t.Context(), "owned", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})

	owner.SetResourceVersion("")
	owner.SetUID("")
	if _, err := owners.Create(t.Context(), owner, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := api.client.CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	poll(t, "namespace gone", func() bool {
		_, err := api.client.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	if left, err := owners.List(t.Context(), metav1.ListOptions{}); err != nil || len(left.Items) != 0 {
		t.Errorf("left in it are %v, %v", left, err)
	}
}
