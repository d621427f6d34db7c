// Package nodetest is what the tests of the node's packages share: a network namespace and a mount namespace for the test binary, and
// a small static program to put into images.
//
// Contract. Main re-executes the test binary in new namespaces, so that nothing a test does reaches the machine's own network or
// mounts, and no packet can leave: the new network has no device but loopback. App builds the program once per process.
package nodetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

const inside = "FAIRWAY_NODETEST_INSIDE"

// Main runs the tests of a package inside namespaces of their own. Without root it runs them where they are, and Need skips
// those that need more.
func Main(m *testing.M) {
	if os.Getuid() != 0 || os.Getenv(inside) != "" {
		if os.Getuid() == 0 {
			if err := loopbackUp(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWNET,
		Unshareflags: syscall.CLONE_NEWNS, // with private propagation
		Pdeathsig:    syscall.SIGKILL,
	}
	runtime.LockOSThread() // the death signal is that of the starting thread
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "start the tests in namespaces of their own:", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// Need skips a test that cannot run here: without root, or without runc.
func Need(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("needs runc")
	}
}

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fairway-app-*")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "app")
	cmd := exec.Command("go", "build", "-o", binary, "fairway.dev/fairway/internal/node/nodetest/app")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, nil
})

// App returns the path of the static program of nodetest/app.
func App(t testing.TB) string {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}
