package source

import (
	"context"
	"maps"
	"reflect"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// The annotations of an Ingress that name a Secret or a ConfigMap of its namespace.
var (
	secretAnnotations    = []string{"auth-secret", "auth-tls-secret", "proxy-ssl-secret"}
	configMapAnnotations = []string{"auth-proxy-set-headers", "custom-headers"}
)

const annotationDomain = "nginx.ingress.kubernetes.io/"

// namedBy lists the objects that annotations name. One in another namespace is none: nothing is taken from there.
func namedBy(namespace string, annotations map[string]string, names []string) (out []model.Name) {
	for _, a := range names {
		v := strings.TrimSpace(annotations[annotationDomain+a])
		ns, name, ok := strings.Cut(v, "/")
		if !ok {
			ns, name = namespace, v
		}
		if name != "" && ns == namespace {
			out = append(out, model.Name{Namespace: ns, Name: name})
		}
	}
	return out
}

// named watches, each by itself, the Secrets and ConfigMaps that Ingresses and classes name. All others are nobody's business here, and the
// permission to read them need not be given.
type named struct {
	s     *Source
	open  listWatch
	known <-chan struct{} // closed when the first lists of Ingresses and classes are in the store
	done  func()          // says that what these name is in the store as well

	watches map[namedObject]*namedWatch
	running sync.WaitGroup
}

type namedObject struct {
	secret bool
	name   model.Name
}

type namedWatch struct {
	stop  context.CancelFunc
	ready chan struct{} // closed with the first list
}

// namedPatience is how long the first state waits for what cannot be read; its Ingresses are refused until it can.
const namedPatience = 5 * time.Second

func (n *named) run(ctx context.Context) {
	defer n.running.Wait()
	select {
	case <-ctx.Done():
		return
	case <-n.known:
	}
	cur := n.s.batch.store.Follow("")
	defer cur.Close()
	for first := true; ; first = false {
		snap, d, err := cur.Next(ctx)
		if err != nil {
			return
		}
		if !first && !d.All && len(d.Ingresses) == 0 && len(d.Classes) == 0 {
			continue
		}
		n.follow(ctx, wanted(snap))
		if first {
			n.running.Go(func() { n.first(ctx, maps.Clone(n.watches)) })
		}
	}
}

// first waits for the first list of each.
func (n *named) first(ctx context.Context, watches map[namedObject]*namedWatch) {
	limit := time.NewTimer(namedPatience)
	defer limit.Stop()
	defer n.done()
	for o, w := range watches {
		select {
		case <-ctx.Done():
			return
		case <-w.ready:
		case <-limit.C:
			n.s.log.Warn("what an Ingress names cannot be read; its Ingresses are refused until it can", "object", o.name.String())
			return
		}
	}
}

func wanted(snap *store.Snapshot) map[namedObject]bool {
	out := map[namedObject]bool{}
	ours := map[string]bool{"": true} // who names no class may be ours
	for c := range snap.Classes.All() {
		if c.Controller != model.IngressController {
			continue
		}
		ours[c.Name] = true
		if p := c.Parameters; p != nil && p.Group == "" && p.Kind == "ConfigMap" && p.Name.Namespace != "" {
			out[namedObject{false, p.Name}] = true
		}
	}
	for i := range snap.Ingresses.All() {
		if !ours[i.Class] {
			continue
		}
		for _, s := range i.Secrets {
			out[namedObject{true, s}] = true
		}
		for _, c := range i.ConfigMaps {
			out[namedObject{false, c}] = true
		}
	}
	return out
}

func (n *named) follow(ctx context.Context, want map[namedObject]bool) {
	for o, w := range n.watches {
		if !want[o] {
			w.stop()
			delete(n.watches, o)
		}
	}
	for o := range want {
		if n.watches[o] != nil {
			continue
		}
		own, stop := context.WithCancel(ctx)
		w := &namedWatch{stop, make(chan struct{})}
		n.watches[o] = w
		n.running.Go(func() { n.watch(own, o, w) })
	}
}

// watch follows one object until ctx ends, and then forgets it.
func (n *named) watch(ctx context.Context, o namedObject, w *namedWatch) {
	sel := kube.Selection{Namespace: o.name.Namespace, Fields: "metadata.name=" + o.name.Name}
	core := corev1.SchemeGroupVersion
	st := n.s.batch.store
	ready := sync.OnceFunc(func() { close(w.ready) })
	if o.secret {
		to := &single[model.Secret]{name: o.name, ready: ready, ctx: ctx, store: st,
			get: func(s *store.Snapshot) *model.Secret { return s.Secrets.Get(o.name) }, put: (*store.Txn).PutSecret, del: (*store.Txn).DeleteSecret}
		kube.Watch(ctx, n.s.log, "secrets", n.open(core.WithResource("secrets"), sel), func(s *corev1.Secret) (*model.Secret, bool) {
			return secretRow(s), s.Name == o.name.Name && s.Namespace == o.name.Namespace
		}, to)
		to.forget()
		return
	}
	to := &single[model.ConfigMap]{name: o.name, ready: ready, ctx: ctx, store: st,
		get: func(s *store.Snapshot) *model.ConfigMap { return s.ConfigMaps.Get(o.name) }, put: (*store.Txn).PutConfigMap, del: (*store.Txn).DeleteConfigMap}
	kube.Watch(ctx, n.s.log, "configmaps", n.open(core.WithResource("configmaps"), sel), func(c *corev1.ConfigMap) (*model.ConfigMap, bool) {
		return configMapRow(c), c.Name == o.name.Name && c.Namespace == o.name.Namespace
	}, to)
	to.forget()
}

func secretRow(s *corev1.Secret) *model.Secret {
	data := s.Data
	if len(s.StringData) > 0 { // only in files: the API makes Data of it
		data = map[string][]byte{}
		maps.Copy(data, s.Data)
		for k, v := range s.StringData {
			data[k] = []byte(v)
		}
	}
	return &model.Secret{Name: model.Name{Namespace: s.Namespace, Name: s.Name}, Data: data}
}

func configMapRow(c *corev1.ConfigMap) *model.ConfigMap {
	return &model.ConfigMap{Name: model.Name{Namespace: c.Namespace, Name: c.Name}, Data: c.Data}
}

// single puts one object into the store.
type single[R any] struct {
	ctx   context.Context
	store *store.Store
	name  model.Name
	ready func()
	get   func(*store.Snapshot) *R
	put   func(*store.Txn, *R)
	del   func(*store.Txn, model.Name)
}

var _ kube.Receiver[*int] = (*single[int])(nil)

func (s *single[R]) set(row *R) {
	if s.ctx.Err() != nil {
		return // another watch of the same name may have begun
	}
	_, _ = s.store.Update(func(t *store.Txn) error {
		switch old := s.get(s.store.Snapshot()); {
		case row == nil:
			s.del(t, s.name)
		case old == nil || !reflect.DeepEqual(old, row):
			s.put(t, row)
		}
		return nil
	})
}

// forget takes the object out of the store when nobody names it any more.
func (s *single[R]) forget() {
	_, _ = s.store.Update(func(t *store.Txn) error { s.del(t, s.name); return nil })
}

func (s *single[R]) Put(_ types.NamespacedName, row *R) { s.set(row) }

func (s *single[R]) Delete(types.NamespacedName) { s.set(nil) }

func (s *single[R]) Replace(items []kube.Item[*R], _ kube.Version) {
	var row *R
	if len(items) > 0 {
		row = items[0].Row
	}
	s.set(row)
	s.ready()
}
