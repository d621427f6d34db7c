package source

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// Options are what may differ between sources.
type Options struct {
	// Kinds are what to follow, of Addresses, Names and HTTP; nil follows all. What is not followed needs no permission, and its rows never come.
	Kinds []string
	// Node, if set, is the only node whose row is kept.
	Node string
	// Committed, if set, is called after each transaction that made a revision, on the goroutine that commits: it must be quick.
	Committed func(store.Revision, Change)
	// Logger gets the outages of the API; nil logs nothing.
	Logger *slog.Logger
	// Pods says that rows of Pods are wanted, which costs one watch of all Pods of the cluster.
	Pods bool
}

// Change says what was in one transaction.
type Change struct {
	// Seen is when the oldest change in it came from the API.
	Seen time.Time
	// Services and Slices count rows that were added, changed or removed.
	Services, Slices int
	// Triggered are the last-change-trigger-times of the slices that were added or changed, as far as they have one.
	Triggered []time.Time
}

// The kinds by who needs them, as the API's plurals: the data plane; DNS in addition; Ingress in addition.
var (
	Addresses = []string{"services", "endpointslices", "nodes", "servicecidrs"}
	Names     = []string{"namespaces"}
	HTTP      = []string{"ingresses", "ingressclasses", "secrets"}
)

// Source copies the API into a store. Use New.
type Source struct {
	log     *slog.Logger
	batch   *batch
	kinds   []string // nil: all
	watches []func(context.Context)
	client  *kube.Client
}

// New prepares a source for the API server of cfg and announces its kinds to st. It does not connect.
func New(cfg *rest.Config, st *store.Store, o Options) (*Source, error) {
	client, err := kube.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	s := newSource(client.ListWatch, st, o)
	s.client = client
	return s, nil
}

// HasService asks the API itself whether a Service exists now, whatever the watches have brought so far.
func (s *Source) HasService(ctx context.Context, n model.Name) (bool, error) {
	return s.client.Exists(ctx, corev1.SchemeGroupVersion.WithResource("services"), n.Namespace, n.Name)
}

// Run copies until ctx ends, and returns its error.
func (s *Source) Run(ctx context.Context) error {
	var watches sync.WaitGroup
	for _, w := range s.watches {
		watches.Go(func() { w(ctx) })
	}
	s.batch.run(ctx)
	watches.Wait()
	return ctx.Err()
}

// listWatch opens one resource; it is Client.ListWatch but in tests.
type listWatch func(schema.GroupVersionResource, kube.Selection) cache.ListerWatcher

func newSource(open listWatch, st *store.Store, o Options) *Source {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Source{log: o.Logger, batch: newBatch(st, o.Committed), kinds: o.Kinds}
	core, discovery, networking := corev1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, networkingv1.SchemeGroupVersion
	everything := kube.Selection{}
	nodes := everything
	if o.Node != "" {
		nodes.Fields = "metadata.name=" + o.Node
	}

	follow(s, open, core.WithResource("services"), everything, service, access[model.Service]{
		name: func(r *model.Service) model.Name { return r.Name },
		get:  func(snap *store.Snapshot, r *model.Service) *model.Service { return snap.Services.Get(r.Name) },
		all:  func(snap *store.Snapshot) iter.Seq[*model.Service] { return snap.Services.All() },
		put:  (*store.Txn).PutService, del: (*store.Txn).DeleteService,
		note: func(c *Change, _ *model.Service) { c.Services++ },
	})
	follow(s, open, discovery.WithResource("endpointslices"), everything, endpointSlice, access[model.EndpointSlice]{
		name: func(r *model.EndpointSlice) model.Name { return r.Name },
		get:  sliceOf,
		all:  func(snap *store.Snapshot) iter.Seq[*model.EndpointSlice] { return snap.AllSlices() },
		put:  (*store.Txn).PutSlice, del: (*store.Txn).DeleteSlice,
		note: func(c *Change, r *model.EndpointSlice) {
			if c.Slices++; r != nil && !r.Triggered.IsZero() {
				c.Triggered = append(c.Triggered, r.Triggered)
			}
		},
	})
	follow(s, open, core.WithResource("nodes"), nodes, node, access[model.Node]{
		name: func(r *model.Node) model.Name { return model.Name{Name: r.Name} },
		get:  func(snap *store.Snapshot, r *model.Node) *model.Node { return snap.Node(r.Name) },
		all:  func(snap *store.Snapshot) iter.Seq[*model.Node] { return snap.Nodes.All() },
		put:  (*store.Txn).PutNode,
		del:  func(t *store.Txn, n model.Name) { t.DeleteNode(n.Name) },
	})
	follow(s, open, core.WithResource("namespaces"), everything, namespace, access[model.Namespace]{
		name: func(r *model.Namespace) model.Name { return model.Name{Name: r.Name} },
		get: func(snap *store.Snapshot, r *model.Namespace) *model.Namespace {
			return snap.Namespaces.Get(model.Name{Name: r.Name})
		},
		all: func(snap *store.Snapshot) iter.Seq[*model.Namespace] { return snap.Namespaces.All() },
		put: (*store.Txn).PutNamespace,
		del: func(t *store.Txn, n model.Name) { t.DeleteNamespace(n.Name) },
	})
	follow(s, open, networking.WithResource("servicecidrs"), everything, serviceCIDR, access[model.ServiceCIDR]{
		name: func(r *model.ServiceCIDR) model.Name { return model.Name{Name: r.Name} },
		get: func(snap *store.Snapshot, r *model.ServiceCIDR) *model.ServiceCIDR {
			return snap.ServiceCIDRs.Get(model.Name{Name: r.Name})
		},
		all: func(snap *store.Snapshot) iter.Seq[*model.ServiceCIDR] { return snap.ServiceCIDRs.All() },
		put: (*store.Txn).PutServiceCIDR,
		del: func(t *store.Txn, n model.Name) { t.DeleteServiceCIDR(n.Name) },
	})
	ingresses := follow(s, open, networking.WithResource("ingresses"), everything, ingress, access[model.Ingress]{
		name: func(r *model.Ingress) model.Name { return r.Name },
		get:  func(snap *store.Snapshot, r *model.Ingress) *model.Ingress { return snap.Ingresses.Get(r.Name) },
		all:  func(snap *store.Snapshot) iter.Seq[*model.Ingress] { return snap.Ingresses.All() },
		put:  (*store.Txn).PutIngress, del: (*store.Txn).DeleteIngress,
	})
	classes := follow(s, open, networking.WithResource("ingressclasses"), everything, ingressClass, access[model.IngressClass]{
		name: func(r *model.IngressClass) model.Name { return model.Name{Name: r.Name} },
		get: func(snap *store.Snapshot, r *model.IngressClass) *model.IngressClass {
			return snap.Classes.Get(model.Name{Name: r.Name})
		},
		all: func(snap *store.Snapshot) iter.Seq[*model.IngressClass] { return snap.Classes.All() },
		put: (*store.Txn).PutClass,
		del: func(t *store.Txn, n model.Name) { t.DeleteClass(n.Name) },
	})
	tls := kube.Selection{Fields: "type=" + string(corev1.SecretTypeTLS)} // the other Secrets are nobody's business here
	follow(s, open, core.WithResource("secrets"), tls, certificate, access[model.Certificate]{
		name: func(r *model.Certificate) model.Name { return r.Name },
		get: func(snap *store.Snapshot, r *model.Certificate) *model.Certificate {
			return snap.Certificates.Get(r.Name)
		},
		all: func(snap *store.Snapshot) iter.Seq[*model.Certificate] { return snap.Certificates.All() },
		put: (*store.Txn).PutCertificate, del: (*store.Txn).DeleteCertificate,
	})
	if o.Pods {
		if s.kinds != nil {
			s.kinds = append(slices.Clip(s.kinds), "pods")
		}
		alive := kube.Selection{Fields: "status.phase!=Succeeded,status.phase!=Failed"}
		follow(s, open, core.WithResource("pods"), alive, pod, access[model.Pod]{
			name: func(r *model.Pod) model.Name { return r.Name },
			get:  func(snap *store.Snapshot, r *model.Pod) *model.Pod { return snap.Pods.Get(r.Name) },
			all:  func(snap *store.Snapshot) iter.Seq[*model.Pod] { return snap.Pods.All() },
			put:  (*store.Txn).PutPod, del: (*store.Txn).DeletePod,
		})
	}
	if ingresses == nil || classes == nil || s.kinds != nil && !slices.Contains(s.kinds, "secrets") {
		return s
	}
	known := make(chan struct{})
	n := &named{s: s, open: open, known: known, done: st.Announce("what Ingresses name"), watches: map[namedObject]*namedWatch{}}
	s.watches = append(s.watches, n.run, func(ctx context.Context) {
		for _, c := range []<-chan struct{}{ingresses, classes} {
			select {
			case <-ctx.Done():
				return
			case <-c:
			}
		}
		close(known)
	})
	return s
}

// follow adds one kind to the source and announces it to the store. synced is closed when its first list is in the store; it is nil if the kind is not
// wanted.
func follow[O kube.Object, R any](s *Source, open listWatch, r schema.GroupVersionResource, sel kube.Selection, conv kube.Convert[O, *R], a access[R]) (synced <-chan struct{}) {
	if s.kinds != nil && !slices.Contains(s.kinds, r.Resource) {
		return nil
	}
	done, first := s.batch.store.Announce(r.Resource), make(chan struct{})
	t := addTable(s.batch, a, sync.OnceFunc(func() { done(); close(first) }))
	s.watches = append(s.watches, func(ctx context.Context) {
		kube.Watch(ctx, s.log, r.Resource, open(r, sel), conv, t)
	})
	return first
}

// sliceOf finds the row that r replaces, unless that one is filed under another Service.
func sliceOf(snap *store.Snapshot, r *model.EndpointSlice) *model.EndpointSlice {
	for old := range snap.Slices(r.Service) {
		if old.Name == r.Name {
			return old
		}
	}
	return nil
}
