package source

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	fake "k8s.io/client-go/tools/cache/testing"

	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// api is one list and watch in memory for each resource.
type api map[string]*fake.FakeControllerSource

// unstreamed keeps the reflector from asking for a streamed first list, which the fake cannot give.
type unstreamed struct{ *fake.FakeControllerSource }

func (unstreamed) IsWatchListSemanticsUnSupported() bool { return true }

func newAPI() api {
	a := api{}
	for _, r := range []string{"services", "endpointslices", "nodes", "namespaces", "ingresses", "ingressclasses", "secrets", "servicecidrs"} {
		a[r] = fake.NewFakeControllerSource()
	}
	return a
}

func (a api) open(r schema.GroupVersionResource, _ kube.Selection) cache.ListerWatcher {
	return unstreamed{a[r.Resource]}
}

// start runs a source on the API until the test ends.
func start(t testing.TB, a api) *store.Store {
	t.Helper()
	return startOn(t, a.open)
}

func startOn(t testing.TB, open listWatch) *store.Store {
	t.Helper()
	st := store.New()
	s := newSource(open, st, Options{})
	if got := len(st.Unsynced()); got != 9 {
		t.Fatalf("sources announced: %d, want 9", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v, want the context's error", err)
		}
	})
	return st
}

// await follows the store until cond holds, and gives the snapshot in which it did.
func await(t testing.TB, st *store.Store, what string, cond func(*store.Snapshot) bool) *store.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := st.Follow("test " + t.Name() + what)
	defer c.Close()
	for {
		snap, _, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if cond(snap) {
			return snap
		}
	}
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func svc(name, ip string) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta("default", name), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIPs: []string{ip}}}
}

func slice(name, service string, ips ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta("default", name), AddressType: discoveryv1.AddressTypeIPv4}
	s.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	for _, ip := range ips {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}})
	}
	return s
}

func serviceNames(snap *store.Snapshot) (out []string) {
	for s := range snap.Services.All() {
		out = append(out, s.Name.Name)
	}
	return out
}

func synced(s *store.Snapshot) bool { return s.Synced }

func TestFirstListsMakeTheStoreSynced(t *testing.T) {
	t.Parallel()
	a := newAPI()
	a["services"].Add(svc("web", "10.96.0.7"))
	a["endpointslices"].Add(slice("web-1", "web", "10.1.0.1"))
	a["nodes"].Add(&corev1.Node{ObjectMeta: meta("", "n1")})
	a["namespaces"].Add(&corev1.Namespace{ObjectMeta: meta("", "default")})
	a["secrets"].Add(&corev1.Secret{ObjectMeta: meta("default", "cert"), Type: corev1.SecretTypeTLS})
	a["secrets"].Add(&corev1.Secret{ObjectMeta: meta("default", "other"), Type: corev1.SecretTypeOpaque})
	snap := await(t, start(t, a), "synced", synced)

	if got := serviceNames(snap); !slices.Equal(got, []string{"web"}) {
		t.Errorf("services: %v", got)
	}
	if snap.SliceCount() != 1 || snap.Node("n1") == nil || snap.Namespaces.Len() != 1 || snap.Certificates.Len() != 1 {
		t.Errorf("slices %d, node %v, namespaces %d, certificates %d; want one of each",
			snap.SliceCount(), snap.Node("n1"), snap.Namespaces.Len(), snap.Certificates.Len())
	}
}

func TestChangesFollow(t *testing.T) {
	t.Parallel()
	a := newAPI()
	st := start(t, a)
	await(t, st, "synced", synced)

	a["services"].Add(svc("web", "10.96.0.7"))
	a["endpointslices"].Add(slice("web-1", "web", "10.1.0.1"))
	web := model.Name{Namespace: "default", Name: "web"}
	addresses := func(s *store.Snapshot) (out []string) {
		for sl := range s.Slices(web) {
			for _, e := range sl.Endpoints {
				out = append(out, e.Addr.String())
			}
		}
		return out
	}
	await(t, st, "added", func(s *store.Snapshot) bool { return s.Services.Get(web) != nil && len(addresses(s)) == 1 })

	a["endpointslices"].Modify(slice("web-1", "web", "10.1.0.1", "10.1.0.2"))
	await(t, st, "changed", func(s *store.Snapshot) bool { return slices.Equal(addresses(s), []string{"10.1.0.1", "10.1.0.2"}) })

	a["endpointslices"].Modify(slice("web-1", "other", "10.1.0.1"))
	await(t, st, "moved to another Service", func(s *store.Snapshot) bool { return len(addresses(s)) == 0 && s.SliceCount() == 1 })

	unlabelled := slice("web-1", "", "10.1.0.1")
	unlabelled.Labels = nil
	a["endpointslices"].Modify(unlabelled)
	await(t, st, "of no Service any more", func(s *store.Snapshot) bool { return s.SliceCount() == 0 })

	a["services"].Delete(svc("web", "10.96.0.7"))
	await(t, st, "deleted", func(s *store.Snapshot) bool { return s.Services.Get(web) == nil })
}

func TestRelistDeletesWhatWentUnseenAndTouchesNothingElse(t *testing.T) {
	t.Parallel()
	a := newAPI()
	for _, n := range []string{"stays", "goes"} {
		a["services"].Add(svc(n, "10.96.0.7"))
	}
	st := start(t, a)
	before := await(t, st, "synced", synced)

	// An outage: one object goes, one comes, and the watch can tell of neither.
	a["services"].DeleteDropWatch(svc("goes", "10.96.0.7"))
	a["services"].AddDropWatch(svc("comes", "10.96.0.8"))
	a["services"].ResetWatch()
	after := await(t, st, "listed again", func(s *store.Snapshot) bool {
		return slices.Equal(serviceNames(s), []string{"comes", "stays"})
	})
	stays := model.Name{Namespace: "default", Name: "stays"}
	if before.Services.Get(stays) != after.Services.Get(stays) {
		t.Error("the row of an unchanged Service was replaced")
	}
	if after.Revision != before.Revision+1 {
		t.Errorf("revision %d after %d: the list was not one transaction", after.Revision, before.Revision)
	}
}

func TestOutageKeepsRows(t *testing.T) {
	t.Parallel()
	a := newAPI()
	a["services"].Add(svc("web", "10.96.0.7"))
	broken := &breakable{unstreamed: unstreamed{a["services"]}, refused: make(chan struct{}, 1)}
	st := startOn(t, func(r schema.GroupVersionResource, s kube.Selection) cache.ListerWatcher {
		if r.Resource == "services" {
			return broken
		}
		return a.open(r, s)
	})
	await(t, st, "synced", synced)

	broken.away.Store(true)
	a["services"].DeleteDropWatch(svc("web", "10.96.0.7"))
	a["services"].AddDropWatch(svc("new", "10.96.0.8"))
	a["services"].ResetWatch()
	for range 3 { // attempts
		<-broken.refused
	}
	if got := serviceNames(st.Snapshot()); !slices.Equal(got, []string{"web"}) {
		t.Fatalf("services in the outage: %v, want those from before", got)
	}
	broken.away.Store(false)
	await(t, st, "back", func(s *store.Snapshot) bool { return slices.Equal(serviceNames(s), []string{"new"}) })
}

// breakable is an API that can be away; each refused attempt is told.
type breakable struct {
	unstreamed
	away    atomic.Bool
	refused chan struct{}
}

func (b *breakable) refuse() error {
	if !b.away.Load() {
		return nil
	}
	select {
	case b.refused <- struct{}{}:
	default:
	}
	return errors.New("the API is away")
}

func (b *breakable) List(o metav1.ListOptions) (runtime.Object, error) {
	if err := b.refuse(); err != nil {
		return nil, err
	}
	return b.unstreamed.List(o)
}

func (b *breakable) Watch(o metav1.ListOptions) (apiwatch.Interface, error) {
	if err := b.refuse(); err != nil {
		return nil, err
	}
	return b.unstreamed.Watch(o)
}

func TestUnchangedObjectMakesNoRevision(t *testing.T) {
	t.Parallel()
	a := newAPI()
	node := &corev1.Node{ObjectMeta: meta("", "n1")}
	a["nodes"].Add(node)
	st := start(t, a)
	before := await(t, st, "synced", synced)

	beat := node.DeepCopy()
	beat.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.Now()}}
	a["nodes"].Modify(beat)
	a["nodes"].Add(&corev1.Node{ObjectMeta: meta("", "n2")}) // comes after the beat, so the beat is over when n2 is seen
	after := await(t, st, "second node", func(s *store.Snapshot) bool { return s.Node("n2") != nil })
	if after.Revision != before.Revision+1 || before.Node("n1") != after.Node("n1") {
		t.Errorf("a heartbeat made revision %d of %d", after.Revision, before.Revision)
	}
}

// BenchmarkChange is one event of the watch until it is in the store, 10,000 Services present.
func BenchmarkChange(b *testing.B) {
	a := newAPI()
	for i := range 10000 {
		n := "s" + time.Duration(i).String()
		a["services"].Add(svc(n, "10.96.0.7"))
		a["endpointslices"].Add(slice(n+"-1", n, "10.1.0.1", "10.1.0.2"))
	}
	st := start(b, a)
	await(b, st, "synced", synced)
	c := st.Follow("bench")
	defer c.Close()
	if _, _, err := c.Next(b.Context()); err != nil {
		b.Fatal(err)
	}
	ips := [2]string{"10.1.0.3", "10.1.0.4"}
	for i := 0; b.Loop(); i++ {
		a["endpointslices"].Modify(slice("s17ns-1", "s17ns", "10.1.0.1", ips[i%2]))
		if _, _, err := c.Next(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// TestLabelHandsServiceToAnotherProxy: the label comes and goes on a living Service.
func TestLabelHandsServiceToAnotherProxy(t *testing.T) {
	t.Parallel()
	a := newAPI()
	a["services"].Add(svc("web", "10.96.0.7"))
	st := start(t, a)
	web := model.Name{Namespace: "default", Name: "web"}
	given := func(other bool) func(*store.Snapshot) bool {
		return func(s *store.Snapshot) bool { row := s.Services.Get(web); return row != nil && row.OtherProxy == other }
	}
	await(t, st, "ours", given(false))
	away := svc("web", "10.96.0.7")
	away.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "mesh"}
	a["services"].Modify(away)
	await(t, st, "another's", given(true))
	a["services"].Modify(svc("web", "10.96.0.7"))
	await(t, st, "ours again", given(false))
}

// TestKinds follows what it is told to, and announces nothing else.
func TestKinds(t *testing.T) {
	t.Parallel()
	st := store.New()
	newSource(newAPI().open, st, Options{Kinds: Addresses, Node: "n1"})
	if got, want := st.Unsynced(), []string{"endpointslices", "nodes", "servicecidrs", "services"}; !slices.Equal(got, want) {
		t.Errorf("announced: %v, want %v", got, want)
	}
}

// TestUnserved has an API that knows no ServiceCIDRs: it is as one without any.
func TestUnserved(t *testing.T) {
	t.Parallel()
	a := newAPI()
	st := startOn(t, func(r schema.GroupVersionResource, sel kube.Selection) cache.ListerWatcher {
		if r.Resource != "servicecidrs" {
			return a.open(r, sel)
		}
		missing := apierrors.NewNotFound(r.GroupResource(), "")
		return unstreamedFuncs{&cache.ListWatch{
			ListWithContextFunc:  func(context.Context, metav1.ListOptions) (runtime.Object, error) { return nil, missing },
			WatchFuncWithContext: func(context.Context, metav1.ListOptions) (apiwatch.Interface, error) { return nil, missing },
		}}
	})
	await(t, st, "synced without ServiceCIDRs", func(s *store.Snapshot) bool { return s.Synced && s.ServiceCIDRs.Len() == 0 })
}

type unstreamedFuncs struct{ *cache.ListWatch }

func (unstreamedFuncs) IsWatchListSemanticsUnSupported() bool { return true }
