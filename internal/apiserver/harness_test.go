package apiserver

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// patience is how long a test waits for what should take a fraction of a second.
const patience = 30 * time.Second

var loopbackAnyPort = netip.MustParseAddrPort("127.0.0.1:0")

// shared is the server that most tests use, each with names of its own: dual-stack, with the default ranges.
var shared *running

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		runChild()
		return
	}
	if os.Getenv(lifeVariable) != "" {
		runLife()
	}
	if os.Getenv(restoreVariable) != "" {
		runRestore()
	}
	if os.Getenv(fullVariable) != "" {
		runFull()
	}
	dir, err := os.MkdirTemp("", "fairway-api-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := 1
	if shared, err = start(dualStack(dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
		if err := shared.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop:", err)
			code = 1
		}
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func dualStack(dir string) Config {
	return Config{
		Dir:          dir,
		Listen:       []netip.AddrPort{loopbackAnyPort},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:96::/108")},
		NoSync:       true,
		Advertise:    netip.MustParseAddrPort("192.0.2.1:6443"),
	}
}

// running is a server in this process and a client of it.
type running struct {
	*Server
	client     kubernetes.Interface
	kubeconfig string
	cancel     context.CancelFunc
	ended      chan error
}

// start runs a server and waits until it is ready.
func start(config Config) (*running, error) {
	s, err := New(config)
	if err != nil {
		return nil, err
	}
	return startServer(s)
}

// startServer is start for a server that is made already.
func startServer(s *Server) (_ *running, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Server: s, cancel: cancel, ended: make(chan error, 1), kubeconfig: filepath.Join(s.config.Dir, "kubeconfig")}
	go func() { r.ended <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-r.ended:
		cancel()
		return nil, fmt.Errorf("the server ended before it was ready: %w", err)
	case <-time.After(patience):
		cancel()
		return nil, fmt.Errorf("the server is not ready after %v", patience)
	}
	if r.client, err = kubernetes.NewForConfig(s.ClientConfig("test")); err != nil {
		return nil, err
	}
	return r, s.WriteKubeconfig(r.kubeconfig, -1, -1)
}

func (r *running) stop() error {
	r.cancel()
	return <-r.ended
}

// startFor runs a server of the test's own.
func startFor(t *testing.T, config Config) *running {
	t.Helper()
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, s)
}

// run is startFor for a server that is made already.
func run(t *testing.T, s *Server) *running {
	t.Helper()
	r, err := startServer(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cancel != nil {
			if err := r.stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
		}
	})
	return r
}

// stopNow is stop for a server from startFor.
func (r *running) stopNow(t *testing.T) {
	t.Helper()
	err := r.stop()
	r.cancel = nil
	if err != nil {
		t.Fatalf("stop: %v", err)
	}
}

// namespace makes a namespace for one test. Its Services are removed when the test ends, so that the next run may choose
// the same addresses.
func (r *running) namespace(t *testing.T) string {
	t.Helper()
	ns, err := r.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.client.CoreV1().RESTClient().Delete().Namespace(ns.Name).Resource("services").Do(context.Background()).Error(); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return ns.Name
}

// kubectl runs the kubectl of the machine, or where there is none the one in $FAIRWAY, as the administrator and returns what it
// prints on both outputs.
func (r *running) kubectl(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := r.kubectlCommand(t, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// kubectlCommand is kubectl's command line, to be run. It ends with the test.
func (r *running) kubectlCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	args = append([]string{"--kubeconfig", r.kubeconfig, "--cache-dir", t.TempDir()}, args...)
	path, err := exec.LookPath("kubectl")
	if err != nil {
		if path = os.Getenv("FAIRWAY"); path == "" {
			t.Skip("no kubectl on this machine, and $FAIRWAY names none; 'make test' does")
		}
		args = append([]string{"kubectl"}, args...)
	}
	return exec.CommandContext(t.Context(), path, args...)
}

// eventually polls until check returns nil.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	within(t, patience, check)
}

// within is eventually with another patience.
func within(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", limit, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// shortDir is a temporary directory with a path short enough for unix sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fw-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
