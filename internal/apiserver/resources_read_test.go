package apiserver

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	restclient "k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

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
