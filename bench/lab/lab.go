// Package lab is where the benchmarks measure: a network namespace of their own, and what the programs in it print.
//
// Contract. Run gives its function a network namespace with nothing in it, so that nothing a benchmark sends can leave the machine, and gives its error.
// An Output may be written and read at the same time.
package lab

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// inside marks the process that runs in the namespace.
const inside = "FAIRWAY_BENCH_INSIDE"

// Run runs this program again, with the same arguments, in a new network namespace, where Run calls f. The end of ctx is passed on as SIGTERM.
func Run(ctx context.Context, f func(context.Context) error) error {
	if os.Getenv(inside) != "" {
		return f(ctx)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	return cmd.Run()
}

// Output is what a program prints. The zero value is empty.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// String gives all of it so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
