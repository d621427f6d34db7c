package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"fairway.dev/fairway/bench/lab"
)

// cluster is one instance of Fairway in this process's network namespace.
type cluster struct {
	b     *bench
	dir   string
	cmd   *exec.Cmd
	out   *lab.Output
	begin time.Time
}

func (b *bench) newCluster() (*cluster, error) {
	dir, err := os.MkdirTemp("", "fwb-")
	return &cluster{b: b, dir: dir}, err
}

func (c *cluster) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.b.fairway, args...)
	cmd.Env = append(os.Environ(), "FAIRWAY_NAME=bench", "FAIRWAY_DATA_DIR="+c.dir+"/data", "FAIRWAY_RUN_DIR="+c.dir+"/run", "HOME="+c.dir, "KUBECONFIG="+c.kubeconfig())
	return cmd
}

func (c *cluster) kubeconfig() string { return c.dir + "/data/kubeconfig" }

// up starts the process and returns at once.
func (c *cluster) up(ctx context.Context) error {
	c.cmd, c.out = c.command(ctx, "up"), &lab.Output{}
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	c.begin = time.Now()
	return c.cmd.Start()
}

// ready waits until it says that it is up.
func (c *cluster) ready(ctx context.Context) error {
	return until(ctx, func() error {
		if !strings.Contains(c.out.String(), "Fairway is up.") {
			return fmt.Errorf("fairway up is not up; it printed\n%s", c.out)
		}
		return nil
	})
}

func (c *cluster) kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := c.command(ctx, append([]string{"kubectl"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// down ends the instance and everything of it.
func (c *cluster) down(ctx context.Context) error {
	defer os.RemoveAll(c.dir)
	out, err := c.command(context.WithoutCancel(ctx), "down").CombinedOutput()
	if c.cmd != nil {
		_ = c.cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("fairway down: %w\n%s", err, out)
	}
	return nil
}

// until asks every 5 ms, for a minute at most.
func until(ctx context.Context, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
