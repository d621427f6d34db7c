package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"fairway.dev/fairway/bench/figures"
)

// start measures from the start of the process to the first `kubectl get` that succeeds, from an empty directory, and the memory
// ten seconds after, when what the start needed has been given back and what is needed has come back.
func (b *bench) start(ctx context.Context) error {
	var firsts, memory []float64
	for range b.starts {
		c, err := b.newCluster()
		if err != nil {
			return err
		}
		err = c.up(ctx)
		if err == nil {
			err = until(ctx, func() error {
				if _, err := os.Stat(c.kubeconfig()); err != nil {
					return err
				}
				_, err := c.kubectl(ctx, "", "get", "ns", "default")
				return err
			})
		}
		firsts = append(firsts, time.Since(c.begin).Seconds())
		if err == nil {
			err = c.ready(ctx)
		}
		if err == nil {
			select { // idle means: after the first rush is over
			case <-ctx.Done():
				err = ctx.Err()
			case <-time.After(10 * time.Second):
				memory = append(memory, rssMiB(c.cmd.Process.Pid))
			}
		}
		if derr := c.down(ctx); err == nil {
			err = derr
		}
		if err != nil {
			return fmt.Errorf("start: %w", err)
		}
	}
	fmt.Printf("first kubectl get: %.3f s (of %d starts from an empty directory: %.3f)\n", figures.Median(firsts), len(firsts), firsts)
	fmt.Printf("idle memory: %.0f MiB (%.0f)\n", figures.Median(memory), memory)
	b.result("up-to-first-kubectl-get", figures.Median(firsts), "s")
	b.result("idle-memory", figures.Median(memory), "MiB")
	return nil
}

// startFull measures the same on a directory in which there are many Services already.
func (b *bench) startFull(ctx context.Context) (err error) {
	c, err := b.newCluster()
	if err != nil {
		return err
	}
	defer func() {
		if derr := c.down(ctx); err == nil {
			err = derr
		}
	}()
	if err := c.up(ctx); err != nil {
		return err
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig())
	if err != nil {
		return err
	}
	cfg.QPS = -1
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range b.stored {
		g.Go(func() error {
			svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("stored-%05d", i)}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
			_, err := client.CoreV1().Services("default").Create(gctx, svc, metav1.CreateOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var firsts []float64
	for range b.starts {
		if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		_ = c.cmd.Wait()
		if err := os.Remove(c.kubeconfig()); err != nil { // it is there again when the API is
			return err
		}
		if err := c.up(ctx); err != nil {
			return err
		}
		if err := until(ctx, func() error {
			if _, err := os.Stat(c.kubeconfig()); err != nil {
				return err
			}
			_, err := c.kubectl(ctx, "", "get", "ns", "default")
			return err
		}); err != nil {
			return err
		}
		firsts = append(firsts, time.Since(c.begin).Seconds())
		if err := c.ready(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("first kubectl get with %d Services in the directory: %.3f s (%.3f)\n", b.stored, figures.Median(firsts), firsts)
	b.result("up-to-first-kubectl-get-full", figures.Median(firsts), "s")
	return nil
}

const webManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "web:v1", imagePullPolicy: Never, ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`

// firstAnswer measures from the start of the process to the first HTTP answer through the name of a Service whose Deployment is applied as
// soon as the API answers.
func (b *bench) firstAnswer(ctx context.Context) error {
	var all []float64
	for range b.starts {
		s, err := b.oneFirstAnswer(ctx)
		if err != nil {
			return fmt.Errorf("first answer: %w", err)
		}
		all = append(all, s)
	}
	fmt.Printf("first answer through a Service name: %.3f s (%.3f)\n", figures.Median(all), all)
	b.result("up-to-first-answer", figures.Median(all), "s")
	return nil
}

func (b *bench) oneFirstAnswer(ctx context.Context) (seconds float64, err error) {
	c, err := b.newCluster()
	if err != nil {
		return 0, err
	}
	defer func() {
		if derr := c.down(ctx); err == nil {
			err = derr
		}
	}()
	web := filepath.Join(c.dir, "web")
	build := exec.CommandContext(ctx, "go", "build", "-o", web, "fairway.dev/fairway/test/e2e/web")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build: %w\n%s", err, out)
	}
	if out, err := c.command(ctx, "image", "build", "--binary", web, "web:v1").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("image build: %w\n%s", err, out)
	}
	if err := c.up(ctx); err != nil {
		return 0, err
	}
	if err := until(ctx, func() error {
		if _, err := os.Stat(c.kubeconfig()); err != nil {
			return err
		}
		_, err := c.kubectl(ctx, webManifest, "apply", "-f", "-")
		return err
	}); err != nil {
		return 0, err
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "10.96.0.10:53")
	}}
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{
		DialContext: (&net.Dialer{Resolver: resolver, Timeout: time.Second}).DialContext, DisableKeepAlives: true,
	}}
	err = until(ctx, func() error {
		resp, err := client.Get("http://web.default.svc.cluster.local./")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	})
	return time.Since(c.begin).Seconds(), err
}

func rssMiB(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	pages, _ := strconv.ParseFloat(f[1], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20)
}
