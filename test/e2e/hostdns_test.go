package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const resolvConf = "# mine\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n"

// ownResolvConf gives the machine a mount namespace with a resolv.conf of its own. If mount is true, the file itself is a mount, as in containers, and cannot be replaced.
func (m *machine) ownResolvConf(mount bool) {
	m.t.Helper()
	etc := filepath.Join(m.t.TempDir(), "etc")
	script := fmt.Sprintf("cp -a /etc/. %[1]s/ && rm -f %[1]s/resolv.conf && cp %[2]s %[1]s/resolv.conf && mount --bind %[1]s /etc", etc, etc+".conf")
	if mount {
		script += fmt.Sprintf(" && mount --bind %s /etc/resolv.conf", etc+".conf")
	}
	for _, err := range []error{os.Mkdir(etc, 0o755), os.WriteFile(etc+".conf", []byte(resolvConf), 0o644)} {
		if err != nil {
			m.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "unshare", "-m", "sh", "-ec", script+" && echo ready && exec cat")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // it ends with the test, however that ends
	if err != nil {
		m.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { in.Close(); _, _ = io.Copy(io.Discard, out); cancel(); _ = cmd.Wait(); m.mounts = 0 })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		m.t.Fatalf("a mount namespace: %q %v", line, err)
	}
	m.mounts = cmd.Process.Pid
}

func (m *machine) resolvConf() string {
	m.t.Helper()
	out, err := m.command("cat", "/etc/resolv.conf").Output()
	if err != nil {
		m.t.Fatal(err)
	}
	return string(out)
}

// getent asks the machine's C library.
func (m *machine) getent(name string) string {
	out, _ := m.command("getent", "ahosts", name).CombinedOutput()
	return string(out)
}

const apiName = "kubernetes.default.svc.cluster.local"

// TestHostResolvConf: with --host-dns=resolv.conf the machine's own programs find the cluster's names while Fairway runs. When it ends, the file is as it was;
// after a crash, once it has started again, or `down` has been there.
func TestHostResolvConf(t *testing.T) {
	t.Parallel()
	for _, mount := range []bool{false, true} {
		t.Run(fmt.Sprintf("mount=%t", mount), func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.ownResolvConf(mount)
			m.start("--host-dns", "resolv.conf")
			m.until("the machine finds the API by its name", func() error {
				if got := m.getent(apiName); !strings.HasPrefix(got, "10.96.0.1 ") {
					return fmt.Errorf("getent says %q; resolv.conf is\n%s", got, m.resolvConf())
				}
				return nil
			})
			m.end(syscall.SIGTERM)
			if got := m.resolvConf(); got != resolvConf {
				t.Errorf("after its end:\n%s", got)
			}
			m.start("--host-dns", "resolv.conf")
			m.end(syscall.SIGKILL)
			if got := m.resolvConf(); !strings.Contains(got, "nameserver 10.96.0.10\n") {
				t.Errorf("after a crash nobody has put it back yet:\n%s", got)
			}
			m.start("--host-dns", "off")
			if got := m.resolvConf(); got != resolvConf {
				t.Errorf("after a start without:\n%s", got)
			}
			m.end(syscall.SIGTERM)
			m.start("--host-dns", "resolv.conf")
			m.end(syscall.SIGKILL)
			if out, err := m.fairway("down").CombinedOutput(); err != nil {
				t.Errorf("%v %s", err, out)
			}
			if got := m.resolvConf(); got != resolvConf {
				t.Errorf("after down:\n%s", got)
			}
		})
	}
}
