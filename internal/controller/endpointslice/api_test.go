package endpointslice_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"fairway.dev/fairway/internal/apiserver"
	"fairway.dev/fairway/internal/controller/endpointslice"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/source"
	"fairway.dev/fairway/internal/store"
)

// world is a real API with this controller, and a store that a source fills from it.
type world struct {
	client *kubernetes.Clientset
	store  *store.Store
}

func newWorld(t testing.TB) world {
	t.Helper()
	server, stop := serve(t, apiserver.Config{
		Dir: t.TempDir(), Listen: []netip.AddrPort{anyPort}, NoSync: true,
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/108")},
	})
	t.Cleanup(stop)
	config := func(name string) *rest.Config { return server.ClientConfig(name, "system:masters") }
	w := world{store: store.New()}
	var err error
	if w.client, err = kubernetes.NewForConfig(config("test")); err != nil {
		t.Fatal(err)
	}
	src, err := source.New(config("source"), w.store, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "source", src.Run)
	run(t, "controller", endpointslice.New(config("controller"), endpointslice.Options{}).Run)
	if _, err := w.client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return w
}

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

// serve starts an API and waits until it is ready.
func serve(t testing.TB, c apiserver.Config) (server *apiserver.Server, stop func()) {
	t.Helper()
	server, err := apiserver.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	select {
	case <-server.Ready():
	case err := <-done:
		cancel()
		t.Fatalf("API: %v", err)
	}
	return server, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("API: %v", err)
		}
	})
}

// run runs a part until the test ends; the parts end in the reverse order.
func run(t testing.TB, name string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	})
}

func (w world) service(t testing.TB, name string, edits ...func(*corev1.Service)) {
	t.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": name}, IPFamilyPolicy: new(corev1.IPFamilyPolicyPreferDualStack),
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
	}}
	for _, edit := range edits {
		edit(s)
	}
	if _, err := w.client.CoreV1().Services("default").Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// pod makes a Pod and gives it addresses and readiness, as a node would.
func (w world) pod(t testing.TB, name, app string, number int, edits ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": app}}, Spec: corev1.PodSpec{
		NodeName:   "n1",
		Containers: []corev1.Container{{Name: "c", Image: "example.test/c", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}},
	}}
	for _, edit := range edits {
		edit(p)
	}
	p, err := w.client.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Status.Phase = corev1.PodRunning
	p.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprintf("10.244.0.%d", number)}, {IP: fmt.Sprintf("fd00:244::%x", number)}}
	p.Status.PodIP = p.Status.PodIPs[0].IP
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
	return w.status(t, p)
}

func (w world) status(t testing.TB, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	p, err := w.client.CoreV1().Pods("default").UpdateStatus(t.Context(), p, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// endpoints are the endpoints of a Service in a snapshot, as their rows print, in order.
func endpoints(s *store.Snapshot, service string) (out []string) {
	for sl := range s.Slices(model.Name{Namespace: "default", Name: service}) {
		for _, e := range sl.Endpoints {
			out = append(out, e.String())
		}
	}
	slices.Sort(out)
	return out
}

func await(t testing.TB, c *store.Cursor, service string, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		snap, _, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("service %s: endpoints never were %v: %v", service, want, err)
		}
		if slices.Equal(endpoints(snap, service), want) {
			return
		}
	}
}

func TestFromPodToStoreOnARealAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.store.Follow("test")
	defer c.Close()
	w.service(t, "web")
	w.pod(t, "a", "web", 1)
	await(t, c, "web", "10.244.0.1(ready,serving)", "fd00:244::1(ready,serving)")
	b := w.pod(t, "b", "web", 2)
	await(t, c, "web", "10.244.0.1(ready,serving)", "10.244.0.2(ready,serving)", "fd00:244::1(ready,serving)", "fd00:244::2(ready,serving)")
	b.Status.Conditions[0].Status = corev1.ConditionFalse
	w.status(t, b)
	await(t, c, "web", "10.244.0.1(ready,serving)", "10.244.0.2()", "fd00:244::1(ready,serving)", "fd00:244::2()")
	if err := w.client.CoreV1().Pods("default").Delete(t.Context(), "b", metav1.DeleteOptions{GracePeriodSeconds: new(int64(30))}); err != nil {
		t.Fatal(err)
	}
	await(t, c, "web", "10.244.0.1(ready,serving)", "10.244.0.2(terminating)", "fd00:244::1(ready,serving)", "fd00:244::2(terminating)")

	// Two families, two slices, and each one written once for each of the changes: what the controller wrote itself made it write nothing.
	list, err := w.client.DiscoveryV1().EndpointSlices("default").List(t.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"})
	if err != nil {
		t.Fatal(err)
	}
	for _, sl := range list.Items {
		if len(sl.Endpoints) != 2 || sl.Generation > 5 {
			t.Errorf("slice %s: %d endpoints at generation %d, want 2 at no more than 5", sl.Name, len(sl.Endpoints), sl.Generation)
		}
	}
	if len(list.Items) != 2 {
		t.Errorf("%d slices, want 2", len(list.Items))
	}
}

// TestGoesOnAfterTheAPIWasAway stops the API and starts it again, on the same data and address. The source and the controller know nothing of it but what
// their watches tell them.
func TestGoesOnAfterTheAPIWasAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := apiserver.Config{Dir: dir, Listen: []netip.AddrPort{anyPort}, NoSync: true}
	server, stop := serve(t, c)
	c.Listen = server.Addresses()
	defer func() { stop() }()
	kubeconfig := filepath.Join(dir, "kubeconfig") // whose certificate is good at the next server, too
	if err := server.WriteKubeconfig(kubeconfig, -1, -1); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	w := world{store: store.New()}
	if w.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	src, err := source.New(config, w.store, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "source", src.Run)
	run(t, "controller", endpointslice.New(config, endpointslice.Options{}).Run)
	cursor := w.store.Follow("test")
	defer cursor.Close()
	if _, err := w.client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.service(t, "web")
	w.pod(t, "a", "web", 1)
	await(t, cursor, "web", "10.244.0.1(ready,serving)")

	stop()
	if got := endpoints(w.store.Snapshot(), "web"); len(got) != 1 {
		t.Errorf("endpoints while the API is away: %v, want those from before", got)
	}
	_, stop = serve(t, c)
	w.pod(t, "b", "web", 2)
	await(t, cursor, "web", "10.244.0.1(ready,serving)", "10.244.0.2(ready,serving)")
}

// BenchmarkFromPodToStore is the time from when the write of a Pod's status returns until the endpoint's change is in the store: API, watch,
// controller, API, watch, source. With 500 other Services there.
func BenchmarkFromPodToStore(b *testing.B) {
	w := newWorld(b)
	for i := range 500 {
		w.service(b, fmt.Sprintf("other-%d", i))
	}
	w.service(b, "web")
	p := w.pod(b, "a", "web", 1)
	c := w.store.Follow("bench")
	defer c.Close()
	await(b, c, "web", "10.244.0.1(ready,serving)", "fd00:244::1(ready,serving)")
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		want := []string{"10.244.0.1()", "fd00:244::1()"}
		p.Status.Conditions[0].Status = corev1.ConditionFalse
		if i%2 == 1 {
			want = []string{"10.244.0.1(ready,serving)", "fd00:244::1(ready,serving)"}
			p.Status.Conditions[0].Status = corev1.ConditionTrue
		}
		p = w.status(b, p)
		returned := time.Now()
		await(b, c, "web", want...)
		took = append(took, time.Since(returned))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs/p99")
}
