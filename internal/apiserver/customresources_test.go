package apiserver

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

var definitionsResource = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// object reads an object from YAML.
func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

func dynamicClient(t *testing.T) dynamic.Interface {
	t.Helper()
	client, err := dynamic.NewForConfig(shared.ClientConfig("custom"))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// A custom resource is what its schema says: what it does not know is left out, what is missing is filled in, what is wrong is refused.
func TestCustomResourceSchema(t *testing.T) {
	t.Parallel()
	client := dynamicClient(t)
	define(t, client, shelvesYAML)
	shelves := client.Resource(schema.GroupVersionResource{Group: "books.example.test", Version: "v1", Resource: "shelves"}).Namespace(shared.namespace(t))
	const head = "{apiVersion: books.example.test/v1, kind: Shelf, metadata: {name: %s}, spec: %s}"
	for _, test := range []struct{ name, spec, want, refused string }{
		{"empty", `{}`, `{"material":"wood"}`, ""},
		{"pruned", `{width: 3, colour: red, free: {colour: red}}`, `{"free":{"colour":"red"},"material":"wood","width":3}`, ""},
		{"wrong-type", `{width: wide}`, "", `spec.width: Invalid value: "string"`},
		{"too-wide", `{width: 301}`, "", "should be less than or equal to 300"},
		{"overfull", `{width: 3, books: 4}`, "", "no more than one book a centimetre"},
		{"twice", `{tags: [a, a]}`, "", `Duplicate value: "a"`},
	} {
		got, err := shelves.Create(t.Context(), object(t, fmt.Sprintf(head, test.name, test.spec)), metav1.CreateOptions{FieldValidation: metav1.FieldValidationIgnore})
		if test.refused != "" {
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), test.refused) {
				t.Errorf("%s: %v, want %q", test.name, err, test.refused)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if spec, _ := json.Marshal(got.Object["spec"]); string(spec) != test.want {
			t.Errorf("%s: %s, want %s", test.name, spec, test.want)
		}
	}

	// A set that two managers apply is the union, and who goes takes what is his.
	apply := func(manager, tags string) {
		t.Helper()
		if _, err := shelves.Apply(t.Context(), "shared", object(t, fmt.Sprintf(head, "shared", "{tags: "+tags+"}")), metav1.ApplyOptions{FieldManager: manager}); err != nil {
			t.Fatal(err)
		}
	}
	apply("one", "[a, b]")
	apply("two", "[b, c]")
	apply("one", "[]")
	got, err := shelves.Get(t.Context(), "shared", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if tags, _, _ := unstructured.NestedStringSlice(got.Object, "spec", "tags"); !slices.Equal(tags, []string{"b", "c"}) {
		t.Errorf("applied by two: %v", tags)
	}

	// The status changes by itself only, and the generation counts changes of the rest.
	patched, err := shelves.Patch(t.Context(), "shared", types.MergePatchType, []byte(`{"spec":{"width":9},"status":{"books":1}}`), metav1.PatchOptions{})
	if err != nil || patched.Object["status"] != nil || patched.GetGeneration() != got.GetGeneration()+1 {
		t.Errorf("patched as a whole: %v, %v", patched, err)
	}
	status, err := shelves.Patch(t.Context(), "shared", types.MergePatchType, []byte(`{"spec":{"width":10},"status":{"books":1}}`), metav1.PatchOptions{}, "status")
	if width, _, _ := unstructured.NestedInt64(status.Object, "spec", "width"); err != nil || width != 9 || status.GetGeneration() != patched.GetGeneration() {
		t.Errorf("patched the status: %v, %v", status, err)
	}
}

// What discovery and OpenAPI say of a custom resource is one with what they say of the others, in each of their forms, from its beginning to its end.
func TestCustomResourceIsDescribed(t *testing.T) {
	t.Parallel()
	client := dynamicClient(t)
	definition := fmt.Sprintf(plainDefinition, "described.example.test", "Lamp", "lamps")
	define(t, client, []byte(definition))
	raw := shared.client.Discovery().RESTClient()
	for _, test := range []struct{ path, accept string }{
		{"/apis", "application/json"},
		{"/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"},
		{"/openapi/v2", "application/json"},
		{"/openapi/v3", "application/json"},
	} {
		has := func(want string) error {
			body, err := raw.Get().AbsPath(test.path).SetHeader("Accept", test.accept).DoRaw(t.Context())
			if err != nil {
				return err
			}
			if !strings.Contains(string(body), want) || !strings.Contains(string(body), "apps") || !strings.Contains(string(body), "apiextensions.k8s.io") {
				return fmt.Errorf("%s as %s: no %s in %.300s", test.path, test.accept, want, body)
			}
			return nil
		}
		eventually(t, func() error { return has("described.example.test") })
	}
	versions := func(want ...string) {
		t.Helper()
		eventually(t, func() error {
			groups, err := raw.Get().AbsPath("/apis").SetHeader("Accept", "application/json").DoRaw(t.Context())
			if err != nil {
				return err
			}
			var list metav1.APIGroupList
			if err := json.Unmarshal(groups, &list); err != nil {
				return err
			}
			var got []string
			for _, g := range list.Groups {
				if g.Name == "described.example.test" {
					for _, v := range g.Versions {
						got = append(got, v.Version)
					}
				}
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("versions %v, want %v", got, want)
			}
			return nil
		})
	}
	versions("v1")
	// Another definition of the group brings another version, and takes it along again. The other one of the group stays.
	other := strings.ReplaceAll(fmt.Sprintf(plainDefinition, "described.example.test", "Bulb", "bulbs"), "name: v1,", "name: v2alpha1,")
	define(t, client, []byte(other))
	versions("v1", "v2alpha1")
	for _, name := range []string{"bulbs.described.example.test", "lamps.described.example.test"} {
		if err := client.Resource(definitionsResource).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if name[0] == 'b' {
			versions("v1")
		}
	}
	versions()
}

// plainDefinition wants a group, a kind and its plural.
const plainDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[3]s.%[1]s}
spec:
  group: %[1]s
  scope: Cluster
  names: {kind: %[2]s, plural: %[3]s}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`

// undefine takes a CustomResourceDefinition and its objects away, so that the next run may make them again.
func undefine(t *testing.T, name string) {
	t.Helper()
	client, err := dynamic.NewForConfig(shared.ClientConfig("undefine"))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Resource(definitionsResource).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Error(err)
	}
	eventually(t, func() error {
		_, err := client.Resource(definitionsResource).Get(context.Background(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("%s is still there, %w", name, err)
	})
}

// A definition that cannot be served is refused, or says in its conditions why it is not.
func TestDefinitionsThatAreRefused(t *testing.T) {
	t.Parallel()
	definitions := dynamicClient(t).Resource(definitionsResource)
	for _, test := range []struct{ what, old, new, want string }{
		{"another name", "metadata: {name: tables.", "metadata: {name: chairs.", "metadata.name: Invalid value"},
		{"no schema", ", schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}", "", "openAPIV3Schema: Required value"},
		{"no structure", "x-kubernetes-preserve-unknown-fields: true", "properties: {a: {description: x}}", "must not be empty for specified object fields"},
		{"nothing stored", "storage: true", "storage: false", "must have exactly one version marked as storage version"},
		{"reserved group", "refused.example.test", "refused.k8s.io", "protected groups must have approval annotation"},
	} {
		text := strings.ReplaceAll(fmt.Sprintf(plainDefinition, "refused.example.test", "Table", "tables"), test.old, test.new)
		if _, err := definitions.Create(t.Context(), object(t, text), metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.what, err, test.want)
		}
	}
	for _, plural := range []string{"stools", "benches"} { // of one kind
		t.Cleanup(func() { undefine(t, plural+".refused.example.test") })
		if _, err := definitions.Create(t.Context(), object(t, fmt.Sprintf(plainDefinition, "refused.example.test", "Seat", plural)), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			u, err := definitions.Get(t.Context(), plural+".refused.example.test", metav1.GetOptions{})
			if err != nil {
				return err
			}
			var crd apiextensionsv1.CustomResourceDefinition
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &crd); err != nil {
				return err
			}
			for _, c := range crd.Status.Conditions {
				if c.Type == apiextensionsv1.NamesAccepted && (c.Status == apiextensionsv1.ConditionTrue) == (plural == "stools") {
					return nil
				}
			}
			return fmt.Errorf("%s: conditions %v", plural, crd.Status.Conditions)
		})
	}
}

// Objects are stored in one version and served in each: as they are, or as a webhook makes them.
func TestCustomResourceVersions(t *testing.T) {
	t.Parallel()
	client := dynamicClient(t)
	hook := httptest.NewTLSServer(http.HandlerFunc(convert))
	t.Cleanup(hook.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw})
	for _, test := range []struct {
		kind       string
		conversion map[string]any
		want       map[string]any
	}{
		{"Jug", map[string]any{"strategy": "None"}, map[string]any{"size": int64(7)}},
		{"Mug", map[string]any{"strategy": "Webhook", "webhook": map[string]any{
			"conversionReviewVersions": []any{"v1"}, "clientConfig": map[string]any{"url": hook.URL, "caBundle": authority},
		}}, map[string]any{"volume": int64(7)}},
	} {
		plural := strings.ToLower(test.kind) + "s"
		t.Cleanup(func() { undefine(t, plural+".versions.example.test") })
		definition := object(t, fmt.Sprintf(plainDefinition, "versions.example.test", test.kind, plural))
		versions, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
		second := runtime.DeepCopyJSON(versions[0].(map[string]any))
		second["name"], second["storage"] = "v2", false
		_ = unstructured.SetNestedSlice(definition.Object, append(versions, second), "spec", "versions")
		if text, err := json.Marshal(test.conversion); err != nil {
			t.Fatal(err)
		} else if err := json.Unmarshal(text, &test.conversion); err != nil { // bytes become base64
			t.Fatal(err)
		}
		_ = unstructured.SetNestedMap(definition.Object, test.conversion, "spec", "conversion")
		text, err := yaml.Marshal(definition.Object)
		if err != nil {
			t.Fatal(err)
		}
		define(t, client, text)
		in := func(version string) dynamic.ResourceInterface {
			return client.Resource(schema.GroupVersionResource{Group: "versions.example.test", Version: version, Resource: plural})
		}
		if _, err := in("v1").Create(t.Context(), object(t, "{apiVersion: versions.example.test/v1, kind: "+test.kind+", metadata: {name: a}, spec: {size: 7}}"), metav1.CreateOptions{}); err != nil {
			t.Fatalf("%s: %v", test.kind, err)
		}
		got, err := in("v2").Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil || got.GetAPIVersion() != "versions.example.test/v2" || !reflect.DeepEqual(got.Object["spec"], test.want) {
			t.Errorf("%s: %v, %v", test.kind, got, err)
		}
		list, err := in("v2").List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 || !reflect.DeepEqual(list.Items[0].Object["spec"], test.want) {
			t.Errorf("%s: list %v, %v", test.kind, list, err)
		}
	}
}

// convert is a conversion webhook: what v1 calls size is volume in v2.
func convert(w http.ResponseWriter, r *http.Request) {
	var review apiextensionsv1.ConversionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	review.Response = &apiextensionsv1.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
	for _, one := range review.Request.Objects {
		text := strings.NewReplacer(`"size"`, `"volume"`, `"volume"`, `"size"`, "example.test/v1", "example.test/v2", "example.test/v2", "example.test/v1").Replace(string(one.Raw))
		review.Response.ConvertedObjects = append(review.Response.ConvertedObjects, runtime.RawExtension{Raw: []byte(text)})
	}
	review.Request = nil
	_ = json.NewEncoder(w).Encode(review)
}

// A webhook that is a Service is called at the Service's cluster IP.
func TestServiceResolver(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	for name, spec := range map[string]string{"hook": `{ports: [{port: 443, targetPort: 9443}]}`, "headless": `{clusterIP: None, ports: [{port: 443}]}`} {
		if _, err := shared.client.CoreV1().Services(ns).Create(t.Context(), manifest(t, name, spec), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	hook, err := shared.client.CoreV1().Services(ns).Get(t.Context(), "hook", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	resolver := serviceResolver{shared.client}
	if url, err := resolver.ResolveEndpoint(ns, "hook", 443); err != nil || url.String() != "https://"+hook.Spec.ClusterIP+":443" {
		t.Errorf("resolved to %v, %v", url, err)
	}
	for _, wrong := range []struct {
		name string
		port int32
	}{{"hook", 80}, {"headless", 443}, {"nobody", 443}} {
		if url, err := resolver.ResolveEndpoint(ns, wrong.name, wrong.port); err == nil {
			t.Errorf("%s:%d resolved to %v", wrong.name, wrong.port, url)
		}
	}
}
