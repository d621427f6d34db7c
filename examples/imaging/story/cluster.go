package story

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"fairway.dev/fairway/examples/imaging/manifests"
)

// cluster is the Fairway of the story. What changes anything is done with its command line, as a user does it; what only looks
// asks the API, since a story that looks ten times a second must not pay for a process each time.
type cluster struct {
	fairway string // path of the binary
	name    string
	dir     string // everything of the story is below it
	ns      *namespace
	t       *teller

	client  kubernetes.Interface
	upCmd   *exec.Cmd
	upDone  chan struct{} // closed when "fairway up" has ended
	started time.Time     // when "fairway up" was started
	cgroups []string      // of containers, to look for at the end
}

func newCluster(o Options, ns *namespace, dir string, t *teller) *cluster {
	return &cluster{fairway: o.Fairway, name: o.Name, dir: dir, ns: ns, t: t}
}

func (c *cluster) dataDir() string { return filepath.Join(c.dir, "data") }
func (c *cluster) runDir() string  { return filepath.Join(c.dir, "run") }

// command is a fairway command line that has yet to be started.
func (c *cluster) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.fairway, args...)
	cmd.Env = append(os.Environ(), "FAIRWAY_NAME="+c.name, "FAIRWAY_DATA_DIR="+c.dataDir(), "FAIRWAY_RUN_DIR="+c.runDir())
	cmd.Dir = c.dir
	// Ctrl-C on a terminal goes to the whole process group. Only the story decides when its Fairway ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run tells and runs a fairway command inside the namespace and gives its output.
func (c *cluster) run(ctx context.Context, args ...string) (string, error) {
	defer c.t.step("$ fairway %s", strings.Join(args, " "))()
	cmd := c.command(ctx, args...)
	var out []byte
	err := c.ns.do(func() (err error) {
		out, err = cmd.Output()
		return err
	})
	if err != nil {
		return "", commandError(cmd, err)
	}
	return string(out), nil
}

// kubectl is run for "fairway kubectl".
func (c *cluster) kubectl(ctx context.Context, args ...string) (string, error) {
	return c.run(ctx, append([]string{"kubectl"}, args...)...)
}

// commandError says which command failed, and what it said.
func commandError(cmd *exec.Cmd, err error) error {
	line := filepath.Base(cmd.Path) + " " + strings.Join(cmd.Args[1:], " ")
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(exit.Stderr)))
	}
	return fmt.Errorf("%s: %w", line, err)
}

// up starts Fairway and waits for its API.
func (c *cluster) up(ctx context.Context) error {
	defer c.t.step("$ fairway up --name %s   (until its API answers)", c.name)()
	// Not ended by ctx: "fairway down" ends it.
	cmd := c.command(context.WithoutCancel(ctx), "--name", c.name, "--data-dir", c.dataDir(), "--run-dir", c.runDir(), "up")
	said := c.t.quote("  up │ ")
	cmd.Stdout, cmd.Stderr = said, said
	c.started = time.Now()
	if err := c.ns.start(cmd); err != nil {
		return commandError(cmd, err)
	}
	c.upCmd, c.upDone = cmd, make(chan struct{})
	go func() {
		defer close(c.upDone)
		_ = cmd.Wait() // how it ended is told by ProcessState
	}()
	return c.await(ctx, 60*time.Second, "the API to answer", func(ctx context.Context) (string, error) {
		if c.client == nil {
			if err := c.connect(); err != nil {
				return err.Error(), nil
			}
		}
		if _, err := c.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
			return err.Error(), nil
		}
		return "", nil
	})
}

// connect makes the API client as soon as there is a kubeconfig. Its connections begin inside the namespace.
func (c *cluster) connect() error {
	path := filepath.Join(c.dataDir(), "kubeconfig")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return errors.New("no kubeconfig yet")
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	cfg.Dial = c.ns.DialContext
	cfg.QPS, cfg.Burst = 100, 100
	c.client, err = kubernetes.NewForConfig(cfg)
	return err
}

// await polls until ok gives an empty reason, up ends, or the time is over.
func (c *cluster) await(ctx context.Context, limit time.Duration, what string, ok func(context.Context) (missing string, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	missing := "not looked yet"
	for {
		m, err := ok(ctx)
		if err == nil && m == "" {
			return nil
		}
		if ctx.Err() == nil { // else it is the end of the wait that speaks
			missing = m
		}
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last seen: %s", what, ctx.Err(), missing)
		case <-c.upDone:
			return fmt.Errorf("wait for %s: fairway up has ended: %s", what, c.upCmd.ProcessState)
		case <-tick.C:
		}
	}
}

// images builds the three images.
func (c *cluster) images(ctx context.Context, b binaries) error {
	for _, i := range []struct{ binary, name string }{{"imaging-v1", "imaging:v1"}, {"imaging-v2", "imaging:v2"}, {"gallery", "gallery:v1"}} {
		if _, err := c.run(ctx, "image", "build", "--binary", b.path(i.binary), i.name); err != nil {
			return err
		}
	}
	return nil
}

// apply brings the objects of the example into being and waits until their Pods serve.
func (c *cluster) apply(ctx context.Context, cert certificate) error {
	dir := filepath.Join(c.dir, "manifests")
	if err := os.CopyFS(dir, manifests.Files); err != nil {
		return fmt.Errorf("manifests: %w", err)
	}
	crt, key := filepath.Join(c.dir, "photos.crt"), filepath.Join(c.dir, "photos.key")
	if err := errors.Join(os.WriteFile(crt, cert.cert, 0o644), os.WriteFile(key, cert.key, 0o600)); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	// Relative paths keep the told lines short; commands run in c.dir.
	if _, err := c.kubectl(ctx, "create", "secret", "tls", "photos-tls", "--cert", "photos.crt", "--key", "photos.key"); err != nil {
		return err
	}
	if _, err := c.kubectl(ctx, "apply", "-f", "manifests"); err != nil {
		return err
	}
	for _, d := range []string{"deployment/imaging", "deployment/gallery"} {
		if err := c.rolledOut(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) rolledOut(ctx context.Context, deployment string) error {
	_, err := c.kubectl(ctx, "rollout", "status", deployment, "--timeout=90s")
	return err
}

// lookAround tells what is there when the story did not go on, for whoever has to find out why.
func (c *cluster) lookAround(ctx context.Context) {
	if c.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"get", "deployments,pods,services,endpointslices,ingresses", "-o", "wide"},
		{"describe", "pods"},
	} {
		out, err := c.kubectl(ctx, args...)
		if err != nil {
			out = err.Error()
		}
		for l := range strings.Lines(out) {
			c.t.line("  " + strings.TrimRight(l, "\n"))
		}
	}
}

// down runs "fairway down" and waits for the process of "fairway up" to be gone.
func (c *cluster) down(ctx context.Context) error {
	if c.upCmd == nil {
		return nil
	}
	if _, err := c.run(ctx, "down"); err != nil {
		return err
	}
	select {
	case <-c.upDone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("fairway up (process %d) is still there after fairway down", c.upCmd.Process.Pid)
	}
}

// destroy is for a Fairway whose down did not work: it must not outlive the story.
func (c *cluster) destroy() {
	if c.upCmd == nil {
		return
	}
	select {
	case <-c.upDone:
	default:
		_ = c.upCmd.Process.Kill()
		<-c.upDone
	}
}
