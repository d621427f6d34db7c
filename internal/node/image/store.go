package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ErrNotFound says that the store has no image of that name.
var ErrNotFound = errors.New("image not found")

// ErrInUse says that a container runs on the image.
var ErrInUse = errors.New("image is in use by a container")

// nameAnnotation is where the OCI image layout keeps the name of an image.
const nameAnnotation = "org.opencontainers.image.ref.name"

// localAnnotation marks an image that was built or imported here.
const localAnnotation = "dev.fairway.local"

// Image is one image under one of its names.
type Image struct {
	Name    string // normalized, see Normalize
	Digest  string // of the manifest: "sha256:…"
	ID      string // of the configuration: "sha256:…"
	Size    int64  // bytes of the compressed layers
	Created time.Time
	Local   bool      // built or imported here: no registry has a newer one
	Config  v1.Config // entry point, environment, user, working directory, stop signal
}

// Store is a directory of images. The zero value is not usable; see Open.
type Store struct {
	dir string
}

// Open returns the store in dir, which is made if it is missing.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	for _, d := range []string{s.path("blobs", "sha256"), s.path("rootfs")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("image store %s: create: %w", dir, err)
		}
	}
	marker := s.path("oci-layout")
	if _, err := os.Stat(marker); errors.Is(err, fs.ErrNotExist) {
		if err := writeFile(marker, []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
			return nil, fmt.Errorf("image store %s: create: %w", dir, err)
		}
	}
	if _, err := s.readIndex(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// Get returns the image of that name, or an error that is ErrNotFound. A name with a digest finds the image by its
// digest, whatever it is called.
func (s *Store) Get(image string) (Image, error) {
	normal, err := Normalize(image)
	if err != nil {
		return Image{}, err
	}
	index, err := s.readIndex()
	if err != nil {
		return Image{}, err
	}
	_, digest, byDigest := strings.Cut(normal, "@")
	for _, d := range index.Manifests {
		if d.Annotations[nameAnnotation] == normal || byDigest && d.Digest.String() == digest {
			return s.describe(d)
		}
	}
	return Image{}, fmt.Errorf("image %s: %w", normal, ErrNotFound)
}

// List returns all images, sorted by name.
func (s *Store) List() ([]Image, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	var images []Image
	for _, d := range index.Manifests {
		if d.Annotations[nameAnnotation] == "" {
			continue
		}
		img, err := s.describe(d)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	slices.SortFunc(images, func(a, b Image) int { return strings.Compare(a.Name, b.Name) })
	return images, nil
}

// Remove takes a name away and, if it was the image's last one, the image. It fails with ErrInUse while a container
// runs on the image.
func (s *Store) Remove(image string) error {
	normal, err := Normalize(image)
	if err != nil {
		return err
	}
	blobs, err := s.lock(blobLock, exclusive)
	if err != nil {
		return err
	}
	defer blobs.unlock()
	return s.updateIndex(func(index *v1.IndexManifest) error {
		at := slices.IndexFunc(index.Manifests, func(d v1.Descriptor) bool { return d.Annotations[nameAnnotation] == normal })
		if at < 0 {
			return fmt.Errorf("image %s: remove: %w", normal, ErrNotFound)
		}
		gone := index.Manifests[at].Digest
		last := !slices.ContainsFunc(index.Manifests, func(d v1.Descriptor) bool {
			return d.Digest == gone && d.Annotations[nameAnnotation] != normal
		})
		if last {
			if err := s.removeRootFS(gone); err != nil {
				return fmt.Errorf("image %s: remove: %w", normal, err)
			}
		}
		index.Manifests = slices.Delete(index.Manifests, at, at+1)
		if last {
			return s.removeUnreferenced(index)
		}
		return nil
	})
}

// image opens the image of a manifest digest.
func (s *Store) image(digest v1.Hash) (v1.Image, error) {
	img, err := layout.Path(s.dir).Image(digest)
	if err != nil {
		return nil, fmt.Errorf("image %s: open: %w", digest, err)
	}
	return img, nil
}

func (s *Store) describe(d v1.Descriptor) (Image, error) {
	out := Image{Name: d.Annotations[nameAnnotation], Digest: d.Digest.String(), Local: d.Annotations[localAnnotation] != ""}
	img, err := s.image(d.Digest)
	if err != nil {
		return out, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return out, fmt.Errorf("image %s: read manifest: %w", out.Name, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return out, fmt.Errorf("image %s: read configuration: %w", out.Name, err)
	}
	for _, layer := range manifest.Layers {
		out.Size += layer.Size
	}
	out.ID = manifest.Config.Digest.String()
	out.Created = config.Created.Time
	out.Config = config.Config
	return out, nil
}

// add writes the blobs of img and gives it a name, which any other image loses; local says that it comes from no registry. An image
// that loses its last name is removed.
func (s *Store) add(image string, img v1.Image, local bool) (Image, error) {
	out, replaced, err := s.put(image, img, local)
	if err == nil && replaced {
		// The new image is there, whatever becomes of the old one: what cannot be removed now goes with a later sweep.
		_ = s.sweep()
	}
	return out, err
}

// put adds without removing; replaced tells that another image has lost the name.
func (s *Store) put(image string, img v1.Image, local bool) (out Image, replaced bool, err error) {
	normal, err := Normalize(image)
	if err != nil {
		return Image{}, false, err
	}
	blobs, err := s.lock(blobLock, shared)
	if err != nil {
		return Image{}, false, err
	}
	defer blobs.unlock()
	descriptor, err := s.writeImage(img)
	if err != nil {
		return Image{}, false, fmt.Errorf("image %s: store: %w", normal, err)
	}
	descriptor.Annotations = map[string]string{nameAnnotation: normal}
	if local {
		descriptor.Annotations[localAnnotation] = "true"
	}
	err = s.updateIndex(func(index *v1.IndexManifest) error {
		index.Manifests = slices.DeleteFunc(index.Manifests, func(d v1.Descriptor) bool {
			same := d.Annotations[nameAnnotation] == normal
			replaced = replaced || same && d.Digest != descriptor.Digest
			return same
		})
		index.Manifests = append(index.Manifests, descriptor)
		return nil
	})
	if err != nil {
		return Image{}, false, err
	}
	out, err = s.describe(descriptor)
	return out, replaced, err
}

func (s *Store) readIndex() (*v1.IndexManifest, error) {
	index := &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	data, err := os.ReadFile(s.path("index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return index, nil
	}
	if err == nil {
		err = json.Unmarshal(data, index)
	}
	if err != nil {
		return nil, fmt.Errorf("image store %s: read index.json: %w", s.dir, err)
	}
	return index, nil
}

func (s *Store) updateIndex(change func(*v1.IndexManifest) error) error {
	lock, err := s.lock(indexLock, exclusive)
	if err != nil {
		return err
	}
	defer lock.unlock()
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	if err := change(index); err != nil {
		return err
	}
	data, err := json.MarshalIndent(index, "", "  ")
	if err == nil {
		err = writeFile(s.path("index.json"), data)
	}
	if err != nil {
		return fmt.Errorf("image store %s: write index.json: %w", s.dir, err)
	}
	return nil
}
