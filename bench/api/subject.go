package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"fairway.dev/fairway/internal/testkit/kubeapiserver"
)

// settled is how long after a start a server counts as idle.
const settled = 10 * time.Second

// subject is an API server that is measured. It has one start at a time.
type subject interface {
	name() string
	// start starts it in an empty directory and does not wait.
	start(ctx context.Context) error
	// kubeconfig is a file that is there when somebody may ask.
	kubeconfig() string
	// await returns when Services can be created.
	await(ctx context.Context) error
	pids() []int
	stop()
}

// start measures from the start of the processes to the first `kubectl get` that succeeds, and the memory when all is quiet.
func (b *bench) start(ctx context.Context, s subject, firsts, idle *[]float64) error {
	began := time.Now()
	if err := s.start(ctx); err != nil {
		return err
	}
	for {
		out, err := exec.CommandContext(ctx, b.fairway, "kubectl", "--kubeconfig", s.kubeconfig(), "get", "namespace", "default").CombinedOutput()
		if err == nil {
			break
		}
		if ctx.Err() != nil || time.Since(began) > 2*time.Minute {
			return fmt.Errorf("kubectl get: %w\n%s", err, out)
		}
	}
	*firsts = append(*firsts, time.Since(began).Seconds())
	if err := s.await(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settled):
	}
	*idle = append(*idle, memoryMiB(s.pids()))
	return nil
}

// ours is this program, serving.
type ours struct {
	dir string
	cmd *exec.Cmd
	out bytes.Buffer
}

func (*ours) name() string         { return "fairway" }
func (o *ours) kubeconfig() string { return filepath.Join(o.dir, "kubeconfig") }
func (o *ours) pids() []int        { return []int{o.cmd.Process.Pid} }

func (o *ours) start(ctx context.Context) (err error) {
	if o.dir, err = os.MkdirTemp("", "fwb-"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o.cmd = exec.CommandContext(ctx, self)
	o.cmd.Env = append(os.Environ(), serveIn+"="+o.dir)
	o.cmd.Stdout, o.cmd.Stderr = &o.out, &o.out
	o.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := o.cmd.Start(); err != nil {
		return err
	}
	for { // kubectl would only say that there is no such file
		if _, err := os.Stat(o.kubeconfig()); err == nil {
			return nil
		}
		if o.cmd.Process.Signal(syscall.Signal(0)) != nil || ctx.Err() != nil {
			return fmt.Errorf("it ended: %s", o.out.String())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (o *ours) await(context.Context) error { return nil } // there is a kubeconfig when it is ready

func (o *ours) stop() {
	_ = o.cmd.Process.Signal(syscall.SIGTERM)
	_ = o.cmd.Wait()
	_ = os.RemoveAll(o.dir)
}

// upstream is kube-apiserver with an etcd.
type upstream struct {
	*bench
	dir    string
	server *kubeapiserver.Server
}

func (*upstream) name() string                      { return "kube-apiserver" }
func (u *upstream) kubeconfig() string              { return filepath.Join(u.dir, "kubeconfig") }
func (u *upstream) pids() []int                     { return u.server.PIDs() }
func (u *upstream) await(ctx context.Context) error { return u.server.Await(ctx) }

func (u *upstream) start(ctx context.Context) (err error) {
	if u.dir, err = os.MkdirTemp("", "fwb-"); err != nil {
		return err
	}
	data := filepath.Join(u.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	u.server, err = kubeapiserver.Launch(ctx, kubeapiserver.Config{
		APIServer: u.apiServer, Etcd: u.etcd, Dir: data,
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}, NodePorts: utilnet.PortRange{Base: 30000, Size: 2768},
	})
	if err != nil {
		return err
	}
	config := u.server.ClientConfig()
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"peer": {Server: config.Host, CertificateAuthority: config.TLSClientConfig.CAFile}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"peer": {Token: config.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{"peer": {Cluster: "peer", AuthInfo: "peer"}},
		CurrentContext: "peer",
	}, u.kubeconfig())
}

func (u *upstream) stop() {
	u.server.Stop()
	_ = os.RemoveAll(u.dir)
}

// clientConfig connects to a server, without a limit on the rate of requests, in protobuf, as the components of a cluster do.
func clientConfig(s subject) (*restclient.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig())
	if err == nil {
		config.QPS = -1
		config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	}
	return config, err
}

// memoryMiB is the resident memory of some processes.
func memoryMiB(pids []int) (sum float64) {
	for _, pid := range pids {
		fields := strings.Fields(readFile(fmt.Sprintf("/proc/%d/statm", pid)))
		if len(fields) > 1 {
			pages, _ := strconv.ParseFloat(fields[1], 64)
			sum += pages * float64(os.Getpagesize()) / (1 << 20)
		}
	}
	return sum
}

// cpuSeconds is what some processes have used of the processor. The kernel counts it in hundredths of seconds.
func cpuSeconds(pids []int) (sum float64) {
	for _, pid := range pids {
		_, rest, _ := strings.Cut(readFile(fmt.Sprintf("/proc/%d/stat", pid)), ") ")
		if fields := strings.Fields(rest); len(fields) > 12 {
			user, _ := strconv.ParseFloat(fields[11], 64)
			system, _ := strconv.ParseFloat(fields[12], 64)
			sum += (user + system) / 100
		}
	}
	return sum
}

func readFile(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}
