package endpointslice

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestFollowsPods(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["nodes"].Add(aNode("n1", "z1"))
	m.sources["services"].Add(aService("web"))
	m.sources["pods"].Add(aPod("web-a", "web", []string{"10.1.0.1"}))
	m.start(t)
	m.await(t, "start", "web IPv4 http:8080/TCP: 10.1.0.1(RS-)")

	m.sources["pods"].Add(aPod("web-b", "web", []string{"10.1.0.2"}, unready))
	m.await(t, "not ready yet", "web IPv4 http:8080/TCP: 10.1.0.1(RS-) 10.1.0.2(---)")
	m.sources["pods"].Modify(aPod("web-b", "web", []string{"10.1.0.2"}))
	m.await(t, "ready", "web IPv4 http:8080/TCP: 10.1.0.1(RS-) 10.1.0.2(RS-)")
	m.sources["pods"].Modify(aPod("web-a", "web", []string{"10.1.0.1"}, terminating))
	m.await(t, "terminating", "web IPv4 http:8080/TCP: 10.1.0.1(-ST) 10.1.0.2(RS-)")
	m.sources["pods"].Delete(aPod("web-a", "web", nil))
	m.await(t, "gone", "web IPv4 http:8080/TCP: 10.1.0.2(RS-)")
	m.sources["pods"].Modify(aPod("web-b", "other", []string{"10.1.0.2"}))
	m.await(t, "label changed", "web IPv4:")
	m.sources["pods"].Modify(aPod("web-b", "web", []string{"10.1.0.2"}, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }))
	m.sources["pods"].Add(aPod("web-c", "web", []string{"10.1.0.2"})) // the failed Pod's address is in use again
	m.await(t, "failed", "web IPv4 http:8080/TCP: 10.1.0.2(RS-)")
}

func TestFollowsServices(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["nodes"].Add(aNode("n1", ""))
	m.sources["pods"].Add(aPod("a", "web", []string{"10.1.0.1", "fd01::1"}))
	m.sources["pods"].Add(aPod("b", "db", []string{"10.1.0.2", "fd01::2"}))
	m.start(t)
	dual := func(s *corev1.Service) {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	}
	m.sources["services"].Add(aService("web", dual))
	m.await(t, "dual stack", "web IPv4 http:8080/TCP: 10.1.0.1(RS-)", "web IPv6 http:8080/TCP: fd01::1(RS-)")
	m.sources["services"].Modify(aService("web"))
	m.await(t, "one family less", "web IPv4 http:8080/TCP: 10.1.0.1(RS-)")
	m.sources["services"].Modify(aService("web", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "db"} }))
	m.await(t, "selector", "web IPv4 http:8080/TCP: 10.1.0.2(RS-)")
	m.sources["services"].Modify(aService("web", func(s *corev1.Service) { s.Spec.Selector = map[string]string{} }))
	m.await(t, "empty selector", "web IPv4 http:8080/TCP: 10.1.0.1(RS-) 10.1.0.2(RS-)")
	m.sources["services"].Modify(aService("web", func(s *corev1.Service) { s.Spec.Ports[0].TargetPort.IntVal = 9090 }))
	m.await(t, "port", "web IPv4 http:9090/TCP: 10.1.0.1(RS-)")

	// Without a selector the slices are the user's; what becomes of the Service must not touch them.
	m.sources["services"].Modify(aService("web", func(s *corev1.Service) { s.Spec.Selector = nil }))
	m.sources["services"].Add(aService("db"))
	m.await(t, "selector taken away", "web IPv4 http:9090/TCP: 10.1.0.1(RS-)", "db IPv4 http:8080/TCP: 10.1.0.2(RS-)")
}

func TestWaitsForTheNode(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["services"].Add(aService("web"))
	m.sources["pods"].Add(aPod("a", "web", []string{"10.1.0.1"}))
	m.start(t)
	m.await(t, "no node", "web IPv4:")
	m.sources["nodes"].Add(aNode("n1", ""))
	m.await(t, "node", "web IPv4 http:8080/TCP: 10.1.0.1(RS-)")

	zone := func() string {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, sl := range m.slices {
			return text(sl.Endpoints[0].Zone)
		}
		return ""
	}
	before := len(m.log())
	m.sources["nodes"].Modify(aNode("n1", "z1"))
	awaitWrites(t, m, before+1)
	if got := zone(); got != "z1" {
		t.Errorf("zone %q after the Node got its label, want z1", got)
	}
}

// awaitWrites waits until there have been n writes in all.
func awaitWrites(t *testing.T, m *memory, n int) {
	t.Helper()
	for {
		m.mu.Lock()
		wrote, have := m.wrote, len(m.writes)
		m.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-wrote:
		case <-t.Context().Done():
			t.Fatal("test ended")
		}
	}
}

func TestOneChangeIsOneWrite(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["nodes"].Add(aNode("n1", ""))
	m.sources["services"].Add(aService("web"))
	m.start(t)
	m.await(t, "placeholder", "web IPv4:")
	for i := range 5 {
		m.sources["pods"].Add(aPod(fmt.Sprintf("p%d", i), "web", []string{fmt.Sprintf("10.1.0.%d", i+1)}))
		awaitWrites(t, m, i+2)
		// What happens to a Pod otherwise is no reason to write.
		m.sources["pods"].Modify(aPod(fmt.Sprintf("p%d", i), "web", []string{fmt.Sprintf("10.1.0.%d", i+1)}, func(p *corev1.Pod) {
			p.Labels["more"] = "labels"
			p.Status.Message = "other status"
		}))
	}
	// The last word of each watch has been heard once a second Service has been served.
	m.sources["services"].Add(aService("last", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "none"} }))
	m.await(t, "end", "web IPv4 http:8080/TCP: 10.1.0.1(RS-) 10.1.0.2(RS-) 10.1.0.3(RS-) 10.1.0.4(RS-) 10.1.0.5(RS-)", "last IPv4:")
	want := []string{"create web-1", "update web-1", "update web-1", "update web-1", "update web-1", "update web-1", "create last-2"}
	if got := m.log(); !slices.Equal(got, want) {
		t.Errorf("writes:\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestMergesWhatArrivesDuringAWrite(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["nodes"].Add(aNode("n1", ""))
	m.sources["services"].Add(aService("web"))
	m.sources["services"].Add(aService("free"))
	entered, leave := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	m.stall = func() {
		if once.CompareAndSwap(false, true) {
			close(entered)
			<-leave
		}
	}
	m.start(t)
	<-entered // one Service's first write hangs; the other one's goes on
	m.mu.Lock()
	wrote := m.wrote
	idle := len(m.writes) == 0
	m.mu.Unlock()
	if idle {
		<-wrote
	}
	for _, app := range []string{"web", "free"} {
		for i := range 50 {
			m.sources["pods"].Add(aPod(fmt.Sprintf("%s-%d", app, i), app, []string{fmt.Sprintf("10.1.0.%d", i+1)}))
		}
	}
	close(leave)
	line := " IPv4 http:8080/TCP:"
	ips := []string{}
	for i := range 50 {
		ips = append(ips, fmt.Sprintf(" 10.1.0.%d(RS-)", i+1))
	}
	slices.Sort(ips)
	line += strings.Join(ips, "")
	m.await(t, "all", "web"+line, "free"+line)
}

func TestTakesOverAfterRestart(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["nodes"].Add(aNode("n1", ""))
	svc := aService("web")
	row, _ := serviceRow(svc)
	m.sources["services"].Add(svc)
	m.sources["pods"].Add(aPod("a", "web", []string{"10.1.0.1"}))
	m.sources["pods"].Add(aPod("b", "web", []string{"10.1.0.2"}))
	p, _ := podRow(aPod("a", "web", []string{"10.1.0.1"}))
	groups, _ := desired(row, []member{{pod: p, nodeKnown: true}})
	old := pack(row, groups, stock{}, epoch).create[0]
	old.Name, old.UID = "web-old", "uid-old"
	m.seed(old)
	stranger := old.DeepCopy() // of an earlier Service of that name
	stranger.Name, stranger.UID, stranger.OwnerReferences[0].UID = "web-stranger", "uid-stranger", "uid-earlier"
	m.seed(stranger)
	m.start(t)
	m.await(t, "taken over", "web IPv4 http:8080/TCP: 10.1.0.1(RS-) 10.1.0.2(RS-)")
	if got, want := m.log(), []string{"update web-old", "delete web-stranger"}; !slices.Equal(got, want) {
		t.Errorf("writes %q, want %q", got, want)
	}
}

func TestRepairsForeignEdits(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["nodes"].Add(aNode("n1", ""))
	m.sources["services"].Add(aService("web"))
	m.sources["pods"].Add(aPod("a", "web", []string{"10.1.0.1"}))
	m.start(t)
	const want = "web IPv4 http:8080/TCP: 10.1.0.1(RS-)"
	m.await(t, "start", want)
	m.edit("web-1", func(sl *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice { sl.Endpoints = nil; return sl })
	awaitWrites(t, m, 2)
	m.await(t, "emptied", want)
	m.edit("web-1", func(*discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice { return nil })
	awaitWrites(t, m, 3)
	m.await(t, "deleted", want)
	m.edit("web-2", func(sl *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		sl.DeletionTimestamp, sl.Finalizers = new(metav1.Now()), []string{"example.test/held"}
		return sl
	})
	awaitWrites(t, m, 4)
	m.await(t, "held by a finalizer", want, want)
}

func TestRetries(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["nodes"].Add(aNode("n1", ""))
	m.sources["services"].Add(aService("web"))
	m.sources["pods"].Add(aPod("a", "web", []string{"10.1.0.1"}))
	left := 4
	m.refuse = func(verb string, sl *discoveryv1.EndpointSlice) error {
		if left--; left >= 0 {
			return errors.New("the API is away")
		}
		return nil
	}
	m.start(t)
	m.await(t, "in the end", "web IPv4 http:8080/TCP: 10.1.0.1(RS-)")
}

func TestNamespaceThatEndsIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.sources["nodes"].Add(aNode("n1", ""))
		m.sources["services"].Add(aService("web"))
		var tries atomic.Int32
		m.refuse = func(_ string, sl *discoveryv1.EndpointSlice) error {
			if sl.GenerateName != "web-" {
				return nil
			}
			tries.Add(1)
			err := apierrors.NewForbidden(slicesResource, "", errors.New("namespace is being terminated"))
			err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
			return err
		}
		m.start(t)
		time.Sleep(time.Hour) // of the bubble's time: a retry would come within ten seconds
		if n := tries.Load(); n != 1 {
			t.Errorf("%d attempts in an hour, want 1", n)
		}
	})
}

func TestDeletedServiceGetsNoSlices(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.sources["nodes"].Add(aNode("n1", ""))
	m.sources["pods"].Add(aPod("a", "web", []string{"10.1.0.1"}))
	m.sources["services"].Add(aService("web", func(s *corev1.Service) { s.DeletionTimestamp = new(metav1.Now()) }))
	m.sources["services"].Add(aService("last"))
	m.start(t)
	m.await(t, "only the other one", "last IPv4:")
}

// BenchmarkPodChange is one Pod's change until the write of its slice has returned, 2,000 Services of 10 Pods present.
func BenchmarkPodChange(b *testing.B) {
	m := newMemory()
	m.sources["nodes"].Add(aNode("n1", ""))
	for s := range 2000 {
		name := fmt.Sprintf("s%d", s)
		m.sources["services"].Add(aService(name))
		for p := range 10 {
			m.sources["pods"].Add(aPod(fmt.Sprintf("%s-%d", name, p), name, []string{fmt.Sprintf("10.%d.%d.%d", s/250, s%250, p+1)}))
		}
	}
	m.start(b)
	for {
		m.mu.Lock()
		wrote, n := m.wrote, len(m.writes)
		m.mu.Unlock()
		if n >= 2000 {
			break
		}
		<-wrote
	}
	for i := 0; b.Loop(); i++ {
		m.mu.Lock()
		wrote := m.wrote
		m.mu.Unlock()
		edits := []func(*corev1.Pod){}
		if i%2 == 0 {
			edits = append(edits, unready)
		}
		m.sources["pods"].Modify(aPod("s17-3", "s17", []string{"10.0.17.4"}, edits...))
		<-wrote
	}
}
