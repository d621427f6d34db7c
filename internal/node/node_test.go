package node_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"

	"fairway.dev/fairway/internal/node"
	"fairway.dev/fairway/internal/node/image"
	"fairway.dev/fairway/internal/node/network"
	"fairway.dev/fairway/internal/node/nodetest"
)

func TestMain(m *testing.M) { nodetest.Main(m) }

// patience is how long a test waits for what should happen at once; a slow machine needs it, a good one never does.
const patience = 30 * time.Second

var instances atomic.Int32

// machine is a node with a network of its own, on a client set in memory.
type machine struct {
	*testing.T
	config node.Config
	client *fake.Clientset
	stop   func()
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	nodetest.Need(t)
	i := instances.Add(1)
	dir := t.TempDir()
	store, err := image.Open(filepath.Join(dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Build("app:v1", image.BuildOptions{Binary: nodetest.App(t)}); err != nil {
		t.Fatal(err)
	}
	m := &machine{T: t, client: fake.NewClientset()}
	m.config = node.Config{
		Name: "box", Instance: fmt.Sprintf("test%d-%d", os.Getpid(), i), Client: m.client, Images: store,
		DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"),
		PodCIDRs: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", 100+i)), netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", i)),
		},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.96.%d.0/24", i))},
		ClusterDNS:   []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.96.%d.10", i))},
	}
	if testing.Verbose() {
		m.config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	setup := network.Config{
		Instance: m.config.Instance, RunDir: m.config.RunDir, PodCIDRs: m.config.PodCIDRs, ServiceCIDRs: m.config.ServiceCIDRs,
	}
	if err := network.Setup(setup); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.halt()
		m.cleanup()
	})
	m.start()
	return m
}

// start runs the node until halt.
func (m *machine) start() {
	n, err := node.New(m.config)
	if err != nil {
		m.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	m.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			m.Errorf("the node ended with %v", err)
		}
	}
}

func (m *machine) halt() {
	if m.stop != nil {
		m.stop()
		m.stop = nil
	}
}

func (m *machine) cleanup() {
	c := node.CleanupConfig{
		Instance: m.config.Instance, DataDir: m.config.DataDir, RunDir: m.config.RunDir,
	}
	if err := node.Cleanup(context.Background(), c); err != nil {
		m.Errorf("clean up: %v", err)
	}
}

// run makes a Pod that is bound to the node, of one container unless change says otherwise.
func (m *machine) run(name string, args string, change func(*corev1.Pod)) *corev1.Pod {
	m.Helper()
	var uid [8]byte
	_, _ = rand.Read(uid[:])
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(hex.EncodeToString(uid[:]))},
		Spec: corev1.PodSpec{
			NodeName: "box", RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst,
			Containers: []corev1.Container{{
				Name: "main", Image: "app:v1", Args: strings.Fields(args), ImagePullPolicy: corev1.PullIfNotPresent,
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			}},
		},
	}
	if change != nil {
		change(pod)
	}
	made, err := m.client.CoreV1().Pods("default").Create(context.Background(), pod, metav1.CreateOptions{})
	if err != nil {
		m.Fatal(err)
	}
	return made
}

func (m *machine) get(name string) *corev1.Pod {
	m.Helper()
	pod, err := m.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		m.Fatal(err)
	}
	return pod
}

// until polls the Pod until it is as wanted.
func (m *machine) until(name, what string, wanted func(*corev1.Pod) bool) *corev1.Pod {
	m.Helper()
	var pod *corev1.Pod
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if pod = m.get(name); wanted(pod) {
			return pod
		}
	}
	m.Fatalf("Pod %s: not %s in %s: %+v", name, what, patience, pod.Status)
	return nil
}

func ready(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// log is what the container has printed.
func (m *machine) log(pod *corev1.Pod, container string, attempt int) string {
	m.Helper()
	path := filepath.Join(m.config.DataDir, "pods", string(pod.UID), "logs", container, fmt.Sprint(attempt)+".log")
	data, err := os.ReadFile(path)
	if err != nil {
		m.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(data)) {
		text.WriteString(strings.SplitN(line, " ", 4)[3])
	}
	return text.String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body := make([]byte, 1000)
	n, _ := answer.Body.Read(body)
	return string(body[:n])
}

func withReadiness(pod *corev1.Pod) {
	pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("http")}},
		PeriodSeconds:    1,
		TimeoutSeconds:   1,
		SuccessThreshold: 1,
		FailureThreshold: 1,
	}
}
