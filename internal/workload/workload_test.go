package workload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/apiserver"
)

// patience is how long a test waits for what should take a second at most.
const patience = 60 * time.Second

// api is one real API with one node that nobody serves; workload runs on it while the tests do.
var api struct {
	config *rest.Config
	client *kubernetes.Clientset
}

func TestMain(m *testing.M) {
	code, err := withAPI(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withAPI(tests func() int) (code int, err error) {
	dir, err := os.MkdirTemp("", "fairway-workload-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	server, err := apiserver.New(apiserver.Config{Dir: dir, Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, NoSync: true})
	if err != nil {
		return 1, err
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Run(ctx) }()
	defer func() {
		stop()
		err = errors.Join(err, ignoreCanceled(<-served))
	}()
	select {
	case <-server.Ready():
	case err := <-served:
		served <- nil
		return 1, fmt.Errorf("API: %w", err)
	}
	api.config = server.ClientConfig("workload-test", "system:masters")
	if api.client, err = kubernetes.NewForConfig(api.config); err != nil {
		return 1, err
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110")}
	node.Status = corev1.NodeStatus{Capacity: room, Allocatable: room, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}
	if node, err = api.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return 1, err
	}
	if _, err = api.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return 1, err
	}

	workCtx, stopWork := context.WithCancel(ctx)
	worked := make(chan error, 1)
	started := make(chan struct{})
	before = measure()
	began := time.Now()
	go func() {
		worked <- Run(workCtx, Config{API: api.config, Logger: slog.New(onStart(func() {
			startup = time.Since(began)
			close(started)
		}))})
	}()
	defer func() {
		stopWork()
		err = errors.Join(err, ignoreCanceled(<-worked))
	}()
	select {
	case <-started:
	case err := <-worked:
		worked <- nil
		return 1, fmt.Errorf("workload: %w", err)
	}
	return tests(), nil
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// newNamespace makes a namespace for one test.
func newNamespace(t *testing.T) string {
	t.Helper()
	ns, err := api.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

func newDeployment(t *testing.T, ns, name string, replicas int32, edits ...func(*corev1.PodSpec)) *appsv1.Deployment {
	t.Helper()
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.test/one"}}},
		},
	}}
	for _, e := range edits {
		e(&d.Spec.Template.Spec)
	}
	d, err := api.client.AppsV1().Deployments(ns).Create(t.Context(), d, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// awaitPods waits until the Pods of a namespace are as cond says, and gives them, ordered by name.
func awaitPods(t *testing.T, ns, what string, cond func([]corev1.Pod) bool) []corev1.Pod {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w, err := api.client.CoreV1().Pods(ns).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	pods := map[string]corev1.Pod{}
	for {
		list := []corev1.Pod{}
		for _, p := range pods {
			list = append(list, p)
		}
		slices.SortFunc(list, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
		if cond(list) {
			return list
		}
		e, ok := <-w.ResultChan()
		if !ok {
			t.Fatalf("%s: Pods of %s are still %v", what, ns, describe(list))
		}
		p, ok := e.Object.(*corev1.Pod)
		switch {
		case !ok:
			t.Fatalf("%s: watch of Pods: %v", what, e.Object)
		case e.Type == watch.Deleted:
			delete(pods, p.Name)
		default:
			pods[p.Name] = *p
		}
	}
}

func describe(pods []corev1.Pod) (out []string) {
	for _, p := range pods {
		out = append(out, fmt.Sprintf("%s@%s %s deleted %v", p.Name, p.Spec.NodeName, p.Spec.Containers[0].Image, p.DeletionTimestamp != nil))
	}
	return out
}

// placed is true when there are n Pods, none of them going, and all on a node.
func placed(n int) func([]corev1.Pod) bool {
	return func(pods []corev1.Pod) bool {
		live := 0
		for _, p := range pods {
			if p.DeletionTimestamp == nil {
				if live++; p.Spec.NodeName != "n1" {
					return false
				}
			}
		}
		return live == n
	}
}

// kubelet stands for the node: what it is asked to end it lets end, and what was placed it makes ready.
func kubelet(t *testing.T, ns string) {
	t.Helper()
	w, err := api.client.CoreV1().Pods(ns).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx := context.Background()
		for e := range w.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			switch {
			case !ok || e.Type == watch.Deleted:
			case p.DeletionTimestamp != nil:
				err := api.client.CoreV1().Pods(ns).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
				if err != nil && !apierrors.IsNotFound(err) {
					t.Errorf("pod %s: end: %v", p.Name, err)
				}
			case p.Spec.NodeName != "" && p.Status.Phase == corev1.PodPending:
				p.Status.Phase = corev1.PodRunning
				p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
				_, err := api.client.CoreV1().Pods(ns).UpdateStatus(ctx, p, metav1.UpdateOptions{})
				if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
					t.Errorf("pod %s: make ready: %v", p.Name, err)
				}
			}
		}
	}()
	t.Cleanup(func() {
		w.Stop()
		<-done
	})
}

func TestDeploymentBecomesPlacedPodsScalesAndRolls(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	kubelet(t, ns)
	d := newDeployment(t, ns, "web", 3)
	first := awaitPods(t, ns, "3 replicas", placed(3))
	if refs := first[0].OwnerReferences; len(refs) != 1 || refs[0].Kind != "ReplicaSet" {
		t.Errorf("owners of a Pod: %v", refs)
	}
	scale := func(n int32) {
		t.Helper()
		patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n)
		if _, err := api.client.AppsV1().Deployments(ns).Patch(t.Context(), d.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "scale"); err != nil {
			t.Fatal(err)
		}
	}
	scale(5)
	awaitPods(t, ns, "scaled up", placed(5))
	scale(2)
	awaitPods(t, ns, "scaled down", placed(2))

	patch := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"example.test/two"}]}}}}`)
	if _, err := api.client.AppsV1().Deployments(ns).Patch(t.Context(), d.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitPods(t, ns, "rolled", func(pods []corev1.Pod) bool {
		return placed(2)(pods) && len(pods) == 2 && pods[0].Spec.Containers[0].Image == "example.test/two" && pods[1].Spec.Containers[0].Image == "example.test/two"
	})

	if err := api.client.CoreV1().Pods(ns).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitPods(t, ns, "deleted Pods are replaced", placed(2))
}

func TestGarbageIsCollected(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	kubelet(t, ns)
	d := newDeployment(t, ns, "web", 2)
	awaitPods(t, ns, "running", placed(2))
	if err := api.client.AppsV1().Deployments(ns).Delete(t.Context(), d.Name, metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}); err != nil {
		t.Fatal(err)
	}
	awaitPods(t, ns, "gone with their Deployment", func(p []corev1.Pod) bool { return len(p) == 0 })
	poll(t, "ReplicaSets gone", func() bool {
		list, err := api.client.AppsV1().ReplicaSets(ns).List(t.Context(), metav1.ListOptions{})
		return err == nil && len(list.Items) == 0
	})
}

func TestNamespaceIsEmptied(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	kubelet(t, ns)
	// Who slept through half of the grace period, as upstream does, would come too late for this test.
	newDeployment(t, ns, "web", 2, func(s *corev1.PodSpec) { s.TerminationGracePeriodSeconds = new(int64(10 * patience.Seconds())) })
	if _, err := api.client.CoreV1().ConfigMaps(ns).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitPods(t, ns, "running", placed(2))
	if err := api.client.CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	poll(t, "namespace gone", func() bool {
		_, err := api.client.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

// poll asks until the answer is yes.
func poll(t *testing.T, what string, yes func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(what + ": not in time")
		}
	}
}

func TestSchedulerSaysWhyAPodFitsNowhere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, reason string
		edit         func(*corev1.PodSpec)
	}{
		{"big", "Insufficient memory", func(s *corev1.PodSpec) {
			s.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("9Gi")}
		}},
		{"elsewhere", "didn't match Pod's node affinity/selector", func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"no": "where"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ns := newNamespace(t)
			newDeployment(t, ns, c.name, 1, c.edit)
			awaitPods(t, ns, "told", func(pods []corev1.Pod) bool {
				return slices.ContainsFunc(pods, func(p corev1.Pod) bool {
					return p.Spec.NodeName == "" && slices.ContainsFunc(p.Status.Conditions, func(o corev1.PodCondition) bool {
						return o.Type == corev1.PodScheduled && o.Status == corev1.ConditionFalse && strings.Contains(o.Message, c.reason)
					})
				})
			})
		})
	}
}
