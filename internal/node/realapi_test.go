package node_test

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	"fairway.dev/fairway/internal/apiserver"
	"fairway.dev/fairway/internal/node/shim"
)

// real is a machine whose node works on Fairway's own API server.
type real struct {
	*machine
	config *rest.Config
	client kubernetes.Interface
}

func newReal(t *testing.T) *real {
	t.Helper()
	m := newMachine(t)
	m.halt()
	server, err := apiserver.New(apiserver.Config{
		Dir: filepath.Join(t.TempDir(), "api"), Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		ServiceCIDRs: m.config.ServiceCIDRs, NoSync: true, Advertise: netip.MustParseAddrPort("192.0.2.1:6443"),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		m.halt()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the API ended with %v", err)
		}
	})
	select {
	case <-server.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	r := &real{machine: m, config: server.ClientConfig("test", "system:masters")}
	if r.client, err = kubernetes.NewForConfig(r.config); err != nil {
		t.Fatal(err)
	}
	m.config.Client = r.client
	m.config.NodeIPs = []netip.Addr{m.config.PodCIDRs[0].Addr().Next()}
	m.config.KubeletListen = netip.AddrPortFrom(m.config.NodeIPs[0], 10250)
	if m.config.KubeletTLS, err = server.KubeletServing(m.config.NodeIPs...); err != nil {
		t.Fatal(err)
	}
	m.start()
	return r
}

// web makes a Pod that serves and is bound to the node.
func (r *real) web(name string) {
	r.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeName: r.machine.config.Name,
			Containers: []corev1.Container{{
				Name: "main", Image: "app:v1", Args: []string{"serve=:8080"},
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			}},
		},
	}
	withReadiness(pod)
	if _, err := r.client.CoreV1().Pods("default").Create(r.Context(), pod, metav1.CreateOptions{}); err != nil {
		r.Fatal(err)
	}
}

// next reads a watch until the Pod is as wanted, and returns it.
func (r *real) next(w watch.Interface, what string, wanted func(watch.EventType, *corev1.Pod) bool) *corev1.Pod {
	r.Helper()
	late := time.After(patience)
	for {
		select {
		case event, more := <-w.ResultChan():
			if !more {
				r.Fatalf("the watch ended before: %s", what)
			}
			if pod, ok := event.Object.(*corev1.Pod); ok && wanted(event.Type, pod) {
				return pod
			}
		case <-late:
			r.Fatalf("not in %s: %s", patience, what)
		}
	}
}

func TestOnTheRealAPI(t *testing.T) {
	t.Parallel()
	r := newReal(t)
	pods := r.client.CoreV1().Pods("default")
	w, err := pods.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()

	r.web("warm")
	r.next(w, "the first Pod is ready", func(_ watch.EventType, p *corev1.Pod) bool { return ready(p) })
	begun := time.Now()
	r.web("web")
	pod := r.next(w, "web is ready", func(_ watch.EventType, p *corev1.Pod) bool { return p.Name == "web" && ready(p) })
	t.Logf("Pod created → ready at a client: %s", time.Since(begun))
	if pod.Status.QOSClass != corev1.PodQOSBestEffort || pod.Status.PodIP == "" {
		t.Errorf("status %+v", pod.Status)
	}

	r.logsAndExec()

	// A process that dies: unready is known before the restart is through.
	started, err := shim.ReadStarted(filepath.Join(r.machine.config.RunDir, "pods", string(pod.UID), "containers", "main", "0"))
	if err != nil {
		t.Fatal(err)
	}
	begun = time.Now()
	if err := syscall.Kill(started.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.next(w, "web is unready", func(_ watch.EventType, p *corev1.Pod) bool { return p.Name == "web" && !ready(p) })
	t.Logf("process killed → unready at a client: %s", time.Since(begun))
	r.next(w, "web is ready again", func(_ watch.EventType, p *corev1.Pod) bool {
		return p.Name == "web" && ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1
	})
	t.Logf("process killed → ready again at a client: %s", time.Since(begun))

	begun = time.Now()
	if err := pods.Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.next(w, "web is gone", func(kind watch.EventType, p *corev1.Pod) bool { return p.Name == "web" && kind == watch.Deleted })
	t.Logf("Pod deleted → gone at a client: %s", time.Since(begun))

	// A node that was away: what is forced out of the API goes here too.
	r.halt()
	if err := pods.Delete(t.Context(), "warm", *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
	r.start()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		left, err := filepath.Glob(filepath.Join(r.machine.config.RunDir, "pods", "*"))
		if err != nil || len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still here: %v", left)
		}
	}
	r.registered()
}

// logsAndExec goes through the API server's Pod sub-resources, as kubectl does.
func (r *real) logsAndExec() {
	r.Helper()
	stream, err := r.client.CoreV1().Pods("default").GetLogs("web", &corev1.PodLogOptions{}).Stream(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	text, err := io.ReadAll(stream)
	stream.Close()
	if err != nil || string(text) != "serving\n" {
		r.Errorf("log %q, %v", text, err)
	}
	request := r.client.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("web").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: []string{"/app", "cat=/etc/resolv.conf"}, Stdout: true}, scheme.ParameterCodec)
	for name, build := range map[string]func() (remotecommand.Executor, error){
		"SPDY": func() (remotecommand.Executor, error) {
			return remotecommand.NewSPDYExecutor(r.config, "POST", request.URL())
		},
		"WebSocket": func() (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(r.config, "GET", request.URL().String())
		},
	} {
		executor, err := build()
		if err != nil {
			r.Fatal(err)
		}
		var out bytes.Buffer
		if err := executor.StreamWithContext(r.Context(), remotecommand.StreamOptions{Stdout: &out}); err != nil {
			r.Errorf("exec over %s: %v", name, err)
		}
		if want := "search default.svc.cluster.local svc.cluster.local cluster.local"; !strings.Contains(out.String(), want) {
			r.Errorf("resolv.conf over %s is %q, want %q in it", name, out.String(), want)
		}
	}
}

// registered checks what the API says about the node itself.
func (r *real) registered() {
	r.Helper()
	node, err := r.client.CoreV1().Nodes().Get(r.Context(), r.machine.config.Name, metav1.GetOptions{})
	if err != nil {
		r.Fatal(err)
	}
	isReady := slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	if !isReady || len(node.Spec.PodCIDRs) != 2 || node.Status.Capacity.Cpu().IsZero() || node.Labels[corev1.LabelHostname] != node.Name {
		r.Errorf("the node is %+v", node)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		_, err := r.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(r.Context(), node.Name, metav1.GetOptions{})
		if err == nil {
			break
		}
		if !apierrors.IsNotFound(err) || time.Now().After(deadline) {
			r.Fatalf("the node's lease: %v", err)
		}
	}
}
