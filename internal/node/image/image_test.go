package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"fairway.dev/fairway/internal/node/image"
	"fairway.dev/fairway/internal/node/nodetest"
)

func TestMain(m *testing.M) { nodetest.Main(m) }

func open(t testing.TB) *image.Store {
	t.Helper()
	s, err := image.Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("a", 64)
	for given, want := range map[string]string{
		"imaging:v1":                   "imaging:v1",
		"imaging":                      "imaging:latest",
		"docker.io/library/imaging:v1": "imaging:v1",
		"docker.io/team/imaging":       "team/imaging:latest",
		"index.docker.io/imaging:v1":   "imaging:v1",
		"localhost:5000/imaging:v1":    "localhost:5000/imaging:v1",
		"ghcr.io/team/imaging:v1":      "ghcr.io/team/imaging:v1",
		"imaging@" + digest:            "imaging@" + digest,
	} {
		if got, err := image.Normalize(given); got != want || err != nil {
			t.Errorf("%s: %s, %v, want %s", given, got, err, want)
		}
	}
	for _, bad := range []string{"", "NOT A NAME", "imaging:", "/imaging"} {
		if got, err := image.Normalize(bad); err == nil {
			t.Errorf("%q: %s, want an error", bad, got)
		}
	}
}

func TestBuildGetListRemove(t *testing.T) {
	t.Parallel()
	s := open(t)
	extra := filepath.Join(t.TempDir(), "photo.jpg")
	if err := os.WriteFile(extra, []byte("picture"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := image.BuildOptions{
		Binary: nodetest.App(t), Files: map[string]string{"/data/in/photo.jpg": extra}, Env: []string{"COLOUR=green"}, Cmd: []string{"say=hi"},
	}
	built, err := s.Build("imaging:v1", o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Get("docker.io/library/imaging:v1")
	if err != nil || got.Digest != built.Digest || !got.Local || fmt.Sprint(got.Config.Entrypoint, got.Config.Cmd) != "[/app] [say=hi]" {
		t.Errorf("got %+v, %v", got, err)
	}
	if again, err := s.Build("imaging:v2", o); err != nil || again.Digest != built.Digest {
		t.Errorf("the same input gave %s and %s, %v", built.Digest, again.Digest, err)
	}
	root, err := s.RootFS(built)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(root.Path, "data/in/photo.jpg")); err != nil || string(data) != "picture" {
		t.Errorf("file in the image: %q, %v", data, err)
	}
	if info, err := os.Stat(filepath.Join(root.Path, "app")); err != nil || info.Mode() != 0o755 {
		t.Errorf("binary in the image: %v, %v", info, err)
	}
	if err := s.Remove("imaging:v1"); err != nil {
		t.Errorf("one of two names: %v", err)
	}
	if err := s.Remove("imaging:v2"); !errors.Is(err, image.ErrInUse) {
		t.Errorf("removal of an image that is held: %v", err)
	}
	root.Close()
	if err := s.Remove("imaging:v2"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("imaging:v2"); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("after removal: %v", err)
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("list after removal: %v, %v", list, err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(root.Path), "..", "blobs", "sha256", "*")); err != nil || len(left) != 0 {
		t.Errorf("blobs after removal: %v, %v", left, err)
	}
}

// Who builds the same name again and again must not fill the disk: what has lost its name goes, unless a container runs on it.
func TestReplacedImageGoes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	build := func(colour string) image.Image {
		t.Helper()
		img, err := s.Build("web:v1", image.BuildOptions{Binary: nodetest.App(t), Env: []string{"COLOUR=" + colour}})
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	count := func(place string) int {
		t.Helper()
		entries, err := os.ReadDir(filepath.Join(dir, place))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	first, err := s.RootFS(build("red"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.RootFS(build("green"))
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	// What a killed process leaves.
	for _, left := range []string{"rootfs/.new-1", "rootfs/.old-1"} {
		if err := os.MkdirAll(filepath.Join(dir, left, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "blobs/sha256/.new-1"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	third := build("blue")
	if _, err := os.Stat(filepath.Join(first.Path, "app")); err != nil {
		t.Errorf("an image on which a container runs: %v", err)
	}
	if blobs, roots := count("blobs/sha256"), count("rootfs"); blobs != 3 || roots != 1 { // layer, configuration and manifest
		t.Errorf("%d blobs and %d root file systems, want 3 and the one that is held", blobs, roots)
	}
	first.Close()
	root, err := s.RootFS(third)
	if err != nil {
		t.Fatal(err)
	}
	root.Close()
	build("white")
	if blobs, roots := count("blobs/sha256"), count("rootfs"); blobs != 3 || roots != 0 {
		t.Errorf("%d blobs and %d root file systems after the last was let go, want 3 and none", blobs, roots)
	}
}

func TestBuildRefusesWhatCannotRun(t *testing.T) {
	t.Parallel()
	s := open(t)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	dynamic, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("needs a dynamically linked program to refuse")
	}
	for binary, want := range map[string]string{"": "neither", text: "not a Linux program", dynamic: "dynamically linked", "/absent": "no such file"} {
		if _, err := s.Build("x:v1", image.BuildOptions{Binary: binary}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", binary, err, want)
		}
	}
}

// entry is one entry of a layer: a name that ends in "/" is a directory, a text that begins with "->" a symbolic link.
type entry struct{ name, text string }

func layered(t testing.TB, layers ...[]entry) v1.Image {
	t.Helper()
	img := empty.Image
	for _, entries := range layers {
		var buffer bytes.Buffer
		out := tar.NewWriter(&buffer)
		for _, e := range entries {
			h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.text)), Typeflag: tar.TypeReg}
			text := e.text
			if strings.HasSuffix(e.name, "/") {
				h.Typeflag, h.Mode = tar.TypeDir, 0o755
			} else if target, link := strings.CutPrefix(e.text, "->"); link {
				h.Typeflag, h.Linkname, h.Size, text = tar.TypeSymlink, target, 0, ""
			}
			if err := out.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(out, text); err != nil {
				t.Fatal(err)
			}
		}
		out.Close()
		data := buffer.Bytes()
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func TestPullAndUnpackLayers(t *testing.T) {
	t.Parallel()
	s := open(t)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	title := strings.TrimPrefix(server.URL, "http://") + "/team/layers:v1"
	ref, err := name.ParseReference(title)
	if err != nil {
		t.Fatal(err)
	}
	img := layered(t,
		[]entry{{"etc/", ""}, {"etc/kept", "lower"}, {"etc/gone", "lower"}, {"var/", ""}, {"var/a", "lower"}, {"usr/lib/", ""}, {"lib", "->/usr/lib"}},
		[]entry{{"etc/.wh.gone", ""}, {"var/.wh..wh..opq", ""}, {"var/b", "upper"}, {"etc/new", "upper"}, {"lib/inside", "through a link"}},
	)
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	pulled, err := s.Pull(t.Context(), title)
	if err != nil {
		t.Fatal(err)
	}
	if pulled.Local || pulled.Name != title {
		t.Errorf("pulled %+v", pulled)
	}
	root, err := s.RootFS(pulled)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for path, want := range map[string]string{
		"usr/lib/inside": "through a link", "etc/kept": "lower", "etc/new": "upper", "etc/gone": "", "var/a": "", "var/b": "upper",
	} {
		data, err := os.ReadFile(filepath.Join(root.Path, path))
		if want == "" && !os.IsNotExist(err) || want != "" && string(data) != want {
			t.Errorf("%s: %q, %v, want %q", path, data, err, want)
		}
	}
	if _, err := s.Pull(t.Context(), strings.TrimPrefix(server.URL, "http://")+"/absent:v1"); err == nil {
		t.Error("pull of an absent image: no error")
	}
}

func TestUnpackStaysInside(t *testing.T) {
	t.Parallel()
	s := open(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	img := layered(t, []entry{
		{"../../../../" + outside, "theirs"}, {"link", "->" + filepath.Dir(outside)}, {"link/outside", "theirs"}, {"up", "->../../../../../.."},
		{"up" + outside, "theirs"},
	})
	if _, err := layout.Write(dir, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})); err != nil {
		t.Fatal(err)
	}
	images, err := s.Import(dir, "evil:v1")
	if err != nil {
		t.Fatal(err)
	}
	root, err := s.RootFS(images[0])
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	info, err := os.Stat(outside)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(outside); err != nil || string(data) != "mine" || info.Mode() != 0o600 {
		t.Errorf("the file outside is now %q, %v, %v", data, info.Mode(), err)
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	img := layered(t, []entry{{"file", "content"}})
	dir := t.TempDir()
	docker := filepath.Join(dir, "docker.tar")
	tag, err := name.NewTag("team/saved:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(docker, tag, img); err != nil {
		t.Fatal(err)
	}
	oci := filepath.Join(dir, "oci")
	path, err := layout.Write(oci, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "laid-out:v2"})); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "oci.tar")
	if out, err := exec.Command("tar", "-C", oci, "-cf", archive, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, test := range []struct{ path, as, want string }{
		{docker, "", "team/saved:v1"}, {oci, "", "laid-out:v2"}, {archive, "", "laid-out:v2"}, {oci, "renamed", "renamed:latest"},
	} {
		s := open(t)
		images, err := s.Import(test.path, test.as)
		if err != nil || len(images) != 1 || images[0].Name != test.want {
			t.Errorf("%s as %q: %+v, %v, want %s", test.path, test.as, images, err, test.want)
			continue
		}
		root, err := s.RootFS(images[0])
		if err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(root.Path, "file")); err != nil || string(data) != "content" {
			t.Errorf("%s: content %q, %v", test.path, data, err)
		}
		root.Close()
	}
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("no archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{text, dir, filepath.Join(dir, "absent")} {
		if _, err := open(t).Import(bad, ""); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "images")
	app := nodetest.App(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			s, err := image.Open(dir) // as another process has it
			if err != nil {
				t.Error(err)
				return
			}
			title := fmt.Sprintf("app:v%d", i)
			img, err := s.Build(title, image.BuildOptions{Binary: app})
			if err != nil {
				t.Error(err)
				return
			}
			root, err := s.RootFS(img)
			if err != nil {
				t.Error(err)
				return
			}
			root.Close()
			if i%2 == 0 {
				if err := s.Remove(title); err != nil && !errors.Is(err, image.ErrInUse) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	s, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || len(list) < 4 {
		t.Errorf("%d images, %v", len(list), err)
	}
}
