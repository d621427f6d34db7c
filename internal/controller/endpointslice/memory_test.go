package endpointslice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	fake "k8s.io/client-go/tools/cache/testing"

	"fairway.dev/fairway/internal/kube"
)

// memory is an API in memory: lists, watches, and writes of slices with the server's rules about names, versions and conflicts.
type memory struct {
	sources map[string]*fake.FakeControllerSource

	mu     sync.Mutex
	slices map[string]*discoveryv1.EndpointSlice
	writes []string      // "create web-1", ...
	events []string      // "Warning TopologyAwareHintsDisabled ...", ...
	wrote  chan struct{} // closed and replaced at each write
	named  int
	// refuse, if set, may fail a write before it is done.
	refuse func(verb string, sl *discoveryv1.EndpointSlice) error
	// stall, if set, is called during each write, with no lock held.
	stall func()
}

func newMemory() *memory {
	m := &memory{sources: map[string]*fake.FakeControllerSource{}, slices: map[string]*discoveryv1.EndpointSlice{}, wrote: make(chan struct{})}
	for _, r := range []string{"services", "pods", "nodes", "endpointslices"} {
		m.sources[r] = fake.NewFakeControllerSource()
	}
	return m
}

type unstreamed struct{ *fake.FakeControllerSource }

func (unstreamed) IsWatchListSemanticsUnSupported() bool { return true }

func (m *memory) open(r schema.GroupVersionResource, _ kube.Selection) cache.ListerWatcher {
	return unstreamed{m.sources[r.Resource]}
}

var slicesResource = discoveryv1.Resource("endpointslices")

func (m *memory) write(verb string, sl *discoveryv1.EndpointSlice, do func() (*discoveryv1.EndpointSlice, error)) (*discoveryv1.EndpointSlice, error) {
	if m.stall != nil {
		m.stall()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		if err := m.refuse(verb, sl); err != nil {
			return nil, err
		}
	}
	out, err := do()
	if err == nil {
		m.writes = append(m.writes, verb+" "+out.Name)
		close(m.wrote)
		m.wrote = make(chan struct{})
	}
	return out, err
}

func (m *memory) create(_ context.Context, in *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error) {
	return m.write("create", in, func() (*discoveryv1.EndpointSlice, error) {
		m.named++
		sl := in.DeepCopy()
		sl.Name = fmt.Sprintf("%s%d", in.GenerateName, m.named)
		sl.UID = types.UID("uid-" + sl.Name)
		m.sources["endpointslices"].Add(sl) // sets the version
		m.slices[sl.Name] = sl
		return sl.DeepCopy(), nil
	})
}

func (m *memory) update(_ context.Context, in *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error) {
	return m.write("update", in, func() (*discoveryv1.EndpointSlice, error) {
		old := m.slices[in.Name]
		if old == nil {
			return nil, apierrors.NewNotFound(slicesResource, in.Name)
		}
		if old.ResourceVersion != in.ResourceVersion {
			return nil, apierrors.NewConflict(slicesResource, in.Name, errors.New("object has been modified"))
		}
		sl := in.DeepCopy()
		m.sources["endpointslices"].Modify(sl)
		m.slices[sl.Name] = sl
		return sl.DeepCopy(), nil
	})
}

func (m *memory) delete(_ context.Context, in *discoveryv1.EndpointSlice) error {
	_, err := m.write("delete", in, func() (*discoveryv1.EndpointSlice, error) {
		old := m.slices[in.Name]
		if old == nil {
			return nil, apierrors.NewNotFound(slicesResource, in.Name)
		}
		delete(m.slices, in.Name)
		m.sources["endpointslices"].Delete(old.DeepCopy())
		return old, nil
	})
	return err
}

func (m *memory) event(_ context.Context, e *corev1.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, fmt.Sprintf("%s %s %s: %s", e.Type, e.Reason, e.InvolvedObject.Name, e.Message))
	close(m.wrote)
	m.wrote = make(chan struct{})
	return nil
}

// edit changes a slice as somebody else would; a nil result deletes it.
func (m *memory) edit(name string, f func(*discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sl := f(m.slices[name].DeepCopy())
	if sl == nil {
		m.sources["endpointslices"].Delete(m.slices[name].DeepCopy())
		delete(m.slices, name)
		return
	}
	m.sources["endpointslices"].Modify(sl)
	m.slices[name] = sl
}

// seed puts a slice in as it is, from before the controller.
func (m *memory) seed(sl *discoveryv1.EndpointSlice) {
	m.sources["endpointslices"].Add(sl)
	m.slices[sl.Name] = sl
}

// start runs a controller until the test ends.
func (m *memory) start(t testing.TB) {
	t.Helper()
	c := New(nil, Options{})
	c.open, c.api = m.open, m
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
		for _, s := range m.sources {
			s.Shutdown()
		}
	})
}

// state prints what the slices hold, one line each, in order.
func (m *memory) state() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, sl := range m.slices {
		out = append(out, line(sl))
	}
	slices.Sort(out)
	return out
}

// line is a slice without its name: "web IPv4 http:8080/TCP: 10.1.0.1(RS-) 10.1.0.2(-ST)".
func line(sl *discoveryv1.EndpointSlice) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", sl.Labels[discoveryv1.LabelServiceName], sl.AddressType)
	for _, p := range sl.Ports {
		fmt.Fprintf(&b, " %s:%d/%s", *p.Name, *p.Port, *p.Protocol)
	}
	b.WriteString(":")
	var es []string
	for _, e := range sl.Endpoints {
		c := []byte("---")
		for i, f := range []*bool{e.Conditions.Ready, e.Conditions.Serving, e.Conditions.Terminating} {
			if *f {
				c[i] = "RST"[i]
			}
		}
		es = append(es, fmt.Sprintf("%s(%s)", strings.Join(e.Addresses, ","), c))
	}
	slices.Sort(es)
	for _, e := range es {
		b.WriteString(" " + e)
	}
	return b.String()
}

// await waits until the slices are as wanted.
func (m *memory) await(t testing.TB, what string, want ...string) {
	t.Helper()
	slices.Sort(want)
	deadline := time.After(20 * time.Second)
	for {
		m.mu.Lock()
		wrote := m.wrote
		m.mu.Unlock()
		got := m.state()
		if slices.Equal(got, want) {
			return
		}
		select {
		case <-wrote:
		case <-deadline:
			t.Fatalf("%s: slices are\n  %s\nwant\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
}

func (m *memory) log() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.writes)
}

// The objects of the tests.

var epoch = time.Date(2026, 11, 25, 1, 0, 0, 0, time.UTC)

func aNode(name, zone string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if zone != "" {
		n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	return n
}

func aService(name string, edits ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), CreationTimestamp: metav1.NewTime(epoch)},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.7", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
	s.Spec.Ports[0].TargetPort.IntVal = 8080
	for _, e := range edits {
		e(s)
	}
	return s
}

// aPod is ready, on node n1, with the label app.
func aPod(name, app string, ips []string, edits ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{NodeName: "n1"},
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(epoch.Add(time.Minute))}},
		},
	}
	for _, ip := range ips {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	for _, e := range edits {
		e(p)
	}
	return p
}

func unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }

func terminating(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.NewTime(epoch)) }
