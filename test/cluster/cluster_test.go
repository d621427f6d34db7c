package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"fairway.dev/fairway/internal/testkit"
	"fairway.dev/fairway/internal/testkit/kubeapiserver"
)

// patience bounds every wait; a free machine needs a hundredth of it.
const patience = 2 * time.Minute

// cluster is upstream's API server, without any controller or node but those that a test starts.
type cluster struct {
	kubernetes.Interface
	server *kubeapiserver.Server
}

// TestCluster starts the API server once for all.
func TestCluster(t *testing.T) {
	for _, name := range []string{"FAIRWAY", "KUBE_APISERVER", "ETCD", "KUBE_PROXY"} {
		if os.Getenv(name) == "" {
			t.Skipf("$%s names no binary; 'make test' does", name)
		}
	}
	dir, err := os.MkdirTemp("", "fwc-") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s, err := kubeapiserver.Start(t.Context(), kubeapiserver.Config{
		APIServer: os.Getenv("KUBE_APISERVER"), Etcd: os.Getenv("ETCD"), Dir: dir, NoSync: true, RBAC: true,
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")},
		NodePorts:    utilnet.PortRange{Base: 30000, Size: 2768},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	client, err := kubernetes.NewForConfig(s.ClientConfig())
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{client, s}
	for _, file := range []string{"agent.yaml", "controller.yaml"} {
		c.apply(t, file)
	}
	t.Run("group", func(t *testing.T) { // ends when all of them have
		t.Run("agent", func(t *testing.T) { t.Parallel(); c.testAgent(t) })
		t.Run("health ports", func(t *testing.T) { t.Parallel(); c.testHealthPorts(t) })
		t.Run("controller", func(t *testing.T) { t.Parallel(); c.testController(t) })
	})
}

func until(t testing.TB, what string, holds func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = holds(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// kubeconfig writes credentials: those of a ServiceAccount of fairway-system, or the administrator's for "".
func (c *cluster) kubeconfig(t testing.TB, account string) string {
	t.Helper()
	cfg := c.server.ClientConfig()
	token := cfg.BearerToken
	if account != "" {
		api := c.CoreV1().ServiceAccounts("fairway-system")
		token = ok(api.CreateToken(t.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{}))(t).Status.Token
	}
	k := clientcmdapi.NewConfig()
	k.Clusters["c"] = &clientcmdapi.Cluster{Server: cfg.Host, CertificateAuthority: cfg.CAFile}
	k.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: token}
	k.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	k.CurrentContext = "x"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*k, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// node is a machine of the cluster: a network namespace with an address of each family, from which the API is reached.
type node struct {
	*testkit.NetNS
	t        testing.TB
	name     string
	ip4, ip6 string
}

// node makes the machine and its Node object; n makes its addresses.
func (c *cluster) node(t testing.TB, name string, n int) *node {
	t.Helper()
	m := &node{NetNS: testkit.NewNetNS(t), t: t, name: name, ip4: fmt.Sprintf("192.0.2.%d", n), ip6: fmt.Sprintf("2001:db8::%d", n)}
	m.AddLink("node0")
	m.AddAddr("node0", m.ip4+"/32")
	m.AddAddr("node0", m.ip6+"/128")
	u := ok(url.Parse(c.server.ClientConfig().Host))(t)
	l := ok(m.Listen("tcp", u.Host))(t)
	t.Cleanup(func() { _ = l.Close() })
	go forward(l, u.Host)
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	o = ok(c.CoreV1().Nodes().Create(t.Context(), o, metav1.CreateOptions{}))(t)
	o.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: m.ip4}, {Type: corev1.NodeInternalIP, Address: m.ip6}}
	ok(c.CoreV1().Nodes().UpdateStatus(t.Context(), o, metav1.UpdateOptions{}))(t)
	return m
}

// ok takes the results of a call, and gives its value, or ends the test.
func ok[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// forward carries connections from a namespace to an address outside of it.
func forward(l net.Listener, to string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			up, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer func() { _ = up.Close() }()
			go func() { _, _ = io.Copy(up, c); _ = up.Close() }()
			_, _ = io.Copy(c, up)
		}()
	}
}

// process is a program on a node.
type process struct {
	*exec.Cmd
	out  *output
	done chan struct{}
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs a program until the test ends.
func (m *node) start(program string, args ...string) *process {
	m.t.Helper()
	p := &process{Cmd: m.Command(program, args...), out: &output{}, done: make(chan struct{})}
	p.Env = append(os.Environ(), "KUBERNETES_SERVICE_HOST=")
	p.Stdout, p.Stderr = p.out, p.out
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() { _ = p.Wait(); close(p.done) }()
	m.t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.done
		if m.t.Failed() {
			m.t.Logf("%s %s printed:\n%s", filepath.Base(program), strings.Join(args, " "), p.out)
		}
	})
	return p
}

// end sends a signal and waits.
func (p *process) end(t testing.TB, sig syscall.Signal) {
	t.Helper()
	_ = p.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("it did not end on %v", sig)
	}
}

// get asks a server of the node.
func (m *node) get(url string) (status int, body string, header http.Header, err error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: m.Dial, DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", nil, err
	}
	r, err := client.Do(q)
	if err != nil {
		return 0, "", nil, err
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), r.Header, err
}

// answers waits until a URL answers so; want is a part of the body.
func (m *node) answers(url string, status int, want string) string {
	m.t.Helper()
	var body string
	until(m.t, url, func() error {
		s, b, _, err := m.get(url)
		if err == nil && (s != status || !strings.Contains(b, want)) {
			err = fmt.Errorf("status %d:\n%s", s, b)
		}
		body = b
		return err
	})
	return body
}
