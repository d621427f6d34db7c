// Package kubeapiserver runs upstream's API server on an etcd of its own: the oracle of tests and the peer of benchmarks. Both
// programs are built by `make bin/kube-apiserver bin/etcd`.
package kubeapiserver

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
)

// startLimit is how long the two programs may take to be ready. On a free machine it is about three seconds.
const startLimit = 2 * time.Minute

// stopLimit is how long each may take to end before it is killed.
const stopLimit = 10 * time.Second

// Config says what to run and how. All paths, ranges and numbers are needed.
type Config struct {
	APIServer, Etcd string         // the programs
	Dir             string         // an existing, empty directory with a path short enough for unix sockets
	ServiceCIDRs    []netip.Prefix // one, or one of each family, the default family first
	NodePorts       utilnet.PortRange
	NoSync          bool // leaves out the fsync of every write
	// RBAC asks roles who may do what, rather than letting everybody do all, and keeps AuditLog.
	RBAC bool
	// Listen is where the API server listens; the zero value is loopback.
	Listen netip.Addr
	// Seed, where given, may write into the empty etcd before the API server starts, which then finds what was always there.
	Seed func(ctx context.Context, etcd string) error
}

// Server is a running pair of kube-apiserver and etcd.
type Server struct {
	config    Config
	token     string
	address   string
	processes []*process // in the order of their start
}

// process is one of the two programs. Its output is kept in a file.
type process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when it has ended
}

// Start runs both programs and returns when Services can be created. They end with Stop, and when the caller's thread dies.
func Start(ctx context.Context, config Config) (*Server, error) {
	s, err := Launch(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := s.Await(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// Launch starts both programs as Start does, and does not wait for them.
func Launch(ctx context.Context, config Config) (_ *Server, err error) {
	s := &Server{config: config, token: rand.Text()}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	if err := s.writeCredentials(); err != nil {
		return nil, fmt.Errorf("kube-apiserver: credentials: %w", err)
	}
	if s.address, err = freeAddress(config.Listen); err != nil {
		return nil, fmt.Errorf("kube-apiserver: find a free port: %w", err)
	}
	if err := s.run(config.Etcd, s.etcdFlags()); err != nil {
		return nil, err
	}
	if config.Seed != nil {
		if err := config.Seed(ctx, s.etcdSocket()); err != nil {
			return nil, err
		}
	}
	if err := s.run(config.APIServer, s.flags()); err != nil {
		return nil, err
	}
	return s, nil
}

// Await returns when Services can be created.
func (s *Server) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return s.awaitReady(ctx)
}

// Stop ends both programs, the API server first.
func (s *Server) Stop() {
	for i := range s.processes {
		p := s.processes[len(s.processes)-1-i]
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(stopLimit):
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
	}
	s.processes = nil
}

// PIDs are the processes of etcd and the API server.
func (s *Server) PIDs() (pids []int) {
	for _, p := range s.processes {
		pids = append(pids, p.cmd.Process.Pid)
	}
	return pids
}

// ClientConfig connects as a user of that name who may do all, without a limit on the rate of requests.
func (s *Server) ClientConfig() *restclient.Config {
	return &restclient.Config{
		Host:            "https://" + s.address,
		BearerToken:     s.token,
		TLSClientConfig: restclient.TLSClientConfig{CAFile: s.path("apiserver.crt")},
		QPS:             -1,
	}
}

func (s *Server) path(name string) string { return filepath.Join(s.config.Dir, name) }

func (s *Server) etcdSocket() string { return "unix://" + s.path("etcd.sock:0") }

func (s *Server) etcdFlags() []string {
	peer := "unix://" + s.path("peer.sock:0")
	return []string{
		"--data-dir=" + s.path("etcd"), "--log-level=error", fmt.Sprintf("--unsafe-no-fsync=%t", s.config.NoSync),
		"--listen-client-urls=" + s.etcdSocket(), "--advertise-client-urls=" + s.etcdSocket(),
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
	}
}

func (s *Server) flags() []string {
	host, port, _ := net.SplitHostPort(s.address)
	// An address of the default family that nobody connects to.
	advertise := "192.0.2.1"
	if s.config.ServiceCIDRs[0].Addr().Is6() {
		advertise = "2001:db8::1"
	}
	var ranges []string
	for _, r := range s.config.ServiceCIDRs {
		ranges = append(ranges, r.String())
	}
	flags := []string{
		"--bind-address=" + host, "--secure-port=" + port, "--advertise-address=" + advertise, "--endpoint-reconciler-type=none",
		"--cert-dir=" + s.config.Dir, "--etcd-servers=" + s.etcdSocket(),
		"--service-cluster-ip-range=" + strings.Join(ranges, ","), "--service-node-port-range=" + s.config.NodePorts.String(),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + s.path("sa.key"), "--service-account-signing-key-file=" + s.path("sa.key"),
		"--token-auth-file=" + s.path("tokens.csv"),
	}
	if !s.config.RBAC {
		return append(flags, "--authorization-mode=AlwaysAllow")
	}
	return append(flags, "--authorization-mode=RBAC", "--audit-policy-file="+s.path("audit.yaml"), "--audit-log-path="+s.AuditLog(),
		"--audit-log-mode=blocking")
}

// AuditLog is the file with one line of JSON for each request that was answered (audit.k8s.io/v1 Event), with Config.RBAC.
func (s *Server) AuditLog() string { return s.path("audit.log") }

const auditPolicy = `{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}]}`

func (s *Server) writeCredentials() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(s.path("sa.key"), block, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(s.path("audit.yaml"), []byte(auditPolicy), 0o600); err != nil {
		return err
	}
	return os.WriteFile(s.path("tokens.csv"), []byte(s.token+",admin,admin,system:masters\n"), 0o600)
}

func (s *Server) run(program string, args []string) error {
	name := filepath.Base(program)
	p := &process{cmd: exec.Command(program, args...), log: s.path(name + ".log"), ended: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer func() { _ = log.Close() }()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("%s: start: %w", name, err)
	}
	s.processes = append(s.processes, p)
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return nil
}

// awaitReady polls until a Service could be created: the allocators are ready some time after /readyz says ok.
func (s *Server) awaitReady(ctx context.Context) error {
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		err := s.tryCreate(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("kube-apiserver: not ready after %v: %w\n%s", startLimit, err, s.processes[1].tail())
		case <-s.processes[0].ended:
			return fmt.Errorf("etcd ended: %s", s.processes[0].tail())
		case <-s.processes[1].ended:
			return fmt.Errorf("kube-apiserver ended: %s", s.processes[1].tail())
		}
	}
}

func (s *Server) tryCreate(ctx context.Context) error {
	if _, err := os.Stat(s.path("apiserver.crt")); err != nil { // it makes its own certificate
		return err
	}
	client, err := kubernetes.NewForConfig(s.ClientConfig())
	if err != nil {
		return err
	}
	if err := client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return err
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "ready"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	_, err = client.CoreV1().Services("default").Create(ctx, svc, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// tail is the end of what the process wrote.
func (p *process) tail() string {
	const most = 4 << 10
	out, _ := os.ReadFile(p.log)
	return string(out[max(0, len(out)-most):])
}

func freeAddress(listen netip.Addr) (string, error) {
	if !listen.IsValid() {
		listen = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(listen, 0).String())
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}
