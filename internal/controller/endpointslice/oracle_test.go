package endpointslice

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	listers "k8s.io/client-go/listers/core/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	upstream "k8s.io/endpointslice"
	"k8s.io/endpointslice/topologycache"
	upstreamutil "k8s.io/endpointslice/util"
	"k8s.io/klog/v2"

	"fairway.dev/fairway/internal/kube"
)

// TestAgainstKubernetes lives through random histories of Services, Pods and Nodes with Kubernetes' own reconciler and with this package, each with the slices
// that it made itself. After every step it compares what the slices say, how many there are, and what triggered them. Ours learns of each step
// what a watch would say, so that it looks at what has changed; a look at everything must then find nothing left to do.
func TestAgainstKubernetes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(16) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 0))
			world := randomWorld{nodes: map[string]*corev1.Node{}, services: map[string]*corev1.Service{}, pods: map[string]*corev1.Pod{}}
			theirs, ours := newTheirs(), newOurs()
			for step := range 14 {
				world.step(r)
				theirs.follow(t, world)
				ours.follow(t, world)
				if d := cmp.Diff(facts(theirs.slices(t), world), facts(ours.have, world)); d != "" {
					t.Fatalf("step %d, %d pods (-kubernetes +ours):\n%s", step, len(world.pods), d)
				}
				if got, most := len(ours.have), len(theirs.slices(t)); got > most {
					t.Errorf("step %d: %d slices, Kubernetes needs %d", step, got, most)
				}
				if d := cmp.Diff(theirs.triggers, ours.triggers); d != "" {
					t.Errorf("step %d: triggers (-kubernetes +ours):\n%s", step, d)
				}
				ours.settled(t)
			}
		})
	}
}

// theirs is Kubernetes' reconciler on an API in memory.
type theirs struct {
	client   *fake.Clientset
	nodes    cache.Indexer
	topology *topologycache.TopologyCache
	times    *upstreamutil.TriggerTimeTracker
	r        *upstream.Reconciler
	triggers map[string]time.Time
	known    map[string]types.UID
}

func newTheirs() *theirs {
	o := &theirs{
		client: fake.NewClientset(), nodes: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{}),
		topology: topologycache.NewTopologyCache(), times: upstreamutil.NewTriggerTimeTracker(), known: map[string]types.UID{},
	}
	named := 0
	o.client.PrependReactor("create", "endpointslices", func(a clienttesting.Action) (bool, runtime.Object, error) {
		sl := a.(clienttesting.CreateAction).GetObject().(*discoveryv1.EndpointSlice)
		named++
		sl.Name = fmt.Sprintf("%s%d", sl.GenerateName, named)
		sl.UID = types.UID("uid-" + sl.Name)
		return false, nil, nil
	})
	o.r = upstream.NewReconciler(o.client, listers.NewNodeLister(o.nodes), maxEndpoints, upstreamutil.NewEndpointSliceTracker(), o.topology,
		discard{}, managedBy, upstream.WithPreferSameTrafficDistributionEnabled(true))
	return o
}

// discard takes events.
type discard struct{ record.EventRecorder }

func (discard) Event(runtime.Object, string, string, string) {}

func (o *theirs) slices(t *testing.T) map[string]*discoveryv1.EndpointSlice {
	list, err := o.client.DiscoveryV1().EndpointSlices("default").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*discoveryv1.EndpointSlice{}
	for i := range list.Items {
		out[list.Items[i].Name] = &list.Items[i]
	}
	return out
}

// follow does what Kubernetes' controller does for each Service, around its reconciler.
func (o *theirs) follow(t *testing.T, w randomWorld) {
	var nodes []*corev1.Node
	for _, n := range w.nodes {
		nodes = append(nodes, n)
	}
	var objects []any
	for _, n := range nodes {
		objects = append(objects, n)
	}
	if err := o.nodes.Replace(objects, ""); err != nil {
		t.Fatal(err)
	}
	o.topology.SetNodes(klog.Logger{}, nodes)
	o.triggers = map[string]time.Time{}
	for name, uid := range o.known {
		if svc := w.services[name]; svc == nil || svc.UID != uid || !selecting(svc) {
			o.times.DeleteService("default", name)
			delete(o.known, name)
		}
	}
	for name, svc := range w.services {
		if !selecting(svc) {
			continue
		}
		o.known[name] = svc.UID
		var pods []*corev1.Pod
		for _, p := range w.pods {
			if labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(p.Labels)) {
				pods = append(pods, p)
			}
		}
		var existing []*discoveryv1.EndpointSlice
		for _, sl := range o.slices(t) {
			if sl.Labels[discoveryv1.LabelServiceName] == name {
				existing = append(existing, sl)
			}
		}
		// Those that are no endpoints are not asked: they may be new, but the change is not waiting for anything.
		endpoints := slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return !upstreamutil.ShouldPodBeInEndpoints(p, true) })
		if at := o.times.ComputeEndpointLastChangeTriggerTime("default", svc, endpoints); !at.IsZero() {
			o.triggers[name] = at
		}
		if err := o.r.Reconcile(klog.Logger{}, svc, pods, existing, time.Time{}); err != nil && !strings.Contains(err.Error(), "Not Found") {
			t.Fatal(err)
		}
	}
}

func selecting(svc *corev1.Service) bool {
	return svc.Spec.Type != corev1.ServiceTypeExternalName && svc.Spec.Selector != nil
}

// ours is this package's world, without its watches, clock and API.
type ours struct {
	w        *world
	have     map[string]*discoveryv1.EndpointSlice
	seen     randomWorld
	triggers map[string]time.Time
	version  int
}

func newOurs() *ours {
	o := &ours{w: newWorld(), have: map[string]*discoveryv1.EndpointSlice{}}
	for range 4 {
		o.w.listed()
	}
	return o
}

func (o *ours) follow(t *testing.T, w randomWorld) {
	tell(o.seen.nodes, w.nodes, nodeRow, observeNodes{o.w})
	tell(o.seen.services, w.services, serviceRow, observeServices{o.w})
	tell(o.seen.pods, w.pods, podRow, observePods{o.w})
	o.seen = randomWorld{nodes: maps.Clone(w.nodes), services: maps.Clone(w.services), pods: maps.Clone(w.pods)}
	o.drain(t)
}

// drain does all the work there is.
func (o *ours) drain(t testing.TB) {
	o.triggers = map[string]time.Time{}
	for task, ok := o.w.next(); ok; task, ok = o.w.next() {
		if at := triggered(task.service, task.first, task.members); !at.IsZero() {
			o.triggers[task.service.name.Name] = at
		}
		groups, _ := desired(task.service, task.members)
		todo := pack(task.service, groups, task.stock, time.Time{})
		o.apply(t, task, todo)
		o.w.done(task, todo.topology, false)
	}
}

// tell says what a watch would.
func tell[O kube.Object, R any](before, after map[string]O, row kube.Convert[O, R], to kube.Receiver[R]) {
	for _, name := range slices.Sorted(maps.Keys(after)) {
		nn := types.NamespacedName{Namespace: after[name].GetNamespace(), Name: name}
		if r, ok := row(after[name]); ok {
			to.Put(nn, r)
		} else {
			to.Delete(nn)
		}
	}
	for name, o := range before {
		if _, ok := after[name]; !ok {
			to.Delete(types.NamespacedName{Namespace: o.GetNamespace(), Name: name})
		}
	}
}

func (o *ours) apply(t testing.TB, task task, c changes) {
	for _, sl := range c.create {
		o.version++
		sl.Name = fmt.Sprintf("%s%d", sl.GenerateName, o.version)
		sl.UID = types.UID("uid-" + sl.Name)
	}
	for _, sl := range slices.Concat(c.create, c.update) {
		o.version++
		sl.ResourceVersion = fmt.Sprint(o.version)
		o.have[sl.Name] = sl.DeepCopy()
		o.w.wrote(task.entry, sl.DeepCopy())
	}
	for _, sl := range c.remove {
		if o.have[sl.Name] == nil {
			t.Errorf("slice %s is deleted twice", sl.Name)
		}
		delete(o.have, sl.Name)
		o.w.deleted(sl)
	}
}

// settled looks at everything, though nothing has changed.
func (o *ours) settled(t testing.TB) {
	for _, n := range o.w.namespaces {
		for _, e := range n.services {
			o.w.touch(e)
		}
	}
	for task, ok := o.w.next(); ok; task, ok = o.w.next() {
		groups, _ := desired(task.service, task.members)
		if c := pack(task.service, groups, task.stock, time.Time{}); len(c.create)+len(c.update)+len(c.remove) > 0 {
			t.Errorf("a look at everything finds work left: %d creates, %d updates, %d deletes", len(c.create), len(c.update), len(c.remove))
		}
		o.w.done(task, nil, false)
	}
}

// facts is what consumers read from slices, in whatever slices it is. How endpoints are spread over slices of one kind depends on the order in which Kubernetes'
// reconciler happens to meet them, and so is not compared; nor is which endpoint of a zone is lent to another one. An empty slice counts only where its
// family has no other: Kubernetes leaves one lying beside the others when all Pods without the Service's ports are without an address.
func facts(have map[string]*discoveryv1.EndpointSlice, w randomWorld) map[string]int {
	out := map[string]int{}
	filled := map[string]bool{}
	for _, sl := range have {
		if len(sl.Endpoints) > 0 {
			filled[sl.Labels[discoveryv1.LabelServiceName]+string(sl.AddressType)] = true
		}
	}
	for _, sl := range have {
		name := sl.Labels[discoveryv1.LabelServiceName]
		if len(sl.Endpoints) == 0 && filled[name+string(sl.AddressType)] {
			continue
		}
		pairs := make([]string, 0, len(sl.Labels))
		for k, v := range sl.Labels {
			pairs = append(pairs, k+"="+v)
		}
		slices.Sort(pairs)
		kind := fmt.Sprintf("%s %s ports %q labels %v owner %s", name, sl.AddressType, strings.ReplaceAll(portsKey(sl.Ports), "\x00", "/"), pairs, sl.OwnerReferences[0].UID)
		if len(sl.Endpoints) == 0 {
			out["placeholder "+kind]++
		}
		if len(sl.Endpoints) > maxEndpoints {
			out["overfull"]++
		}
		svc := w.services[name]
		// The slices of a Service that has none of its own any more stay as they were, whatever hints it wanted then.
		byShares := svc == nil || !selecting(svc) || hintsOf(svc) == topologyHints
		for _, e := range sl.Endpoints {
			hints := "none"
			if h := e.Hints; h != nil {
				hints = fmt.Sprint(h.ForZones, h.ForNodes)
				if byShares && len(h.ForZones) == 1 && len(h.ForNodes) == 0 {
					hints = "one zone"
				}
			}
			out[fmt.Sprintf("%s %v ready %v serving %v terminating %v host %q node %q zone %q target %s/%s hints %s", kind, e.Addresses, *e.Conditions.Ready,
				*e.Conditions.Serving, *e.Conditions.Terminating, text(e.Hostname), text(e.NodeName), text(e.Zone), e.TargetRef.Name, e.TargetRef.UID, hints)]++
		}
	}
	return out
}
