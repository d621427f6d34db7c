package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// writeImage stores the layers, the configuration and the manifest of img, in this order, so that whatever is referred
// to is there.
func (s *Store) writeImage(img v1.Image) (v1.Descriptor, error) {
	layers, err := img.Layers()
	if err != nil {
		return v1.Descriptor{}, err
	}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			return v1.Descriptor{}, err
		}
		if err := s.writeBlob(digest, layer.Compressed); err != nil {
			return v1.Descriptor{}, err
		}
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return v1.Descriptor{}, err
	}
	configDigest, err := img.ConfigName()
	if err != nil {
		return v1.Descriptor{}, err
	}
	if err := s.writeBlob(configDigest, inMemory(config)); err != nil {
		return v1.Descriptor{}, err
	}
	manifest, err := img.RawManifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	if err := s.writeBlob(digest, inMemory(manifest)); err != nil {
		return v1.Descriptor{}, err
	}
	mediaType, err := img.MediaType()
	if err != nil {
		mediaType = types.OCIManifestSchema1
	}
	return v1.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(manifest))}, nil
}

func inMemory(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// writeBlob stores what open reads, unless it is there already, and refuses content that is not what the digest says.
func (s *Store) writeBlob(digest v1.Hash, open func() (io.ReadCloser, error)) (err error) {
	place := s.path("blobs", digest.Algorithm, digest.Hex)
	if _, err := os.Stat(place); err == nil {
		return nil
	}
	in, err := open()
	if err != nil {
		return fmt.Errorf("blob %s: read: %w", digest, err)
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(place), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		out.Close()
		if err != nil {
			os.Remove(out.Name())
		}
	}()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, sum), in); err != nil {
		return fmt.Errorf("blob %s: write: %w", digest, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest.Hex {
		return fmt.Errorf("blob %s: content has digest sha256:%s", digest, got)
	}
	if err := out.Chmod(0o644); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(out.Name(), place)
}

// removeUnreferenced deletes the blobs that no image of the index needs. The caller holds the blob lock exclusively.
func (s *Store) removeUnreferenced(index *v1.IndexManifest) error {
	keep := map[string]bool{}
	for _, d := range index.Manifests {
		img, err := s.image(d.Digest)
		if err != nil {
			return err
		}
		manifest, err := img.Manifest()
		if err != nil {
			return fmt.Errorf("image %s: read manifest: %w", d.Digest, err)
		}
		keep[d.Digest.Hex] = true
		keep[manifest.Config.Digest.Hex] = true
		for _, layer := range manifest.Layers {
			keep[layer.Digest.Hex] = true
		}
	}
	entries, err := os.ReadDir(s.path("blobs", "sha256"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !keep[entry.Name()] {
			if err := os.Remove(s.path("blobs", "sha256", entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeFile replaces a file as a whole: a reader sees the old content or the new.
func writeFile(path string, data []byte) error {
	out, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	if err == nil {
		err = out.Chmod(0o644)
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(out.Name(), path)
	}
	if err != nil {
		os.Remove(out.Name())
	}
	return err
}
