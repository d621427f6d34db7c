package apiserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/apiserver/backup"
)

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"key": strings.Repeat("value ", 100)}}
}

func (r *running) create(t *testing.T, name string) *corev1.ConfigMap {
	t.Helper()
	made, err := r.client.CoreV1().ConfigMaps("default").Create(t.Context(), configMap(name), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func backedUp(t *testing.T, dir string) []byte {
	t.Helper()
	var out bytes.Buffer
	m, err := Backup(t.Context(), dir, backup.Manifest{Instance: "test"}, shortDir(t), &out)
	if err != nil {
		t.Fatal(err)
	}
	if m.Objects < 5 || m.Revision < 5 {
		t.Errorf("the backup holds %d objects at revision %d", m.Objects, m.Revision)
	}
	return out.Bytes()
}

// A backup of a running server holds what was acknowledged before it began, the server that is restored from it knows the same clients, and
// their watches begin anew instead of missing something.
func TestRestore(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	first := startFor(t, dualStack(dir))
	kept := first.create(t, "kept")
	writeFile(t, filepath.Join(dir, "settings.json"), "{}")
	data := backedUp(t, dir)
	if _, err := Restore(bytes.NewReader(data), dir, true); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("restore below a running server: %v", err)
	}
	newest := first.create(t, "lost")
	kubeconfig, err := os.ReadFile(first.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	first.stopNow(t)

	if _, err := Restore(bytes.NewReader(data), dir, false); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("restore over data: %v", err)
	}
	if m, err := Restore(bytes.NewReader(data), dir, true); err != nil || m.Instance != "test" {
		t.Fatalf("restore: %+v, %v", m, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "settings.json")); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(restoring(dir)); left != nil {
		t.Errorf("left are %v", left)
	}
	config := dualStack(dir)
	config.Listen = first.Addresses()
	second := startFor(t, config)
	if err := os.WriteFile(second.kubeconfig, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := second.kubectl(t, "", "get", "configmap", "kept", "-o", "jsonpath={.metadata.uid}"); err != nil || out != string(kept.UID) {
		t.Errorf("the kubeconfig of the first server gives %q, %v; want %s", out, err, kept.UID)
	}
	api := second.client.CoreV1().ConfigMaps("default")
	if _, err := api.Get(t.Context(), "lost", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what was made after the backup: %v", err)
	}
	for _, version := range []string{kept.ResourceVersion, newest.ResourceVersion} {
		if err := watchFrom(t, second, version); !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			t.Errorf("a watch from %s, before the restore: %v; want it expired", version, err)
		}
	}
	after := second.create(t, "after")
	if len(after.ResourceVersion) < len(newest.ResourceVersion) || len(after.ResourceVersion) == len(newest.ResourceVersion) && after.ResourceVersion <= newest.ResourceVersion {
		t.Errorf("version %s after the restore, %s before", after.ResourceVersion, newest.ResourceVersion)
	}
}

// watchFrom opens a watch and gives the error with which it ends or begins, or nil if there is none.
func watchFrom(t *testing.T, r *running, version string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w, err := r.client.CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		return err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		return apierrors.FromObject(event.Object)
	}
	return nil
}

// A stopped server's data can be backed up as well, with what only the log has.
func TestBackupOfStopped(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	lines := killAfter(t, dir, 40)
	data := backedUp(t, dir)
	other := shortDir(t)
	if _, err := Restore(bytes.NewReader(data), other, false); err != nil {
		t.Fatal(err)
	}
	r := startFor(t, dualStack(other))
	for _, line := range lines {
		what, rest, _ := strings.Cut(line, " ")
		if what != "service" {
			continue
		}
		name, _, _ := strings.Cut(rest, " ")
		if _, err := r.client.CoreV1().Services("default").Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
}

// A file that is no whole backup of this kind changes nothing.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	data := backedUp(t, shared.config.Dir)
	with := func(change func(name string) (string, bool)) []byte {
		var out bytes.Buffer
		w, err := backup.NewWriter(&out, backup.Manifest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := backup.Read(bytes.NewReader(data), func(name string, content io.Reader) error {
			b, err := io.ReadAll(content)
			if err != nil {
				return err
			}
			replaced, keep := change(name)
			if !keep {
				return nil
			}
			if replaced != "" {
				b = []byte(replaced)
			}
			return w.File(name, int64(len(b)), bytes.NewReader(b))
		}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	for what, c := range map[string]struct {
		data []byte
		want string
	}{
		"cut off":      {data[:len(data)/2], "cut off"},
		"no database":  {with(func(name string) (string, bool) { return "", name != backup.Database }), "the database"},
		"no authority": {with(func(name string) (string, bool) { return "", name != "pki/ca.crt" }), "certificate authority"},
		"not a database": {with(func(name string) (string, bool) {
			if name == backup.Database {
				return strings.Repeat("no database ", 1000), true
			}
			return "", true
		}), "the database"},
		"other database": {with(func(name string) (string, bool) {
			if name == backup.Database {
				return strings.Repeat("\x00", 1<<16), true
			}
			return "", true
		}), "the database"},
	} {
		dir := filepath.Join(shortDir(t), "api")
		_, err := Restore(bytes.NewReader(c.data), dir, false)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want one line with %q", what, err, c.want)
		}
		if left, _ := filepath.Glob(filepath.Dir(dir) + "/*"); len(left) > 0 {
			t.Errorf("%s: left are %v", what, left)
		}
	}
}

const restoreVariable = "FAIRWAY_API_TEST_RESTORE"

// runRestore restores the backup on standard input into the directory, again and again.
func runRestore() {
	data, err := io.ReadAll(os.Stdin)
	for err == nil {
		_, err = Restore(bytes.NewReader(data), os.Getenv(restoreVariable), true)
		fmt.Println("restored")
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A restore that is killed, at any moment, leaves whole data: the old or the new. The next one, or the next start, clears up.
func TestKilledRestore(t *testing.T) {
	t.Parallel()
	data := backedUp(t, shared.config.Dir)
	dir := filepath.Join(shortDir(t), "api")
	if _, err := Restore(bytes.NewReader(data), dir, false); err != nil {
		t.Fatal(err)
	}
	for range 12 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), restoreVariable+"="+dir)
		cmd.Stdin, cmd.Stderr = bytes.NewReader(data), os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // it is at work
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond) // a random moment of the next
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := checkDatabase(filepath.Join(dir, "etcd")); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"pki/ca.key", "etcd/member/snap/db", "etcd/member/wal"} {
			if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	startFor(t, dualStack(dir))
	if left, _ := filepath.Glob(filepath.Dir(dir) + "/*"); len(left) != 1 {
		t.Errorf("left are %v", left)
	}
}
