package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const resolvConf = "# mine\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n"

// ownResolvConf gives the machine a mount namespace with a resolv.conf of its own. If mount is true, the file itself is a mount, as in containers, and cannot be replaced.
func (m *machine) ownResolvConf(text string, mount bool) {
	m.t.Helper()
	etc := filepath.Join(m.t.TempDir(), "etc")
	script := fmt.Sprintf("cp -a /etc/. %[1]s/ && rm -f %[1]s/resolv.conf && cp %[2]s %[1]s/resolv.conf && mount --bind %[1]s /etc", etc, etc+".conf")
	if mount {
		script += fmt.Sprintf(" && mount --bind %s /etc/resolv.conf", etc+".conf")
	}
	for _, err := range []error{os.Mkdir(etc, 0o755), os.WriteFile(etc+".conf", []byte(text), 0o644)} {
		if err != nil {
			m.t.Fatal(err)
		}
	}
	m.ownMounts(script)
}

// ownMounts gives the machine a mount namespace, set up by a script. What the script starts ends with the test.
func (m *machine) ownMounts(script string) {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	holder := m.ns.Command("unshare", "-m", "--pid", "--fork", "--kill-child", "sh", "-ec", script+"\necho ready; exec cat")
	cmd := exec.CommandContext(ctx, holder.Path, holder.Args[1:]...)
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
	m.t.Cleanup(func() { in.Close(); cancel(); _ = cmd.Wait(); m.mounts, m.vars = 0, nil })
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
			m.ownResolvConf(resolvConf, mount)
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

const busConf = `<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth><policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`

// resolvedPrograms finds systemd-resolved and resolvectl, installed or, as FAIRWAY_RESOLVED, unpacked from the package: installing it takes over a machine's DNS.
func resolvedPrograms(t *testing.T) (daemon, tools string) {
	root := os.Getenv("FAIRWAY_RESOLVED")
	daemon, tools = root+"/lib/systemd/systemd-resolved", root+"/usr/bin"
	for _, need := range []string{daemon, tools + "/resolvectl"} {
		if _, err := os.Stat(need); err != nil {
			t.Skipf("no systemd-resolved here (%v): 'apt-get download systemd-resolved', 'dpkg -x' it, and give the directory as FAIRWAY_RESOLVED", err)
		}
	}
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("no dbus-daemon here")
	}
	return daemon, tools
}

// TestHostResolved: where systemd-resolved runs, the machine finds the cluster's names without a flag, and no longer when Fairway has ended.
func TestHostResolved(t *testing.T) {
	t.Parallel()
	daemon, tools := resolvedPrograms(t)
	m := newMachine(t)
	dir, bus := t.TempDir(), "/run/systemd/bus" // below the mount that others may enter
	if err := os.WriteFile(dir+"/bus.conf", fmt.Appendf(nil, busConf, bus), 0o644); err != nil {
		t.Fatal(err)
	}
	m.ownMounts(fmt.Sprintf(`
mkdir %[1]s/etc; cp -a /etc/. %[1]s/etc/; rm -f %[1]s/etc/resolv.conf; echo 'nameserver 127.0.0.53' > %[1]s/etc/resolv.conf
grep -q ^systemd-resolve: /etc/passwd || { echo 'systemd-resolve:x:61999:61999::/:/bin/false' >> %[1]s/etc/passwd; echo 'systemd-resolve:x:61999:' >> %[1]s/etc/group; }
mkdir -p /run/systemd; mount -t tmpfs none /run/systemd; mkdir -p /run/systemd/resolve; mount --bind %[1]s/etc /etc; chown systemd-resolve: /run/systemd/resolve
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=%[3]s
dbus-daemon --config-file=%[1]s/bus.conf --nofork >/dev/null 2>&1 &
until [ -S %[3]s ]; do sleep 0.02; done
%[2]s >/dev/null 2>&1 &`, dir, daemon, bus))
	m.vars = []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + bus, "PATH=" + tools + ":" + os.Getenv("PATH")}
	m.until("systemd-resolved is there", func() error {
		if out, err := m.command("timeout", "5", "resolvectl", "status").CombinedOutput(); err != nil {
			return fmt.Errorf("%v %s", err, out)
		}
		if out, _ := m.command("ss", "-Hltn").Output(); !strings.Contains(string(out), "127.0.0.53") {
			return fmt.Errorf("not yet: %s", out)
		}
		return nil
	})
	m.start()
	m.until("the machine finds the API by its name", func() error {
		if got := m.getent(apiName); !strings.HasPrefix(got, "10.96.0.1 ") {
			status, _ := m.command("resolvectl", "status").CombinedOutput()
			return fmt.Errorf("getent says %q; resolvectl says\n%s", got, status)
		}
		return nil
	})
	links := func() string {
		out, err := m.command("resolvectl", "domain").CombinedOutput()
		if err != nil {
			t.Error(err)
		}
		return string(out)
	}
	if got := links(); !strings.Contains(got, "~cluster.local") {
		t.Errorf("%s", got)
	}
	m.end(syscall.SIGKILL)
	m.start()
	m.end(syscall.SIGTERM)
	if got := links(); strings.Contains(got, "cluster.local") {
		t.Errorf("after its end:\n%s", got)
	}
}
