package apiserver

import (
	"bytes"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/openapi"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	explain "k8s.io/kubectl/pkg/explain/v2"
	"sigs.k8s.io/yaml"
)

var (
	//go:embed testdata/samples.yaml
	samplesYAML []byte
	//go:embed testdata/shelves.yaml
	shelvesYAML []byte
)

// mark is the label of what TestEveryResource makes.
const mark = "test=every-resource"

// allVerbs is what every resource can do that is stored.
var allVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// withoutVerbs are those that upstream leaves out.
var withoutVerbs = map[string][]string{"namespaces": {"deletecollection"}}

// ofOtherTests are the subresources that act on something, and are tested where that is.
var ofOtherTests = []string{
	"namespaces/finalize", "nodes/proxy", "pods/attach", "pods/binding", "pods/ephemeralcontainers", "pods/eviction", "pods/exec", "pods/log",
	"pods/portforward", "pods/proxy", "pods/resize", "serviceaccounts/token", "services/proxy",
}

// one is a resource under test.
type one struct {
	metav1.APIResource
	gvr    schema.GroupVersionResource
	subs   []string
	sample map[string]any
	ns     string
	client dynamic.ResourceInterface
	config *restclient.Config
	// documents describe the kinds.
	documents openapi.Client
}

// TestEveryResource does with each resource that discovery names all that a client can do, whoever added it.
func TestEveryResource(t *testing.T) {
	t.Parallel()
	var samples map[string]any
	if err := yaml.Unmarshal(samplesYAML, &samples); err != nil {
		t.Fatal(err)
	}
	config := shared.ClientConfig("every-resource")
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	define(t, client, shelvesYAML)
	documents := shared.client.Discovery().OpenAPIV3()
	_, lists, err := shared.client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	ns := shared.namespace(t)
	seen := 0
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") || strings.HasSuffix(gv.Group, ".example.test") && gv.Group != "books.example.test" {
				continue // subresources come with theirs, and other tests have other custom resources
			}
			seen++
			name := gv.WithResource(r.Name).GroupResource().String()
			sample, ok := samples[name].(map[string]any)
			if !ok {
				t.Errorf("%s: testdata/samples.yaml has no object of it", name)
				continue
			}
			o := &one{APIResource: r, gvr: gv.WithResource(r.Name), sample: sample, ns: ns, config: config, documents: documents, client: client.Resource(gv.WithResource(r.Name))}
			if r.Namespaced {
				o.client = client.Resource(o.gvr).Namespace(ns)
			}
			for _, sub := range list.APIResources {
				if strings.HasPrefix(sub.Name, r.Name+"/") {
					o.subs = append(o.subs, sub.Name)
				}
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				o.all(t)
			})
		}
	}
	if seen < len(served) {
		t.Errorf("discovery has %d resources", seen)
	}
}

// define makes a CustomResourceDefinition and waits until its objects can be made.
func define(t *testing.T, client dynamic.Interface, definition []byte) {
	t.Helper()
	crd := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(definition, &crd.Object); err != nil {
		t.Fatal(err)
	}
	definitions := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	if _, err := definitions.Create(t.Context(), crd, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	eventually(t, func() error {
		_, lists, err := shared.client.Discovery().ServerGroupsAndResources()
		for _, list := range lists {
			if gv, _ := schema.ParseGroupVersion(list.GroupVersion); gv.Group == group && slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == plural }) {
				return nil
			}
		}
		return fmt.Errorf("%s.%s is not in discovery, %w", plural, group, err)
	})
}

func (o *one) all(t *testing.T) {
	t.Run("explain", o.explained)
	if !slices.Contains(o.Verbs, "list") {
		t.Run("create", o.answered)
		return
	}
	for _, verb := range allVerbs {
		if slices.Contains(o.Verbs, verb) == slices.Contains(withoutVerbs[o.Name], verb) {
			t.Errorf("verbs %v", o.Verbs)
		}
	}
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"create", o.create}, {"select", o.selects}, {"versions", o.versions}, {"chunks", o.chunks}, {"patch", o.patch}, {"update", o.update},
		{"forms", o.forms}, {"subresources", o.subresources}, {"watch", o.watch}, {"delete", o.delete},
	} {
		if !t.Run(step.name, step.do) {
			return
		}
	}
}

// name gives the n-th name, where some kinds have rules for names.
func (o *one) name(n int) string {
	switch o.Name {
	case "ipaddresses":
		return fmt.Sprint("198.51.100.", n)
	case "customresourcedefinitions":
		return fmt.Sprintf("things.every-%d.example.test", n)
	}
	return fmt.Sprint("every-", n)
}

// object is the sample under the n-th name.
func (o *one) object(t *testing.T, n int) *unstructured.Unstructured {
	t.Helper()
	text, err := yaml.Marshal(o.sample)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte("NAMESPACE"), []byte(o.ns))
	text = bytes.ReplaceAll(text, []byte("NAME"), fmt.Append(nil, "every-", n))
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &u.Object); err != nil {
		t.Fatal(err)
	}
	u.SetName(o.name(n))
	u.SetLabels(map[string]string{"test": "every-resource", "n": fmt.Sprint(n)})
	return u
}

// answered is for kinds that are a question: creating one gives the answer, and nothing is stored.
func (o *one) answered(t *testing.T) {
	question := o.object(t, 0)
	unstructured.RemoveNestedField(question.Object, "metadata")
	got, err := o.client.Create(t.Context(), question, metav1.CreateOptions{})
	if err != nil || got.GetKind() != o.Kind || got.Object["status"] == nil {
		t.Errorf("answer %v, %v", got, err)
	}
}

func (o *one) create(t *testing.T) {
	ctx := t.Context()
	if _, err := o.client.Create(ctx, o.object(t, 0), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("dry run: %v", err)
	}
	wrong := o.object(t, 0)
	wrong.Object["nonsense"] = "x"
	if _, err := o.client.Create(ctx, wrong, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}); !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), `unknown field "nonsense"`) {
		t.Errorf("an unknown field: %v", err)
	}
	for n := range 3 {
		got, err := o.client.Create(ctx, o.object(t, n), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got.GetUID() == "" || got.GetResourceVersion() == "" || got.GetCreationTimestamp().Time.IsZero() || len(got.GetManagedFields()) == 0 || got.GetKind() != o.Kind {
			t.Errorf("created %v", got)
		}
	}
	if _, err := o.client.Create(ctx, o.object(t, 0), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("the same again: %v", err)
	}
	if got, err := o.client.Get(ctx, o.name(0), metav1.GetOptions{}); err != nil || got.GetLabels()["n"] != "0" {
		t.Errorf("get: %v, %v", got, err)
	}
	if _, err := o.client.Get(ctx, o.name(9), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get what is not there: %v", err)
	}
}

func (o *one) subresources(t *testing.T) {
	ctx := t.Context()
	for _, path := range o.subs {
		sub := strings.TrimPrefix(path, o.Name+"/")
		switch {
		case sub == "status":
			got, err := o.client.Get(ctx, o.name(2), metav1.GetOptions{}, sub)
			if err != nil || got.GetKind() != o.Kind {
				t.Errorf("get status: %v, %v", got, err)
				continue
			}
			if err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
				if got, err = o.client.Get(ctx, o.name(2), metav1.GetOptions{}); err != nil {
					return err
				}
				_, err = o.client.UpdateStatus(ctx, got, metav1.UpdateOptions{})
				return err
			}); err != nil {
				t.Errorf("update status: %v", err)
			}
			if _, err := o.client.Patch(ctx, o.name(2), types.MergePatchType, []byte(`{}`), metav1.PatchOptions{}, sub); err != nil {
				t.Errorf("patch status: %v", err)
			}
		case sub == "scale":
			scale, err := o.client.Patch(ctx, o.name(2), types.MergePatchType, []byte(`{"spec":{"replicas":2}}`), metav1.PatchOptions{}, sub)
			if err != nil || scale.GetKind() != "Scale" {
				t.Errorf("patch scale: %v, %v", scale, err)
			}
			scaled, err := o.client.Get(ctx, o.name(2), metav1.GetOptions{}, sub)
			if err != nil {
				t.Errorf("get scale: %v", err)
			} else if n, _, _ := unstructured.NestedInt64(scaled.Object, "spec", "replicas"); n != 2 {
				t.Errorf("scaled %v", scaled)
			}
		case !slices.Contains(ofOtherTests, path):
			t.Errorf("%s: nothing tests it", path)
		}
	}
}

// explained is `kubectl explain --recursive`.
func (o *one) explained(t *testing.T) {
	eventually(t, func() error { // custom resources come late
		var out bytes.Buffer
		if err := explain.PrintModelDescription(nil, &out, o.documents, o.gvr, true, 0, "plaintext"); err != nil {
			return err
		}
		for _, want := range []string{"KIND:       " + o.Kind + "\n", "FIELDS:", "metadata\t<ObjectMeta>", "ownerReferences"} {
			if !strings.Contains(out.String(), want) {
				return fmt.Errorf("no %q in %.1000s", want, out.String())
			}
		}
		return nil
	})
}
