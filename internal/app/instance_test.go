package app

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

func TestNewInstance(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, data, run   string
		wantData, wantRun string
		table             string
	}{
		{"default", "", "", "/var/lib/fairway/default", "/run/fairway/default", "fairway"},
		{"ci", "", "", "/var/lib/fairway/ci", "/run/fairway/ci", "fairway-ci"},
		{"a", "/srv/a", "/tmp/a/", "/srv/a", "/tmp/a", "fairway-a"},
		{"a-b-c-d8", "data", "./run", filepath.Join(here, "data"), filepath.Join(here, "run"), "fairway-a-b-c-d8"},
	} {
		i, err := NewInstance(c.name, c.data, c.run)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if i.Name != c.name || i.DataDir != c.wantData || i.RunDir != c.wantRun || i.table() != c.table {
			t.Errorf("%+v with table %s; want %+v", i, i.table(), c)
		}
		if i.Kubeconfig() != c.wantData+"/kubeconfig" || i.Images() != c.wantData+"/images" {
			t.Errorf("kubeconfig %s, images %s; want both in %s", i.Kubeconfig(), i.Images(), c.wantData)
		}
	}
	for _, c := range []struct{ name, data, run, want string }{
		{"", "", "", "--name"},
		{"UPPER", "", "", "--name"},
		{"nine-long", "", "", "--name"}, // device names are made of it
		{"-a", "", "", "--name"},
		{"a-", "", "", "--name"},
		{"a_b", "", "", "--name"},
		{"../x", "", "", "--name"},
		{"a\n", "", "", "--name"},
		{"a", "/", "", "--data-dir"},
		{"a", "", "/", "--run-dir"},
		{"a", "/srv/a", "/srv/a/", "--data-dir /srv/a and --run-dir /srv/a"},
	} {
		if i, err := NewInstance(c.name, c.data, c.run); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q %q: %+v, %v; want an error about %s", c.name, c.data, c.run, i, err, c.want)
		}
	}
}

// TestLock holds that one process at a time has an instance, and that others can see it.
func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i, err := NewInstance("a", dir+"/data", dir+"/run")
	if err != nil {
		t.Fatal(err)
	}
	if i.running() || i.pid() != 0 {
		t.Errorf("before the lock: running %v, pid %d", i.running(), i.pid())
	}
	release, err := i.lock()
	if err != nil {
		t.Fatal(err)
	}
	if !i.running() || i.pid() != os.Getpid() {
		t.Errorf("locked: running %v, pid %d", i.running(), i.pid())
	}
	if _, err := i.lock(); err == nil || !strings.Contains(err.Error(), "running already") {
		t.Errorf("a second lock: %v", err)
	}
	release()
	if i.running() {
		t.Error("released, and still running")
	}
	again, err := i.lock()
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// TestLockOfSomebodyElse holds that down never takes a process for Fairway that only has its number, nor up a file for the lock that
// nobody else can find any more.
func TestLockOfSomebodyElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i, err := NewInstance("a", dir+"/data", dir+"/run")
	if err != nil {
		t.Fatal(err)
	}
	release, err := i.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if i.holder() != os.Getpid() {
		t.Errorf("holder %d, want %d", i.holder(), os.Getpid())
	}
	for _, content := range []string{"", "x", "1", strconv.Itoa(os.Getppid())} {
		if err := os.WriteFile(i.lockFile(), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := i.holder(); got != 0 {
			t.Errorf("lock says %q: holder %d, want none", content, got)
		}
	}
	old, err := os.Open(i.lockFile())
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if !i.isLockFile(old) {
		t.Error("the lock file is not taken for itself")
	}
	if err := os.Remove(i.lockFile()); err != nil {
		t.Fatal(err)
	}
	if i.isLockFile(old) {
		t.Error("a file that was removed is taken for the lock")
	}
	again, err := i.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer again()
	if i.isLockFile(old) {
		t.Error("a file that was replaced is taken for the lock")
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i, err := NewInstance("a", dir+"/data", dir)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := i.loadState(); s != nil || err != nil {
		t.Errorf("before it was saved: %v, %v", s, err)
	}
	want := state{
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd66:96::/112")},
		PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}, NodeName: "n",
	}
	if err := i.saveState(want); err != nil {
		t.Fatal(err)
	}
	if s, err := i.loadState(); err != nil || !reflect.DeepEqual(*s, want) {
		t.Errorf("%+v, %v; want %+v", s, err, want)
	}
	if err := os.WriteFile(i.stateFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := i.loadState(); err == nil || !strings.Contains(err.Error(), i.Command("down")) {
		t.Errorf("a damaged file: %v", err)
	}
}

// TestRemoveOwn keeps what somebody else put into a directory that --data-dir points at.
func TestRemoveOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i, err := NewInstance("a", dir+"/data", dir+"/run")
	if err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(i.DataDir, "theirs")
	for _, path := range []string{i.Kubeconfig(), filepath.Join(i.Images(), "blob"), theirs, i.lockFile(), i.stateFile()} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // twice is fine
		if err := i.removeData(); err != nil {
			t.Fatal(err)
		}
		if err := i.removeRun(); err != nil {
			t.Fatal(err)
		}
	}
	left, _ := filepath.Glob(dir + "/*/*")
	if len(left) != 1 || left[0] != theirs {
		t.Errorf("left are %v; want %s", left, theirs)
	}
	if _, err := os.Stat(i.RunDir); !os.IsNotExist(err) {
		t.Errorf("the run directory: %v", err)
	}
}

// TestRemoveNew takes away what a failed start made, and nothing that was there before.
func TestRemoveNew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i, err := NewInstance("a", dir+"/data", dir+"/run")
	if err != nil {
		t.Fatal(err)
	}
	put := func(paths ...string) {
		for _, path := range paths {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	image, theirs := filepath.Join(i.Images(), "blob"), filepath.Join(i.DataDir, "theirs")
	put(image, theirs)
	removeNew := i.removeNew()
	put(i.Kubeconfig(), filepath.Join(i.DataDir, "api", "lock"), i.lockFile(), i.stateFile())
	if err := removeNew(); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(dir + "/*/*")
	if want := []string{i.Images(), theirs}; !reflect.DeepEqual(left, want) {
		t.Errorf("left are %v; want %v", left, want)
	}
	for path, want := range map[string]bool{i.DataDir: true, image: true, i.RunDir: false} {
		if _, err := os.Stat(path); os.IsNotExist(err) == want {
			t.Errorf("%s: %v; want it there: %v", path, err, want)
		}
	}
}
