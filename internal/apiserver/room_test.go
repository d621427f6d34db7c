package apiserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// smallDisk is a directory on a file system of that many MiB.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := shortDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
		t.Skipf("mounting needs root: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill makes a file grow until it leaves so much room on its disk, in MiB.
func fill(t *testing.T, path string, left int64) {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &fs); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, end, int64(fs.Bfree)*fs.Bsize-left<<20); err != nil {
		t.Fatal(err)
	}
}

// A start on a full disk is told as what it is: nobody is to take sound data for damaged, and throw it away.
func TestStartOnFullDisk(t *testing.T) {
	t.Parallel()
	s, err := New(dualStack(smallDisk(t, 2)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), "make room") || strings.Contains(err.Error(), "damaged") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one line about room", err)
	}
}

// While the disk is nearly full, writes get one clear error, what makes room and what reads goes on, and with room again writes do, too.
func TestDiskFillsUp(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 160)
	r := startFor(t, dualStack(filepath.Join(dir, "api")))
	api := r.client.CoreV1().ConfigMaps("default")
	for _, name := range []string{"kept", "removed", "last"} {
		r.create(t, name)
	}
	refused := func(what string, err error) {
		t.Helper()
		status := apierrors.APIStatus(nil)
		if !errors.As(err, &status) || status.Status().Code != http.StatusInsufficientStorage || status.Status().Reason != reasonNoRoom ||
			!strings.Contains(err.Error(), "the disk of "+dir+"/api has only ") || !strings.Contains(err.Error(), "make room there") {
			t.Errorf("%s: %v; want 507 and what to do", what, err)
		}
	}

	filler := filepath.Join(dir, "filler")
	fill(t, filler, 48)
	_, err := api.Create(t.Context(), configMap("refused"), metav1.CreateOptions{})
	refused("create", err)
	_, err = api.Update(t.Context(), configMap("kept"), metav1.UpdateOptions{})
	refused("update", err)
	if out, err := r.kubectl(t, "", "create", "configmap", "by-kubectl"); err == nil || !strings.Contains(out, "make room there") {
		t.Errorf("kubectl says %q, %v", out, err)
	}
	if err := api.Delete(t.Context(), "removed", metav1.DeleteOptions{}); err != nil {
		t.Errorf("delete, which makes room: %v", err)
	}
	if _, err := api.Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("read: %v", err)
	}

	fill(t, filler, 16)
	refused("delete", api.Delete(t.Context(), "last", metav1.DeleteOptions{}))
	if list, err := api.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) < 2 {
		t.Errorf("list: %v", err)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	r.create(t, "refused")
}

const fullVariable = "FAIRWAY_API_TEST_FULL"

// runFull serves without a watch over the disk, writes until that fails, and prints what was acknowledged.
func runFull() {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s, err := New(dualStack(os.Getenv(fullVariable)))
	if err != nil {
		fail(err)
	}
	s.database.room.writes, s.database.room.deletes = 0, 0
	go func() {
		<-s.Ready()
		var out sync.Mutex
		for writer := range 4 {
			client, err := kubernetes.NewForConfig(s.ClientConfig("writer"))
			if err != nil {
				fail(err)
			}
			go func() {
				for i := 0; ; i++ {
					cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("w%d-%d", writer, i)}, Data: map[string]string{"key": strings.Repeat("x", 200_000)}}
					if _, err := client.CoreV1().ConfigMaps("default").Create(context.Background(), cm, metav1.CreateOptions{}); err != nil {
						return
					}
					out.Lock()
					fmt.Println(cm.Name)
					out.Unlock()
				}
			}()
		}
	}()
	fail(s.Run(context.Background()))
}

// Where the disk is full all the same, because others were faster, the process ends with one line and no stack, and the next one on a disk with
// room has all that was acknowledged.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 100)
	dir := filepath.Join(disk, "api")
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), fullVariable+"="+dir)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err == nil || ctx.Err() != nil {
		t.Fatalf("the child ended with %v, %v\n%s", err, ctx.Err(), &errOut)
	}
	line := strings.TrimSpace(errOut.String())
	if strings.Contains(line, "\n") || !strings.Contains(line, "etcd: failed while running") || !strings.Contains(line, "no space left on device") || !strings.Contains(line, "make room on the disk of "+dir) {
		t.Errorf("it said\n%s", line)
	}
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT, "size=400m"); err != nil {
		t.Fatal(err)
	}
	r := startFor(t, dualStack(dir))
	acknowledged := 0
	for names := bufio.NewScanner(&out); names.Scan(); acknowledged++ {
		if _, err := r.client.CoreV1().ConfigMaps("default").Get(t.Context(), names.Text(), metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	if acknowledged < 10 {
		t.Errorf("only %d writes were acknowledged", acknowledged)
	}
	r.create(t, "after")
}

// A database at its limit refuses with one clear error, deletes go on, and when enough is deleted writing works again without anybody's help.
func TestQuota(t *testing.T) {
	t.Parallel()
	config := dualStack(shortDir(t))
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	s.database.quota, s.database.upkeep.every = 24<<20, 50*time.Millisecond
	r := run(t, s)
	api := r.client.CoreV1().ConfigMaps("default")
	var made []string
	for full := error(nil); full == nil; {
		cm := configMap(fmt.Sprint("big-", len(made)))
		cm.Data["key"] = strings.Repeat("x", 500_000)
		if _, full = api.Create(t.Context(), cm, metav1.CreateOptions{}); full == nil {
			made = append(made, cm.Name)
		} else if !strings.Contains(full.Error(), "has reached its limit of 25 MB") || !strings.Contains(full.Error(), "delete what is not needed") {
			t.Errorf("got %v", full)
		}
	}
	if len(made) < 10 {
		t.Errorf("only %d objects fit", len(made))
	}
	for _, name := range made[1:] {
		if err := api.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := api.Get(t.Context(), made[0], metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	eventually(t, func() error {
		_, err := api.Create(t.Context(), configMap("after"), metav1.CreateOptions{})
		return err
	})
}

// The database stays small under endless updates: history is thrown away, and the file gives back what it does not use.
func TestUpkeep(t *testing.T) {
	t.Parallel()
	s, err := New(dualStack(shortDir(t)))
	if err != nil {
		t.Fatal(err)
	}
	s.database.upkeep = upkeep{every: 50 * time.Millisecond, history: 4 << 20, revisions: 50, waste: 4 << 20}
	r := run(t, s)
	api := r.client.CoreV1().ConfigMaps("default")
	r.create(t, "busy")
	var largest, written int64
	for i := range 800 {
		cm := configMap("busy")
		cm.Data["key"] = strings.Repeat(fmt.Sprint(i%10), 50_000)
		eventually(t, func() error { // on a machine that is busy with other things, one may take longer than etcd waits
			_, err := api.Update(t.Context(), cm, metav1.UpdateOptions{})
			return err
		})
		written += 50_000
		if i%40 == 0 {
			largest = max(largest, usage(t, s.config.Dir))
		}
	}
	// Two or three files of the log, the revisions that are kept, what is written between two looks, and the file's steps.
	if limit := int64(120 << 20); largest > limit {
		t.Errorf("the directory had %d MB when %d MB were written to one object", largest>>20, written>>20)
	}
	// Nobody writes any more, and yet it becomes small: the kept revisions and the rest take some 4 MB, as much history as is allowed 4 more, and
	// the file may be twice as large as what is used in it.
	database := s.database.running.Server.Backend()
	eventually(t, func() error {
		if size := database.Size(); size > 16<<20 {
			return fmt.Errorf("the database has %d MB at the end, %d of them in use", size>>20, database.SizeInUse()>>20)
		}
		return nil
	})
}

// usage is what a directory takes, in bytes.
func usage(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		var info unix.Stat_t
		if err == nil && unix.Lstat(path, &info) == nil {
			bytes += info.Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}
