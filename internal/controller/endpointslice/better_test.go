package endpointslice

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

func sized(n *corev1.Node, cpu string) *corev1.Node {
	n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return n
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

// until waits until ok says so, asking after every write.
func (m *memory) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		m.mu.Lock()
		wrote, done := m.wrote, ok()
		m.mu.Unlock()
		if done {
			return
		}
		select {
		case <-wrote:
		case <-deadline:
			t.Fatalf("never came: %s; events %q", what, m.events)
		}
	}
}

// TestTopologyOverNodes follows the hints of a Service as its Nodes change: nothing else happens.
func TestTopologyOverNodes(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["nodes"].Add(sized(aNode("n1", "z1"), "4"))
	m.sources["services"].Add(aService("web", func(s *corev1.Service) {
		s.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"}
	}))
	for i := range 8 {
		m.sources["pods"].Add(aPod(fmt.Sprint("p", i), "web", []string{fmt.Sprintf("10.1.0.%d", i+1)}, on(fmt.Sprint("n", 1+i%2))))
	}
	m.start(t)
	hints := func(want string) func() bool {
		return func() bool {
			var list []*discoveryv1.EndpointSlice
			for _, sl := range m.slices {
				list = append(list, sl)
			}
			return fmt.Sprint(hinted(list)) == want
		}
	}
	event := func(n int, want string) func() bool {
		return func() bool { return len(m.events) == n && strings.Contains(m.events[n-1], want) }
	}
	m.until(t, "one zone is too few", event(1, "Warning TopologyAwareHintsDisabled web: "))
	m.sources["nodes"].Add(sized(aNode("n2", "z2"), "4"))
	m.until(t, "two zones", hints("map[z1:4 z2:4]"))
	m.until(t, "two zones", event(2, "Normal TopologyAwareHintsEnabled web: "))
	m.sources["nodes"].Modify(sized(aNode("n2", "z2"), "12"))
	m.until(t, "one zone grows", hints("map[z1:2 z2:6]"))
	m.sources["nodes"].Modify(sized(aNode("n2", "z3"), "12"))
	m.until(t, "a zone has another name", hints("map[z1:2 z3:6]"))
	m.sources["nodes"].Modify(sized(aNode("n2", ""), "12"))
	m.until(t, "a Node without a zone", hints("map[]"))
	m.until(t, "a Node without a zone", event(3, "Warning TopologyAwareHintsDisabled web: "))
}

// TestNodeGoes takes away a Node and brings it back.
func TestNodeGoes(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["nodes"].Add(aNode("n1", "z1"))
	m.sources["nodes"].Add(aNode("n2", "z2"))
	m.sources["services"].Add(aService("web"))
	m.sources["services"].Add(aService("all", func(s *corev1.Service) {
		s.Spec.Selector, s.Spec.PublishNotReadyAddresses = map[string]string{"app": "web"}, true
	}))
	m.sources["pods"].Add(aPod("a", "web", []string{"10.1.0.1"}))
	m.sources["pods"].Add(aPod("b", "web", []string{"10.1.0.2"}, on("n2")))
	m.start(t)
	both := []string{"web IPv4 http:8080/TCP: 10.1.0.1(RS-) 10.1.0.2(RS-)", "all IPv4 http:8080/TCP: 10.1.0.1(RS-) 10.1.0.2(RS-)"}
	m.await(t, "start", slices.Clone(both)...)
	m.sources["nodes"].Delete(aNode("n2", "z2"))
	m.await(t, "gone", "web IPv4 http:8080/TCP: 10.1.0.1(RS-)", both[1])
	m.sources["nodes"].Add(aNode("n2", "z2"))
	m.await(t, "back", slices.Clone(both)...)
}

func TestServiceMadeAnew(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["nodes"].Add(aNode("n1", ""))
	m.sources["services"].Add(aService("web"))
	m.sources["pods"].Add(aPod("a", "web", []string{"10.1.0.1"}))
	m.start(t)
	m.await(t, "first", "web IPv4 http:8080/TCP: 10.1.0.1(RS-)")
	// The garbage collector has not come by yet: the old slice is still there.
	m.sources["services"].Delete(aService("web"))
	m.sources["services"].Add(aService("web", func(s *corev1.Service) { s.UID = "uid-second" }))
	m.until(t, "the second Service has its own slice alone", func() bool {
		owners := map[types.UID]int{}
		for _, sl := range m.slices {
			owners[sl.OwnerReferences[0].UID]++
		}
		return len(owners) == 1 && owners["uid-second"] == 1
	})
	if got, want := m.log(), []string{"create web-1", "create web-2", "delete web-1"}; !slices.Equal(got, want) {
		t.Errorf("writes %q, want %q: the endpoints must never be in no slice", got, want)
	}
}

// TestBadServiceHoldsUpNobody has one Service whose writes always fail.
func TestBadServiceHoldsUpNobody(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["nodes"].Add(aNode("n1", ""))
	m.refuse = func(_ string, sl *discoveryv1.EndpointSlice) error {
		if sl.GenerateName == "bad-" {
			return errors.New("refused by a webhook")
		}
		return nil
	}
	m.sources["services"].Add(aService("bad"))
	for i := range 40 {
		m.sources["services"].Add(aService(fmt.Sprint("good-", i)))
	}
	m.start(t)
	m.until(t, "all but the bad one, whose owner is told once", func() bool {
		return len(m.slices) == 40 && len(m.events) == 1 && strings.Contains(m.events[0], "refused by a webhook")
	})
}

// TestLostAnswer has the API do a write whose answer never arrives.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["nodes"].Add(aNode("n1", ""))
	m.sources["services"].Add(aService("web"))
	m.sources["pods"].Add(aPod("a", "web", []string{"10.1.0.1"}))
	var lost atomic.Bool
	m.refuse = func(verb string, sl *discoveryv1.EndpointSlice) error {
		if !lost.CompareAndSwap(false, true) {
			return nil
		}
		done := sl.DeepCopy()
		done.Name, done.UID = "web-unanswered", "uid-web-unanswered"
		m.seed(done)
		close(m.wrote)
		m.wrote = make(chan struct{})
		return errors.New("connection lost")
	}
	m.start(t)
	m.await(t, "one slice in the end", "web IPv4 http:8080/TCP: 10.1.0.1(RS-)")
}

// bigService is a world with one Service of n Pods, its slices written.
func bigService(t testing.TB, n int) *ours {
	o := newOurs()
	observeNodes{o.w}.Put(types.NamespacedName{Name: "n1"}, node{})
	row, _ := serviceRow(aService("web"))
	observeServices{o.w}.Put(row.name, row)
	for i := range n {
		o.pod(i, true)
	}
	o.drain(t)
	return o
}

func (o *ours) pod(i int, ready bool) {
	row, _ := podRow(aPod(fmt.Sprint("p", i), "web", []string{fmt.Sprintf("10.%d.%d.%d", i/62500, i/250%250, i%250+1)}))
	row.ready = ready
	observePods{o.w}.Put(row.name, row)
}

// TestChurnCostsWhatChanges counts what a Pod's change makes the controller look at, in a Service of 300 Pods and in one of 10,000.
func TestChurnCostsWhatChanges(t *testing.T) {
	t.Parallel()
	for _, n := range []int{300, 10_000} {
		o := bigService(t, n)
		for i := 0; i < n; i += n / 50 {
			o.pod(i, false)
			task, ok := o.w.next()
			if !ok {
				t.Fatal("a Pod's change starts nothing")
			}
			if len(task.members) > maxEndpoints || len(task.stock.opened) != 1 {
				t.Errorf("%d Pods: one's change looks at %d of them in %d slices, want %d in one", n, len(task.members), len(task.stock.opened), maxEndpoints)
			}
			groups, _ := desired(task.service, task.members)
			todo := pack(task.service, groups, task.stock, time.Time{})
			if len(todo.create) != 0 || len(todo.update) != 1 || len(todo.remove) != 0 {
				t.Errorf("%d Pods: one's change is %d creates, %d updates, %d deletes, want one update", n, len(todo.create), len(todo.update), len(todo.remove))
			}
			o.apply(t, task, todo)
			o.w.done(task, nil, false)
		}
		o.settled(t)
	}
}

// BenchmarkChurn is one Pod's change in a Service of so many Pods, from the watch to the write, but for the API.
func BenchmarkChurn(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n, " Pods"), func(b *testing.B) {
			o := bigService(b, n)
			b.ReportAllocs()
			ready := true
			for i := 0; b.Loop(); i++ {
				if i%n == 0 {
					ready = !ready
				}
				o.pod(i%n, ready)
				o.drain(b)
			}
		})
	}
}
