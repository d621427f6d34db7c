package endpointslice_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	upstream "k8s.io/kubernetes/pkg/controller/endpointslice"

	"fairway.dev/fairway/internal/apiserver"
	"fairway.dev/fairway/internal/controller/endpointslice"
)

// TestHandsOver lets Kubernetes' own controller and this one take turns on one API. The one that comes on finds nothing to write, and goes on in the
// slices that the other one left; no slice is ever deleted, and no endpoint is away for a moment.
func TestHandsOver(t *testing.T) {
	t.Parallel()
	server, stop := serve(t, apiserver.Config{
		Dir: t.TempDir(), Listen: []netip.AddrPort{anyPort}, NoSync: true,
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/108")},
	})
	t.Cleanup(stop)
	client, err := kubernetes.NewForConfig(server.ClientConfig("test", "system:masters"))
	if err != nil {
		t.Fatal(err)
	}
	w := world{client: client}
	for i, zone := range []string{"z1", "z2"} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i+1), Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
		n, err := client.CoreV1().Nodes().Create(t.Context(), n, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		if _, err := client.CoreV1().Nodes().UpdateStatus(t.Context(), n, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	seen := watchSlices(t, client)
	names := []string{"plain", "headless", "near", "spread", "empty"}
	for _, name := range names {
		w.service(t, name, func(s *corev1.Service) {
			switch name {
			case "headless":
				s.Spec.ClusterIP = corev1.ClusterIPNone
			case "near":
				s.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferSameNode)
			case "spread":
				s.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"}
			}
		})
	}
	for i := range 16 {
		w.pod(t, fmt.Sprint("p", i), names[i%4], i+1, func(p *corev1.Pod) {
			p.Spec.NodeName = fmt.Sprint("n", 1+i/4%2)
			if p.Labels["app"] == "headless" {
				p.Spec.Hostname, p.Spec.Subdomain = p.Name, "headless"
			}
		})
	}

	ours := func(ctx context.Context) error {
		return endpointslice.New(server.ClientConfig("ours", "system:masters"), endpointslice.Options{}).Run(ctx)
	}
	theirs := func(ctx context.Context) error {
		f := informers.NewSharedInformerFactory(client, 0)
		c := upstream.NewController(ctx, f.Core().V1().Pods(), f.Core().V1().Services(), f.Core().V1().Nodes(), f.Discovery().V1().EndpointSlices(), 100, client, 0)
		f.StartWithContext(ctx)
		c.Run(ctx, 5)
		f.Shutdown()
		return nil
	}
	pods := 16
	for turn, controller := range []func(context.Context) error{theirs, ours, theirs, ours} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		before := seen.writes()
		go func() { defer close(done); _ = controller(ctx) }()
		// A Service that is new tells that the one in charge has been through those that it found.
		w.service(t, fmt.Sprint("turn-", turn))
		seen.await(t, fmt.Sprintf("turn %d: the new Service's slices", turn), func() bool { return seen.count(fmt.Sprint("turn-", turn)) == 2 })
		if turn == 0 {
			seen.await(t, "the first turn's slices", func() bool {
				return seen.endpoints(names...) == 2*pods && seen.count("empty") == 2 && seen.hints("spread") == 8 && seen.hints("near") == 8
			})
		} else {
			after := seen.writes()
			maps.DeleteFunc(after, func(slice string, _ int) bool { return strings.HasPrefix(slice, "turn-") })
			maps.DeleteFunc(before, func(slice string, _ int) bool { return strings.HasPrefix(slice, "turn-") })
			if !maps.Equal(before, after) {
				t.Errorf("turn %d: slices were written on taking over: %v, before %v", turn, after, before)
			}
		}
		seen.hold()
		for i := range 4 {
			w.pod(t, fmt.Sprint("p", pods), names[i], pods+1)
			pods++
		}
		seen.await(t, fmt.Sprintf("turn %d: four more Pods", turn), func() bool { return seen.endpoints(names...) == 2*pods })
		cancel()
		<-done
	}
	for _, problem := range seen.problems() {
		t.Error(problem)
	}
}

// sliceLog is what one watch of all EndpointSlices has seen.
type sliceLog struct {
	mu     sync.Mutex
	moved  chan struct{} // closed and replaced at each event
	slices map[string]*discoveryv1.EndpointSlice
	times  map[string]int // events by slice
	held   map[string]struct{}
	wrong  []string
}

func watchSlices(t *testing.T, client kubernetes.Interface) *sliceLog {
	l := &sliceLog{moved: make(chan struct{}), slices: map[string]*discoveryv1.EndpointSlice{}, times: map[string]int{}, held: map[string]struct{}{}}
	w, err := client.DiscoveryV1().EndpointSlices("default").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for e := range w.ResultChan() {
			if sl, ok := e.Object.(*discoveryv1.EndpointSlice); ok && sl.Labels[discoveryv1.LabelServiceName] != "kubernetes" {
				l.note(e.Type, sl)
			}
		}
	})
	t.Cleanup(func() { w.Stop(); done.Wait() })
	return l
}

func (l *sliceLog) note(kind watch.EventType, sl *discoveryv1.EndpointSlice) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times[sl.Name]++
	l.slices[sl.Name] = sl
	if kind == watch.Deleted {
		delete(l.slices, sl.Name)
		l.wrong = append(l.wrong, fmt.Sprintf("slice %s was deleted", sl.Name))
	}
	here := l.addresses()
	for a := range l.held {
		if _, ok := here[a]; !ok {
			l.wrong = append(l.wrong, fmt.Sprintf("endpoint %s was away after %s of slice %s", a, kind, sl.Name))
		}
	}
	close(l.moved)
	l.moved = make(chan struct{})
}

func (l *sliceLog) addresses() map[string]struct{} {
	out := map[string]struct{}{}
	for _, sl := range l.slices {
		for _, e := range sl.Endpoints {
			if *e.Conditions.Ready {
				out[sl.Labels[discoveryv1.LabelServiceName]+" "+e.Addresses[0]] = struct{}{}
			}
		}
	}
	return out
}

// hold says that the ready endpoints of now are to stay.
func (l *sliceLog) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = l.addresses()
}

func (l *sliceLog) writes() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.times)
}

func (l *sliceLog) problems() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.wrong)
}

// count, endpoints and hints are for await.
func (l *sliceLog) count(service string) (n int) {
	for _, sl := range l.slices {
		if sl.Labels[discoveryv1.LabelServiceName] == service {
			n++
		}
	}
	return n
}

func (l *sliceLog) endpoints(services ...string) (n int) {
	for _, sl := range l.slices {
		if slices.Contains(services, sl.Labels[discoveryv1.LabelServiceName]) {
			n += len(sl.Endpoints)
		}
	}
	return n
}

func (l *sliceLog) hints(service string) (n int) {
	for _, sl := range l.slices {
		for _, e := range sl.Endpoints {
			if sl.Labels[discoveryv1.LabelServiceName] == service && e.Hints != nil {
				n++
			}
		}
	}
	return n
}

func (l *sliceLog) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		l.mu.Lock()
		moved, done := l.moved, ok()
		l.mu.Unlock()
		if done {
			return
		}
		select {
		case <-moved:
		case <-deadline:
			t.Fatalf("never came: %s", what)
		}
	}
}
