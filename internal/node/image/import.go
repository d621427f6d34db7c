package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// containerdName is where containerd's and docker's archives keep the full name of an image.
const containerdName = "io.containerd.image.name"

// Import stores the images of a directory that is an OCI image layout, of a tar archive of one, or of an archive that
// "docker save" wrote. An image without a name gets the name given in as; with as and a single image, as wins.
func (s *Store) Import(path, as string) ([]Image, error) {
	images, err := s.importFrom(path, as)
	if err != nil {
		return images, fmt.Errorf("import %s: %w", path, err)
	}
	return images, nil
}

func (s *Store) importFrom(path, as string) ([]Image, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return s.importLayout(path, as)
	}
	docker, err := contains(path, "manifest.json")
	if err != nil {
		return nil, err
	}
	if docker {
		return s.importDockerArchive(path, as)
	}
	dir, err := os.MkdirTemp(s.dir, ".import-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := unpack(file, dir); err != nil {
		return nil, err
	}
	return s.importLayout(dir, as)
}

// contains tells whether a tar archive has an entry of that name.
func contains(path, entry string) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	archive := tar.NewReader(file)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("neither a directory nor a tar archive: %w", err)
		}
		if filepath.Clean(header.Name) == entry {
			return true, nil
		}
	}
}

type named struct {
	name  string
	image v1.Image
}

func (s *Store) importLayout(dir, as string) ([]Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("not an OCI image layout: it has no index.json")
	}
	if err != nil {
		return nil, err
	}
	found, err := imagesOf(index, "")
	if err != nil {
		return nil, err
	}
	return s.addAll(found, as)
}

// imagesOf collects the images of an index that this machine can run; a nested index is one image for several platforms.
func imagesOf(index v1.ImageIndex, inherited string) ([]named, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var found []named
	for _, d := range manifest.Manifests {
		title := d.Annotations[containerdName]
		if title == "" {
			title = d.Annotations[nameAnnotation]
		}
		if title == "" {
			title = inherited
		}
		switch {
		case d.MediaType.IsIndex():
			nested, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			more, err := imagesOf(nested, title)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		case d.MediaType.IsImage():
			if p := d.Platform; p != nil && (p.OS != "linux" || p.Architecture != runtime.GOARCH) {
				continue
			}
			img, err := index.Image(d.Digest)
			if err != nil {
				return nil, err
			}
			found = append(found, named{title, img})
		}
	}
	return found, nil
}

func (s *Store) importDockerArchive(path, as string) ([]Image, error) {
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(path) })
	if err != nil {
		return nil, err
	}
	var found []named
	for _, entry := range manifest {
		if len(entry.RepoTags) == 0 {
			if len(manifest) > 1 {
				continue
			}
			img, err := tarball.ImageFromPath(path, nil)
			if err != nil {
				return nil, err
			}
			found = append(found, named{"", img})
		}
		for _, title := range entry.RepoTags {
			tag, err := name.NewTag(title)
			if err != nil {
				return nil, err
			}
			img, err := tarball.ImageFromPath(path, &tag)
			if err != nil {
				return nil, err
			}
			found = append(found, named{title, img})
		}
	}
	return s.addAll(found, as)
}

func (s *Store) addAll(found []named, as string) ([]Image, error) {
	if len(found) == 0 {
		return nil, fmt.Errorf("it holds no image for linux/%s", runtime.GOARCH)
	}
	var images []Image
	for _, f := range found {
		title := f.name
		if as != "" && (title == "" || len(found) == 1) {
			title = as
		}
		if title == "" {
			return images, errors.New("the image has no name in the archive: give one")
		}
		// A layout may hold only a tag; a name then has to come from the caller.
		if strings.HasPrefix(title, ":") {
			return images, fmt.Errorf("the image's name in the archive is %q: give a full one", title)
		}
		img, err := s.add(title, f.image, true)
		if err != nil {
			return images, err
		}
		images = append(images, img)
	}
	return images, nil
}
