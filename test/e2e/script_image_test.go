package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// cmdWeb is `web IMAGE...`: Fairway builds the tests' server as an image.
func (s *scenario) cmdWeb(args []string, o *output) error { return s.build(webPath, args, o) }

// cmdClient is `client IMAGE...`: Fairway builds the tests' client of the API as an image.
func (s *scenario) cmdClient(args []string, o *output) error { return s.build(clientPath, args, o) }

func (s *scenario) build(program func() (string, error), images []string, o *output) error {
	path, err := program()
	if err != nil {
		return err
	}
	for _, image := range images {
		if err := s.run(s.fairway("image", "build", "--binary", path, image), o); err != nil {
			return err
		}
	}
	return nil
}

// cmdOCI is `oci DIRECTORY NAME`: the tests' server as an OCI image layout, as other tools write it.
func (s *scenario) cmdOCI(args []string, _ *output) error {
	if len(args) != 2 {
		return errors.New("usage: oci DIRECTORY NAME")
	}
	img, err := webImage()
	if err != nil {
		return err
	}
	dir, err := layout.Write(filepath.Join(s.cwd, args[0]), empty.Index)
	if err != nil {
		return err
	}
	return dir.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": args[1]}))
}

// cmdTarball is `tarball FILE NAME`: the tests' server as `docker save` writes it.
func (s *scenario) cmdTarball(args []string, _ *output) error {
	if len(args) != 2 {
		return errors.New("usage: tarball FILE NAME")
	}
	img, err := webImage()
	if err != nil {
		return err
	}
	tag, err := name.NewTag(args[1])
	if err != nil {
		return err
	}
	return tarball.WriteToFile(filepath.Join(s.cwd, args[0]), tag, img)
}

// cmdRegistry is `registry NAME...`: a registry with the tests' server under each name, from here to the end of the script. The names
// begin with the address where it listens, and all with the same.
func (s *scenario) cmdRegistry(args []string, _ *output) error {
	if len(args) == 0 {
		return errors.New("usage: registry NAME...")
	}
	img, err := webImage()
	if err != nil {
		return err
	}
	var server *http.Server
	for _, a := range args {
		tag, err := name.NewTag(a)
		if err != nil {
			return err
		}
		if server == nil {
			l, err := s.ns.Listen("tcp", tag.RegistryStr())
			if err != nil {
				return err
			}
			server = &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
			go func() { _ = server.Serve(l) }()
			s.t.Cleanup(func() { _ = server.Close() })
		}
		transport := &http.Transport{DialContext: s.ns.Dial, DisableKeepAlives: true}
		if err := remote.Write(tag, img, remote.WithTransport(transport), remote.WithContext(context.Background())); err != nil {
			return err
		}
	}
	return nil
}

// webImage makes an image of the tests' server by means that are not Fairway's.
func webImage() (v1.Image, error) {
	path, err := webPath()
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	if err := w.WriteHeader(&tar.Header{Name: "srv/web", Mode: 0o755, Size: int64(len(program)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{Entrypoint: []string{"/srv/web"}, Env: []string{"MADE_BY=somebody else"}}
	return mutate.ConfigFile(img, file)
}
