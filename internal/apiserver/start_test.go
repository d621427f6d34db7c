package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// What is wrong is said in one line before anything is started, and nothing is left behind.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() }) // after the parallel subtests
	for _, test := range []struct {
		what   string
		damage func(t *testing.T, c *Config)
		want   string
	}{
		{"no directory", func(_ *testing.T, c *Config) { c.Dir = "" }, "no data directory"},
		{"port taken", func(_ *testing.T, c *Config) {
			c.Listen = []netip.AddrPort{loopbackAnyPort, taken.Addr().(*net.TCPAddr).AddrPort()}
		}, "the port is taken"},
		{"foreign address", func(_ *testing.T, c *Config) { c.Listen = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")} }, "no such address"},
		{"directory in use", func(_ *testing.T, c *Config) { c.Dir = shared.config.Dir }, "in use by another running process"},
		{"directory is a file", func(t *testing.T, c *Config) { c.Dir = writeFile(t, filepath.Join(c.Dir, "file"), "") }, "not a directory"},
		{"three ranges", func(_ *testing.T, c *Config) { c.ServiceCIDRs = append(c.ServiceCIDRs, c.ServiceCIDRs...) }, "one of each IP family"},
		{"two IPv4 ranges", func(_ *testing.T, c *Config) { c.ServiceCIDRs[1] = netip.MustParsePrefix("10.0.0.0/16") }, "one of each IP family"},
		{"small range", func(_ *testing.T, c *Config) { c.ServiceCIDRs[0] = netip.MustParsePrefix("10.0.0.0/30") }, "too small"},
		{"node ports", func(_ *testing.T, c *Config) { c.NodePorts = utilnet.PortRange{Base: 60000, Size: 10000} }, "between 1 and 65535"},
		{"loopback advertised", func(_ *testing.T, c *Config) { c.Advertise = netip.MustParseAddrPort("127.0.0.1:6443") }, "Pods cannot reach it"},
		{"half an authority", func(t *testing.T, c *Config) {
			writeFile(t, filepath.Join(c.Dir, "pki", "ca.crt"), "-----BEGIN CERTIFICATE-----")
		}, "no readable key"},
		{"broken authority", func(t *testing.T, c *Config) {
			writeFile(t, filepath.Join(c.Dir, "pki", "ca.crt"), "nonsense")
			writeFile(t, filepath.Join(c.Dir, "pki", "ca.key"), "nonsense")
		}, "certificate authority"},
		{"broken database", func(t *testing.T, c *Config) {
			writeFile(t, filepath.Join(c.Dir, "etcd", "member", "snap", "db"), strings.Repeat("not a database ", 10000))
		}, "the database is damaged"},
		{"empty database file", func(t *testing.T, c *Config) {
			writeFile(t, filepath.Join(c.Dir, "etcd", "member", "snap", "db"), "")
		}, "the database is damaged"},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			config := dualStack(shortDir(t))
			test.damage(t, &config)
			s, err := New(config)
			if err == nil {
				s.Close()
				t.Fatal("New did not refuse")
			}
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line with %q", err, test.want)
			}
			if test.what == "directory in use" {
				return
			}
			// Whatever was taken before the refusal is given back.
			if config.Dir != "" {
				if _, err := os.Stat(filepath.Join(config.Dir, "lock")); err == nil {
					lock, err := lockDirectory(config.Dir)
					if err != nil {
						t.Error(err)
					} else {
						_ = lock.Close()
					}
				}
			}
		})
	}
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Data that etcd cannot make sense of ends Run with an error, not the process.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	r := startFor(t, dualStack(dir))
	for i := range 20 {
		if _, err := r.client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("c", i)}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r.stopNow(t)
	for _, damage := range []struct {
		what string
		do   func(data []byte) []byte
	}{
		{"a flipped byte", func(data []byte) []byte { data[4000] ^= 0xff; return data }},
		{"a file of zeros", func(data []byte) []byte { return make([]byte, len(data)) }},
		{"an empty file", func([]byte) []byte { return nil }},
	} {
		copied := shortDir(t)
		if err := os.CopyFS(filepath.Join(copied, "etcd"), os.DirFS(filepath.Join(dir, "etcd"))); err != nil {
			t.Fatal(err)
		}
		logs, err := filepath.Glob(filepath.Join(copied, "etcd", "member", "wal", "*.wal"))
		if err != nil || len(logs) == 0 {
			t.Fatalf("no log files: %v", err)
		}
		data, err := os.ReadFile(logs[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(logs[0], damage.do(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := start(dualStack(copied)); err == nil {
			_ = r.stop()
			t.Errorf("%s: the server started", damage.what)
		} else if !strings.Contains(err.Error(), "etcd: start on "+copied) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %q", damage.what, err)
		}
	}
}

// The data may be in a directory whose path is longer than the kernel allows for a socket.
func TestLongDirectory(t *testing.T) {
	t.Parallel()
	r := startFor(t, dualStack(filepath.Join(shortDir(t), strings.Repeat("x", 200), strings.Repeat("y", 200))))
	if _, err := r.client.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

// Files with secrets in them are for their owner.
func TestFileModes(t *testing.T) {
	t.Parallel()
	var seen int
	err := filepath.WalkDir(shared.config.Dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, os.ErrNotExist) { // etcd renames its files
			return nil
		}
		if err != nil {
			return err
		}
		seen++
		if mode := info.Mode(); mode.Perm()&0o077 != 0 && mode.Type() != os.ModeSocket { // the directory guards the sockets
			t.Errorf("%s has mode %v", path, mode)
		}
		return nil
	})
	if err != nil || seen < 10 {
		t.Errorf("%d files seen: %v", seen, err)
	}
}

// A server that is told to stop before or while it starts, stops without an error, and the next one starts on the same data.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	for _, running := range []bool{false, true} {
		s, err := New(dualStack(dir))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		if !running {
			cancel()
		}
		go func() { ended <- s.Run(ctx) }()
		if running { // the first sign of life, long before the server is ready
			eventually(t, func() error {
				_, err := os.Stat(filepath.Join(dir, "etcd.sock:0"))
				return err
			})
			cancel()
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("running %v: %v", running, err)
			}
		case <-time.After(patience):
			t.Fatal("the server does not stop")
		}
		cancel()
	}
	startFor(t, dualStack(dir))
}
