package ingress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/source"
	"fairway.dev/fairway/internal/store"
)

// World is a set of objects. Use ReadFiles or ReadCluster.
type World struct {
	store *store.Store
	// offline: the objects are from files, and others than these may exist.
	offline bool
	// from says in which file an Ingress is.
	from map[model.Name]string
}

// maxManifest bounds one file, in bytes.
const maxManifest = 64 << 20

// ReadFiles reads YAML and JSON manifests: files, directories with all that is in them, or "-" for in. Objects of kinds that Ingress has nothing to do
// with are passed over.
func ReadFiles(paths []string, in io.Reader) (*World, error) {
	w := &World{store: store.New(), offline: true, from: map[model.Name]string{}}
	for _, p := range paths {
		if p == "-" {
			if err := w.read("standard input", in); err != nil {
				return nil, err
			}
			continue
		}
		if err := w.walk(p); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *World) walk(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		ext := filepath.Ext(path)
		if d.IsDir() || path != root && ext != ".yaml" && ext != ".yml" && ext != ".json" {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return w.read(path, f)
	})
}

// read takes the documents of one file.
func (w *World) read(file string, in io.Reader) error {
	docs := utilyaml.NewYAMLReader(bufio.NewReader(io.LimitReader(in, maxManifest)))
	for n := 1; ; n++ {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = w.document(file, doc)
		}
		if err != nil {
			return fmt.Errorf("%s, document %d: %w", file, n, err)
		}
	}
}

func (w *World) document(file string, doc []byte) error {
	if len(bytes.TrimSpace(doc)) == 0 {
		return nil
	}
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Items           []runtime.RawExtension `json:"items"`
	}
	if err := yaml.Unmarshal(doc, &head); err != nil {
		if bytes.Contains(doc, []byte("{{")) {
			return errors.New("it is a template: render it first (helm template CHART)")
		}
		return err
	}
	if head.Kind == "List" || strings.HasSuffix(head.Kind, "List") && len(head.Items) > 0 {
		for _, item := range head.Items {
			if err := w.document(file, item.Raw); err != nil {
				return err
			}
		}
		return nil
	}
	gv, err := schema.ParseGroupVersion(head.APIVersion)
	if err != nil {
		return err
	}
	if head.Kind == "Ingress" && (gv.Group == "extensions" || gv.Group == networkingv1.GroupName && gv.Version != "v1") {
		return fmt.Errorf("apiVersion %s of Ingress has not been served since Kubernetes 1.22: write networking.k8s.io/v1", head.APIVersion)
	}
	o := object(gv.WithKind(head.Kind))
	if o == nil {
		return nil
	}
	if err := yaml.UnmarshalStrict(doc, o); err != nil {
		return fmt.Errorf("%s: %w", head.Kind, err)
	}
	m := o.(metav1.Object)
	if m.GetName() == "" {
		return fmt.Errorf("%s: it has no name", head.Kind)
	}
	if m.GetNamespace() == "" && head.Kind != "IngressClass" {
		m.SetNamespace("default")
	}
	if head.Kind == "Ingress" {
		w.from[model.Name{Namespace: m.GetNamespace(), Name: m.GetName()}] = file
	}
	return source.Load(w.store, o)
}

// object makes an empty object of a kind that matters here, or nil.
func object(k schema.GroupVersionKind) runtime.Object {
	switch k {
	case networkingv1.SchemeGroupVersion.WithKind("Ingress"):
		return &networkingv1.Ingress{}
	case networkingv1.SchemeGroupVersion.WithKind("IngressClass"):
		return &networkingv1.IngressClass{}
	case corev1.SchemeGroupVersion.WithKind("Service"):
		return &corev1.Service{}
	case corev1.SchemeGroupVersion.WithKind("Secret"):
		return &corev1.Secret{}
	case corev1.SchemeGroupVersion.WithKind("ConfigMap"):
		return &corev1.ConfigMap{}
	case discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"):
		return &discoveryv1.EndpointSlice{}
	}
	return nil
}

// ReadCluster lists the objects of a cluster. Of Secrets and ConfigMaps it asks only for those that an Ingress or a class names, one by one.
func ReadCluster(ctx context.Context, cfg *rest.Config) (*World, error) {
	client, err := kube.NewClient(cfg)
	if err != nil {
		return nil, err
	}
	w := &World{store: store.New(), from: map[model.Name]string{}}
	lists := []struct {
		gv       schema.GroupVersion
		resource string
		list     runtime.Object
		items    func() []runtime.Object
	}{}
	ingresses, classes, services, slices := &networkingv1.IngressList{}, &networkingv1.IngressClassList{}, &corev1.ServiceList{}, &discoveryv1.EndpointSliceList{}
	add := func(gv schema.GroupVersion, resource string, list runtime.Object, items func() []runtime.Object) {
		lists = append(lists, struct {
			gv       schema.GroupVersion
			resource string
			list     runtime.Object
			items    func() []runtime.Object
		}{gv, resource, list, items})
	}
	add(networkingv1.SchemeGroupVersion, "ingresses", ingresses, func() []runtime.Object { return pointers[networkingv1.Ingress, *networkingv1.Ingress](ingresses.Items) })
	add(networkingv1.SchemeGroupVersion, "ingressclasses", classes, func() []runtime.Object {
		return pointers[networkingv1.IngressClass, *networkingv1.IngressClass](classes.Items)
	})
	add(corev1.SchemeGroupVersion, "services", services, func() []runtime.Object { return pointers[corev1.Service, *corev1.Service](services.Items) })
	add(discoveryv1.SchemeGroupVersion, "endpointslices", slices, func() []runtime.Object {
		return pointers[discoveryv1.EndpointSlice, *discoveryv1.EndpointSlice](slices.Items)
	})
	for _, l := range lists {
		if err := client.Group(l.gv).Get().Resource(l.resource).Do(ctx).Into(l.list); err != nil {
			return nil, fmt.Errorf("list %s: %w", l.resource, err)
		}
		if err := source.Load(w.store, l.items()...); err != nil {
			return nil, err
		}
	}
	return w, w.fetchNamed(ctx, client)
}

func pointers[T any, P interface {
	*T
	runtime.Object
}](items []T) []runtime.Object {
	out := make([]runtime.Object, len(items))
	for i := range items {
		out[i] = P(&items[i])
	}
	return out
}

// fetchNamed gets the Secrets and ConfigMaps that are named; one that is not there is left out, as the proxy would find it.
func (w *World) fetchNamed(ctx context.Context, client *kube.Client) error {
	secrets, configMaps := w.named()
	core := client.Group(corev1.SchemeGroupVersion)
	for _, n := range secrets {
		s := &corev1.Secret{}
		if err := core.Get().Namespace(n.Namespace).Resource("secrets").Name(n.Name).Do(ctx).Into(s); err == nil {
			if err := source.Load(w.store, s); err != nil {
				return err
			}
		} else if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	for _, n := range configMaps {
		c := &corev1.ConfigMap{}
		if err := core.Get().Namespace(n.Namespace).Resource("configmaps").Name(n.Name).Do(ctx).Into(c); err == nil {
			if err := source.Load(w.store, c); err != nil {
				return err
			}
		} else if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// named lists the Secrets and ConfigMaps that Ingresses and classes name, each once.
func (w *World) named() (secrets, configMaps []model.Name) {
	snap := w.store.Snapshot()
	for i := range snap.Ingresses.All() {
		secrets = append(secrets, i.Secrets...)
		configMaps = append(configMaps, i.ConfigMaps...)
		for _, t := range i.TLS {
			if t.Secret != "" {
				secrets = append(secrets, model.Name{Namespace: i.Name.Namespace, Name: t.Secret})
			}
		}
	}
	for c := range snap.Classes.All() {
		if p := c.Parameters; p != nil && p.Kind == "ConfigMap" && p.Name.Namespace != "" {
			configMaps = append(configMaps, p.Name)
		}
	}
	for _, list := range []*[]model.Name{&secrets, &configMaps} {
		slices.SortFunc(*list, model.Name.Compare)
		*list = slices.Compact(*list)
	}
	return secrets, configMaps
}
