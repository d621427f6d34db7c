package runtime_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/node/image"
	"fairway.dev/fairway/internal/node/nodetest"
	"fairway.dev/fairway/internal/node/runtime"
)

func TestMain(m *testing.M) { nodetest.Main(m) }

type bench struct {
	*runtime.Runtime
	dir  string
	root *image.RootFS
}

func setup(t testing.TB) bench {
	nodetest.Need(t)
	dir := t.TempDir()
	store, err := image.Open(filepath.Join(dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := store.Build("app:v1", image.BuildOptions{Binary: nodetest.App(t)})
	if err != nil {
		t.Fatal(err)
	}
	root, err := store.RootFS(img)
	if err != nil {
		t.Fatal(err)
	}
	r, err := runtime.New("", filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	return bench{r, dir, root}
}

func (b bench) start(t testing.TB, args ...string) *runtime.Running {
	t.Helper()
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	name := hex.EncodeToString(id)
	c := runtime.Container{
		ID: name, Args: append([]string{"/app"}, args...), Env: []string{"COLOUR=green"}, Hostname: "box",
		Cgroup: runtime.CgroupPath("test-"+name, ""),
	}
	place := runtime.Place{
		State: filepath.Join(b.dir, "run", name), Data: filepath.Join(b.dir, "data", name), Log: filepath.Join(b.dir, "logs", name+".log"),
	}
	running, err := b.Start(t.Context(), c, place, b.root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Remove() })
	return running
}

func log(t testing.TB, c *runtime.Running) string {
	t.Helper()
	data, err := os.ReadFile(c.Place.Log)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(line, " ", 4)
		if _, err := time.Parse(time.RFC3339Nano, fields[0]); err != nil {
			t.Errorf("log line %q: %v", line, err)
		}
		text.WriteString(fields[1] + " " + fields[2] + " " + fields[3])
	}
	return text.String()
}

func TestContainerRunsAndEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, test := range []struct {
		name, args string
		code       int
		log        string
	}{
		{"output", "say=hello complain=oh", 0, "stdout F hello\nstderr F oh\n"},
		{"exit code", "exit=7", 7, ""},
		{"environment", "env=COLOUR", 0, "stdout F green\n"},
		{"host name", "hostname", 0, "stdout F box\n"},
		{"user", "id", 0, "stdout F 0 0\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := b.start(t, strings.Fields(test.args)...)
			exit, err := c.WaitExit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if exit.Code != test.code || exit.Signal != 0 {
				t.Errorf("ended with %+v, want code %d", exit, test.code)
			}
			// The two streams are separate pipes: their order in the log is not defined.
			got, want := strings.Split(log(t, c), "\n"), strings.Split(test.log, "\n")
			for _, line := range want {
				if !strings.Contains(strings.Join(got, "\n"), line) {
					t.Errorf("log %q lacks %q", got, line)
				}
			}
		})
	}
}

func TestLoadFindsContainerAndRemoveLeavesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.start(t, "stubborn")
	again, err := b.Load(first.Place)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exit, err := again.WaitExit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if exit.Code != 137 || exit.Signal != 9 {
		t.Errorf("ended with %+v, want signal 9", exit)
	}
	if err := again.Remove(); err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), first.Place.State) {
		t.Error("the root file system is still mounted")
	}
	for _, dir := range []string{first.Place.State, first.Place.Data} {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.start(t, "stubborn")
	var out strings.Builder
	code, err := c.Exec(t.Context(), runtime.ExecOptions{
		Args: []string{"/app", "echo", "env=COLOUR", "exit=3"}, Stdin: strings.NewReader("in "), Stdout: &out,
	})
	if err != nil || code != 3 || out.String() != "in green\n" {
		t.Errorf("exec: code %d, output %q, error %v", code, out.String(), err)
	}
	if _, err := c.Exec(t.Context(), runtime.ExecOptions{Args: []string{"/absent"}}); err == nil {
		t.Error("exec of an absent program: no error")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Exec(ctx, runtime.ExecOptions{Args: []string{"/app", "stubborn"}}); err != context.DeadlineExceeded {
		t.Errorf("exec beyond its time: %v", err)
	}
}

func TestStartFailureSaysWhy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	place := runtime.Place{State: filepath.Join(b.dir, "run", "x"), Data: filepath.Join(b.dir, "data", "x"), Log: filepath.Join(b.dir, "x.log")}
	_, err := b.Start(t.Context(), runtime.Container{ID: "feed" + filepath.Base(b.dir), Args: []string{"/nothing-here"}, Cgroup: runtime.CgroupPath("test-fail", "")}, place, b.root)
	if err == nil || !strings.Contains(err.Error(), "nothing-here") {
		t.Errorf("error %v does not name the missing program", err)
	}
	if _, err := os.Stat(place.State); !os.IsNotExist(err) {
		t.Errorf("something is left: %v", err)
	}
}

func TestDiscardEndsStartThatWasCutShort(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.start(t, "stubborn")
	// As if the starter and the shim had been cut off before the record of the start was written.
	if err := os.Remove(filepath.Join(c.Place.State, "started.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Load(c.Place); err == nil {
		t.Fatal("a container without a record of its start was loaded")
	}
	if err := b.Discard(c.Place); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.WaitDead(ctx); err != nil {
		t.Errorf("the container still runs: %v", err)
	}
	for _, dir := range []string{c.Place.State, c.Place.Data} {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	s := setup(b)
	for b.Loop() {
		s.start(b, "stubborn")
	}
}
