package apiserver

import (
	"context"
	"fmt"
	"slices"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
)

// annotate patches the n-th object so that it has an annotation, and checks that.
func (o *one) annotate(t *testing.T, n int, form types.PatchType, key, value string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, key, value)
	options := metav1.PatchOptions{}
	switch form {
	case types.JSONPatchType:
		patch = fmt.Appendf(nil, `[{"op":"test","path":"/metadata/name","value":%q},{"op":"add","path":"/metadata/annotations/%s","value":%q}]`, o.name(n), key, value)
	case types.ApplyPatchType:
		patch = fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,"metadata":{"name":%q,"annotations":{%q:%q}}}`, o.gvr.GroupVersion(), o.Kind, o.name(n), key, value)
		options.FieldManager = "applier"
	}
	got, err := o.client.Patch(t.Context(), o.name(n), form, patch, options)
	if err != nil || got.GetAnnotations()[key] != value {
		t.Errorf("patch %s: %v, %v", form, got, err)
	}
}

func (o *one) patch(t *testing.T) {
	o.annotate(t, 1, types.MergePatchType, "merged", "1")
	o.annotate(t, 1, types.JSONPatchType, "patched", "1")
	if o.custom() {
		if _, err := o.client.Patch(t.Context(), o.name(1), types.StrategicMergePatchType, []byte(`{}`), metav1.PatchOptions{}); !apierrors.IsUnsupportedMediaType(err) {
			t.Errorf("strategic merge patch: %v", err)
		}
	} else {
		o.annotate(t, 1, types.StrategicMergePatchType, "strategic", "1")
	}
	o.annotate(t, 1, types.ApplyPatchType, "applied", "1")
	o.annotate(t, 1, types.ApplyPatchType, "instead", "1")
	got, err := o.client.Get(t.Context(), o.name(1), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if a := got.GetAnnotations(); a["merged"] != "1" || a["applied"] != "" {
		t.Errorf("annotations %v, where who applies has withdrawn one and nobody else", a)
	}
	// What another manager has set is his.
	conflict := fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,"metadata":{"name":%q,"annotations":{"instead":"2"}}}`, o.gvr.GroupVersion(), o.Kind, o.name(1))
	if _, err := o.client.Patch(t.Context(), o.name(1), types.ApplyPatchType, conflict, metav1.PatchOptions{FieldManager: "another"}); !apierrors.IsConflict(err) {
		t.Errorf("apply what another one has applied: %v", err)
	}
	if _, err := o.client.Patch(t.Context(), o.name(1), types.ApplyPatchType, conflict, metav1.PatchOptions{FieldManager: "another", Force: new(true)}); err != nil {
		t.Errorf("apply by force: %v", err)
	}
	// Apply makes what is not there.
	made, err := o.client.Apply(t.Context(), o.name(3), o.object(t, 3), metav1.ApplyOptions{FieldManager: "applier"})
	if err != nil || !slices.ContainsFunc(made.GetManagedFields(), func(m metav1.ManagedFieldsEntry) bool {
		return m.Manager == "applier" && m.Operation == metav1.ManagedFieldsOperationApply
	}) {
		t.Errorf("apply a new one: %v, %v", made, err)
	}
}

func (o *one) custom() bool { return o.gvr.Group == "books.example.test" }

func (o *one) update(t *testing.T) {
	ctx := t.Context()
	stale, err := o.client.Get(ctx, o.name(2), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := retry.RetryOnConflict(retry.DefaultRetry, func() error { // controllers write to some of them
		fresh, err := o.client.Get(ctx, o.name(2), metav1.GetOptions{})
		if err != nil {
			return err
		}
		fresh.SetAnnotations(map[string]string{"updated": "1"})
		_, err = o.client.Update(ctx, fresh, metav1.UpdateOptions{})
		return err
	}); err != nil {
		t.Errorf("update: %v", err)
	}
	stale.SetAnnotations(map[string]string{"updated": "2"})
	if _, err := o.client.Update(ctx, stale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("update of an outdated object: %v", err)
	}
}

func (o *one) delete(t *testing.T) {
	ctx := context.Background()
	background := metav1.DeletePropagationBackground
	if err := o.client.Delete(ctx, o.name(0), metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("dry run: %v", err)
	}
	if err := o.client.Delete(ctx, o.name(0), metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("another")}); !apierrors.IsConflict(err) {
		t.Errorf("delete another object of the name: %v", err)
	}
	if err := o.client.Delete(ctx, o.name(0), metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Errorf("delete: %v", err)
	}
	if o.Name == "namespaces" { // there is nobody to finish it
		if ns, err := o.client.Get(ctx, o.name(0), metav1.GetOptions{}); err != nil || ns.GetDeletionTimestamp() == nil {
			t.Errorf("deleted namespace: %v, %v", ns, err)
		}
		return
	}
	if err := o.client.DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{LabelSelector: "n in (0,2,3)," + mark}); err != nil {
		t.Errorf("delete collection: %v", err)
	}
	eventually(t, func() error { // some have finalizers
		if left, _ := o.names(t, metav1.ListOptions{LabelSelector: mark}); left != o.name(1) {
			return fmt.Errorf("left are %q", left)
		}
		return nil
	})
	if err := o.client.DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{LabelSelector: mark}); err != nil {
		t.Errorf("delete the rest: %v", err)
	}
}
