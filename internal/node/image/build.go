package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// BuildOptions say what goes into an image built from one static binary.
type BuildOptions struct {
	Binary     string            // path of the binary on this machine; it becomes /app, the entry point
	Files      map[string]string // path in the image → path on this machine, a file
	Env        []string          // NAME=value
	Entrypoint []string          // instead of /app
	Cmd        []string          // default arguments
	WorkingDir string
	User       string   // as in the OCI image configuration: "uid[:gid]" or a name
	Ports      []string // documented ports: "8080/tcp"
	Labels     map[string]string
}

// binaryPlace is where the binary of a built image is.
const binaryPlace = "/app"

// Build makes an image of one layer and stores it under the name. The same input gives the same digest.
func (s *Store) Build(image string, o BuildOptions) (Image, error) {
	normal, err := Normalize(image)
	if err != nil {
		return Image{}, err
	}
	if strings.Contains(normal, "@") {
		return Image{}, fmt.Errorf("image %s: build: a new image needs a tag, not a digest", normal)
	}
	img, err := assemble(o)
	if err != nil {
		return Image{}, fmt.Errorf("image %s: build: %w", normal, err)
	}
	return s.add(normal, img, true)
}

func assemble(o BuildOptions) (v1.Image, error) {
	content, err := layerContent(o)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(inMemory(content), tarball.WithMediaType(types.OCILayer),
		tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching) // compressed once, though asked for its digest and content
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.AppendLayers(img, layer)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{
		Entrypoint: o.Entrypoint, Cmd: o.Cmd, WorkingDir: o.WorkingDir, User: o.User, Labels: o.Labels,
		Env: append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, o.Env...),
	}
	if len(o.Entrypoint) == 0 {
		file.Config.Entrypoint = []string{binaryPlace}
	}
	for _, port := range o.Ports {
		if file.Config.ExposedPorts == nil {
			file.Config.ExposedPorts = map[string]struct{}{}
		}
		file.Config.ExposedPorts[port] = struct{}{}
	}
	return mutate.ConfigFile(img, file)
}

// layerContent writes the layer as a tar archive, sorted and without times, so that it depends on the content only.
func layerContent(o BuildOptions) ([]byte, error) {
	if o.Binary == "" && len(o.Files) == 0 {
		return nil, errors.New("neither a binary nor files were given")
	}
	files := map[string]string{}
	for place, source := range o.Files {
		files[path.Clean("/"+place)] = source
	}
	if o.Binary != "" {
		if err := checkStatic(o.Binary); err != nil {
			return nil, err
		}
		files[binaryPlace] = o.Binary
	}
	var buffer bytes.Buffer
	out := tar.NewWriter(&buffer)
	dir := func(name string, mode int64) error {
		return out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, ModTime: time.Unix(0, 0)})
	}
	made := map[string]bool{"/": true, "/tmp": true}
	if err := dir("tmp", 0o1777); err != nil {
		return nil, err
	}
	for _, place := range slices.Sorted(maps.Keys(files)) {
		var parents []string
		for parent := path.Dir(place); !made[parent]; parent = path.Dir(parent) {
			made[parent] = true
			parents = append(parents, parent)
		}
		slices.Reverse(parents)
		for _, parent := range parents {
			if err := dir(strings.TrimPrefix(parent, "/"), 0o755); err != nil {
				return nil, err
			}
		}
		if err := addFile(out, place, files[place], place == binaryPlace && o.Binary != ""); err != nil {
			return nil, err
		}
	}
	if err := out.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

func addFile(out *tar.Writer, place, source string, executable bool) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", source)
	}
	mode := int64(0o644)
	if executable || info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	err = out.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: strings.TrimPrefix(place, "/"), Mode: mode, Size: info.Size(), ModTime: time.Unix(0, 0),
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return err
}
