package apiserver

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
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

// names lists, and gives the names in order.
func (o *one) names(t *testing.T, options metav1.ListOptions) (string, *unstructured.UnstructuredList) {
	t.Helper()
	list, err := o.client.List(t.Context(), options)
	if err != nil {
		t.Fatalf("list with %v: %v", options, err)
	}
	var names []string
	for _, item := range list.Items {
		names = append(names, item.GetName())
	}
	slices.Sort(names)
	return strings.Join(names, " "), list
}

func (o *one) selects(t *testing.T) {
	all := strings.Join([]string{o.name(0), o.name(1), o.name(2)}, " ")
	for _, test := range []struct{ labels, fields, want string }{
		{mark, "", all},
		{mark + ",n in (0,2)", "", o.name(0) + " " + o.name(2)},
		{"test=every-resource,!n", "", ""},
		{mark, "metadata.name=" + o.name(1), o.name(1)},
		{mark, "metadata.name!=" + o.name(1), o.name(0) + " " + o.name(2)},
	} {
		if got, _ := o.names(t, metav1.ListOptions{LabelSelector: test.labels, FieldSelector: test.fields}); got != test.want {
			t.Errorf("list %q %q: got %q, want %q", test.labels, test.fields, got, test.want)
		}
	}
	for _, options := range []metav1.ListOptions{{FieldSelector: "spec.nonsense=x"}, {LabelSelector: "a in"}} {
		if _, err := o.client.List(t.Context(), options); !apierrors.IsBadRequest(err) {
			t.Errorf("list with %v: %v", options, err)
		}
	}
}

// versions asks for the state of a certain moment.
func (o *one) versions(t *testing.T) {
	_, before := o.names(t, metav1.ListOptions{LabelSelector: mark})
	o.annotate(t, 0, types.MergePatchType, "moment", "later")
	at := func(version string, match metav1.ResourceVersionMatch) string {
		t.Helper()
		list, err := o.client.List(t.Context(), metav1.ListOptions{LabelSelector: mark + ",n=0", ResourceVersion: version, ResourceVersionMatch: match})
		if err != nil || len(list.Items) != 1 {
			t.Fatalf("list at %s %s: %v, %v", match, version, list, err)
		}
		return list.Items[0].GetAnnotations()["moment"]
	}
	if got := at(before.GetResourceVersion(), metav1.ResourceVersionMatchExact); got != "" {
		t.Errorf("exactly then: %q", got)
	}
	if got := at("", ""); got != "later" {
		t.Errorf("now: %q", got)
	}
	at("0", "")
	at(before.GetResourceVersion(), metav1.ResourceVersionMatchNotOlderThan)
	for _, options := range []metav1.ListOptions{
		{ResourceVersionMatch: metav1.ResourceVersionMatchExact},
		{ResourceVersion: "0", ResourceVersionMatch: metav1.ResourceVersionMatchExact},
		{ResourceVersion: "x"},
	} {
		if _, err := o.client.List(t.Context(), options); !apierrors.IsBadRequest(err) && !apierrors.IsInvalid(err) {
			t.Errorf("list with %v: %v", options, err)
		}
	}
}

func (o *one) chunks(t *testing.T) {
	options, moment, seen := metav1.ListOptions{LabelSelector: mark, Limit: 1}, "", []string{}
	for {
		names, list := o.names(t, options)
		if moment == "" {
			moment = list.GetResourceVersion()
		}
		if len(list.Items) > 1 || list.GetResourceVersion() != moment {
			t.Fatalf("a chunk of %q at %s, the first one was at %s", names, list.GetResourceVersion(), moment)
		}
		if len(list.Items) == 1 { // the last chunk is empty where others, which are not selected, follow
			seen = append(seen, names)
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			break
		}
	}
	if want := []string{o.name(0), o.name(1), o.name(2)}; !slices.Equal(seen, want) {
		t.Errorf("chunks %q, want %q", seen, want)
	}
	if _, err := o.client.List(t.Context(), metav1.ListOptions{Limit: 1, Continue: "nonsense"}); !apierrors.IsBadRequest(err) {
		t.Errorf("nonsense as continue token: %v", err)
	}
}

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

// watch begins with what is there, tells where that ends, and follows.
func (o *one) watch(t *testing.T) {
	w, err := o.client.Watch(t.Context(), metav1.ListOptions{
		LabelSelector: mark + ",n=1", SendInitialEvents: new(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	next := func(want watch.EventType) *unstructured.Unstructured {
		t.Helper()
		for event := range w.ResultChan() {
			u, ok := event.Object.(*unstructured.Unstructured)
			if !ok || event.Type == watch.Error {
				t.Fatalf("event %v", event)
			}
			if event.Type == want {
				return u
			}
		}
		t.Fatalf("the watch ended before %s", want)
		return nil
	}
	if first := next(watch.Added); first.GetName() != o.name(1) {
		t.Errorf("first %v", first)
	}
	if end := next(watch.Bookmark); end.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" || end.GetResourceVersion() == "" {
		t.Errorf("bookmark %v", end)
	}
	o.annotate(t, 1, types.MergePatchType, "watched", "1")
	for next(watch.Modified).GetAnnotations()["watched"] != "1" {
	}
	// A label that goes takes the object out of the watch.
	if _, err := o.client.Patch(t.Context(), o.name(1), types.MergePatchType, []byte(`{"metadata":{"labels":{"n":null}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	next(watch.Deleted)
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

// get asks for the path of the resource, or of something below it, in a certain form.
func (o *one) get(t *testing.T, accept string, below ...string) (body []byte, err error) {
	t.Helper()
	config := restclient.CopyConfig(o.config)
	config.APIPath, config.GroupVersion = "/apis", new(o.gvr.GroupVersion())
	if o.gvr.Group == "" {
		config.APIPath = "/api"
	}
	config.NegotiatedSerializer = clientscheme.Codecs.WithoutConversion()
	client, err := restclient.RESTClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return client.Get().NamespaceIfScoped(o.ns, o.Namespaced).Resource(o.Name).Suffix(below...).SetHeader("Accept", accept).DoRaw(t.Context())
}

// forms are those in which kubectl and controllers ask for objects.
func (o *one) forms(t *testing.T) {
	const table, metadata = "application/json;as=Table;v=v1;g=meta.k8s.io", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
	var rows metav1.Table
	body, err := o.get(t, table)
	if err == nil {
		err = yaml.Unmarshal(body, &rows)
	}
	if err != nil || rows.Kind != "Table" || len(rows.Rows) < 3 || !slices.ContainsFunc(rows.ColumnDefinitions, func(c metav1.TableColumnDefinition) bool { return c.Name == "Name" }) {
		t.Errorf("as a table: %.500s, %v", body, err)
	}
	var partial metav1.PartialObjectMetadataList
	body, err = o.get(t, metadata)
	if err == nil {
		err = yaml.Unmarshal(body, &partial)
	}
	if err != nil || partial.Kind != "PartialObjectMetadataList" || len(partial.Items) < 3 || strings.Contains(string(body), `"spec"`) {
		t.Errorf("as metadata: %.500s, %v", body, err)
	}
	body, err = o.get(t, runtime.ContentTypeProtobuf, o.name(2))
	if o.custom() {
		if !apierrors.IsNotAcceptable(err) {
			t.Errorf("as protobuf: %q, %v", body, err)
		}
	} else if err != nil || !bytes.HasPrefix(body, []byte("k8s\x00")) || !bytes.Contains(body, []byte(o.name(2))) {
		t.Errorf("as protobuf: %q, %v", body, err)
	}
	if body, err = o.get(t, "application/yaml", o.name(2)); err != nil || !strings.Contains(string(body), "\nkind: "+o.Kind+"\n") {
		t.Errorf("as YAML: %s, %v", body, err)
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
