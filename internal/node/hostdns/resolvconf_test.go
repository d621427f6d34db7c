package hostdns

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func config(t *testing.T, text string) Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Config{Instance: "a", Device: "none", Domain: "cluster.local", ClusterDNS: []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd66:96::a")}, File: file}
}

func read(t *testing.T, c Config) string {
	t.Helper()
	b, err := os.ReadFile(c.File)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const before = "# mine\nsearch corp.example\nnameserver 192.0.2.53\noptions edns0\n"

// TestResolvConf: the block comes first and once, other servers stay behind it, and what others write meanwhile survives.
func TestResolvConf(t *testing.T) {
	t.Parallel()
	c := config(t, before)
	for range 2 { // the second time after a crash
		if m, err := Apply(context.Background(), ResolvConf, c); m != ResolvConf || err != nil {
			t.Fatal(m, err)
		}
	}
	got := read(t, c)
	if strings.Count(got, "nameserver 10.96.0.10\n") != 1 || !strings.HasSuffix(got, before) || strings.Index(got, "10.96.0.10") > strings.Index(got, "192.0.2.53") {
		t.Errorf("%s", got)
	}
	other := c
	other.Instance, other.ClusterDNS = "b", []netip.Addr{netip.MustParseAddr("10.97.0.10")}
	if err := other.addBlock(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.File, []byte(read(t, c)+"# of somebody else\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	bare := Config{Instance: "a", File: c.File} // all that `down` knows after a crash
	for _, c := range []Config{bare, other, bare} {
		if err := Undo(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, c); got != before+"# of somebody else\n" {
		t.Errorf("after all was undone: %s", got)
	}
	if info, err := os.Stat(c.File); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v %v", info, err)
	}
	if left, _ := filepath.Glob(filepath.Dir(c.File) + "/.*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestResolvConfHarm: a block that somebody has cut is taken away without the lines behind it.
func TestResolvConfHarm(t *testing.T) {
	t.Parallel()
	c := config(t, before)
	if err := c.addBlock(); err != nil {
		t.Fatal(err)
	}
	_, end := c.marks()
	if err := os.WriteFile(c.File, []byte(strings.Replace(read(t, c), end, "", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.removeBlock(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c); got != before {
		t.Errorf("%s", got)
	}
}

// TestResolvConfRefuses: a file that another program writes, or that is not there, is not touched, and nothing is left.
func TestResolvConfRefuses(t *testing.T) {
	t.Parallel()
	c := config(t, before)
	real := c.File
	c.File = real + ".link"
	if err := os.Symlink(real, c.File); err != nil {
		t.Fatal(err)
	}
	if err := c.addBlock(); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Error(err)
	}
	if err := c.removeBlock(); err != nil {
		t.Error(err)
	}
	if text, _ := os.ReadFile(real); string(text) != before {
		t.Errorf("%s", text)
	}
	c.File = real + ".none"
	if err := c.addBlock(); err == nil || !strings.Contains(err.Error(), "not there") {
		t.Error(err)
	}
	if err := c.removeBlock(); err != nil {
		t.Error(err)
	}
}
