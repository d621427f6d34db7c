package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fairway.dev/fairway/internal/testkit"
)

// patience bounds every wait; a healthy machine needs a hundredth of it.
const patience = 90 * time.Second

// machine is a network namespace with one instance of Fairway in it, and what it looked like before.
type machine struct {
	t      testing.TB
	ns     *testkit.NetNS
	name   string
	dir    string
	before footprint

	// mounts is the process whose mount namespace `fairway` runs in; 0 is the test's own.
	mounts int
	// vars are environment variables of every command, NAME=VALUE.
	vars []string

	mu sync.Mutex
	up *process
}

type process struct {
	cmd  *exec.Cmd
	out  *buffer
	done chan struct{}
}

// buffer is written by a process and read by a test.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// binary is the program under test.
func binary(t testing.TB) string {
	path := os.Getenv("FAIRWAY")
	if path == "" {
		path = "../../bin/fairway"
	}
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("the binary: %v; run 'make build'", err)
	}
	return path
}

// newMachine makes the namespace and the directories. Whatever happens to the test, the instance is taken down, and what it leaves is a failure.
func newMachine(t testing.TB) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests need root")
	}
	id := make([]byte, 3)
	if _, err := rand.Read(id); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, ns: testkit.NewNetNS(t), name: "t" + hex.EncodeToString(id)}
	dir, err := os.MkdirTemp("", "fw-"+m.name+"-") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	m.dir = dir
	m.before = m.footprint()
	t.Cleanup(func() {
		m.mu.Lock()
		up := m.up
		m.mu.Unlock()
		if t.Failed() && up != nil {
			t.Logf("fairway up printed:\n%s", up.out)
		}
		if out, err := m.fairway("down").CombinedOutput(); err != nil {
			t.Errorf("fairway down: %v\n%s", err, out)
		}
		m.nothingLeft()
		os.RemoveAll(dir)
	})
	return m
}

func (m *machine) env() []string {
	return []string{"FAIRWAY_NAME=" + m.name, "FAIRWAY_DATA_DIR=" + m.dir + "/data", "FAIRWAY_RUN_DIR=" + m.dir + "/run", "HOME=" + m.dir,
		"KUBERNETES_SERVICE_HOST="} // wherever the test itself runs
}

// fairway gives a command of the binary, inside the namespace.
func (m *machine) fairway(args ...string) *exec.Cmd {
	cmd := m.command(append([]string{binary(m.t)}, args...)...)
	cmd.Env = append(os.Environ(), m.env()...)
	return cmd
}

// command gives any command on the machine.
func (m *machine) command(words ...string) *exec.Cmd {
	if len(m.vars) > 0 {
		words = slices.Concat([]string{"env"}, m.vars, words)
	}
	if m.mounts != 0 {
		words = append([]string{"nsenter", "-m", "-t", strconv.Itoa(m.mounts)}, words...)
	}
	return m.ns.Command(words[0], words[1:]...)
}

// start runs `fairway up` and waits until it says that it is up.
func (m *machine) start(args ...string) {
	m.t.Helper()
	if err := m.tryStart(args...); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) tryStart(args ...string) error {
	cmd := m.fairway(append([]string{"up"}, args...)...)
	p := &process{cmd: cmd, out: &buffer{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait(); close(p.done) }()
	m.mu.Lock()
	m.up = p
	m.mu.Unlock()
	return retry("fairway up is up", 10*time.Millisecond, func() error {
		select {
		case <-p.done:
			return final{fmt.Errorf("fairway up ended: %v\n%s", cmd.ProcessState, p.out)}
		default:
		}
		if !strings.Contains(p.out.String(), "Fairway is up.") {
			return fmt.Errorf("it printed\n%s", p.out)
		}
		return nil
	})
}

// end sends a signal to `fairway up` and waits until it has ended.
func (m *machine) end(sig syscall.Signal) {
	m.t.Helper()
	if err := m.tryEnd(sig); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) tryEnd(sig syscall.Signal) error {
	m.mu.Lock()
	p := m.up
	m.mu.Unlock()
	if p == nil {
		return errors.New("fairway up has not been started")
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("send %v to fairway up: %w", sig, err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		return fmt.Errorf("fairway up did not end on %v; it printed\n%s", sig, p.out)
	}
	if sig != syscall.SIGKILL && !p.cmd.ProcessState.Success() {
		return fmt.Errorf("fairway up ended with %v\n%s", p.cmd.ProcessState, p.out)
	}
	return nil
}

// final is an error that does not go away by trying again.
type final struct{ error }

// retry asks again and again, after a pause, and gives the last answer when patience ends.
func retry(what string, pause time.Duration, ok func() error) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if f, no := err.(final); no {
			return f.error
		}
		select {
		case <-deadline.C:
			return fmt.Errorf("waited %v until %s: %w", patience, what, err)
		case <-tick.C:
		}
	}
}

// until asks again and again, and fails with the last answer when patience ends.
func (m *machine) until(what string, ok func() error) {
	m.t.Helper()
	if err := retry(what, 25*time.Millisecond, ok); err != nil {
		m.t.Fatal(err)
	}
}

// must runs a command of the binary that has to succeed, and gives what it printed.
func (m *machine) must(args ...string) string {
	m.t.Helper()
	cmd := m.fairway(args...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatalf("fairway %s: %v\n%s%s", strings.Join(args, " "), err, out, &errOut)
	}
	return string(out)
}

// apply gives manifests to kubectl.
func (m *machine) apply(manifest string) {
	m.t.Helper()
	cmd := m.fairway("kubectl", "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}
