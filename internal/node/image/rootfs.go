package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// RootFS is an unpacked image, held: it cannot be removed until every holder has closed it. The hold is a shared lock on
// the open directory, so that it passes to a child process together with File.
type RootFS struct {
	Path string
	File *os.File
}

// Close lets go of the image.
func (r *RootFS) Close() error { return r.File.Close() }

// RootFS unpacks the image unless that was done before, and returns the directory, which must not be written to.
func (s *Store) RootFS(img Image) (*RootFS, error) {
	digest, err := v1.NewHash(img.Digest)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", img.Name, err)
	}
	place := s.path("rootfs", digest.Hex)
	for {
		held, err := hold(place, shared)
		if err == nil {
			return held, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("image %s: open root file system: %w", img.Name, err)
		}
		if err := s.unpackImage(digest, place); err != nil {
			return nil, fmt.Errorf("image %s: unpack: %w", img.Name, err)
		}
	}
}

func (s *Store) unpackImage(digest v1.Hash, place string) error {
	blobs, err := s.lock(blobLock, shared)
	if err != nil {
		return err
	}
	defer blobs.unlock()
	img, err := s.image(digest)
	if err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(s.path("rootfs"), ".new-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh) // of no effect once it was renamed
	if err := unpackLayers(img, fresh); err != nil {
		return err
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return err
	}
	err = os.Rename(fresh, place)
	if errors.Is(err, fs.ErrExist) { // somebody else was faster
		return nil
	}
	return err
}

func unpackLayers(img v1.Image, dir string) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	u, err := newUnpacker(dir)
	if err != nil {
		return err
	}
	defer u.close()
	for i, layer := range layers {
		content, err := layer.Uncompressed()
		if err == nil {
			err = u.layer(content)
			content.Close()
		}
		if err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
}

func hold(place string, how int) (*RootFS, error) {
	dir, err := os.Open(place)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), how|unix.LOCK_NB); err != nil {
		dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, err
	}
	// Between opening and locking, the directory may have been moved away for removal.
	if _, err := os.Stat(place); err != nil {
		dir.Close()
		return nil, err
	}
	return &RootFS{Path: place, File: dir}, nil
}

// removeRootFS deletes the unpacked image; ErrInUse while somebody holds it.
func (s *Store) removeRootFS(digest v1.Hash) error {
	place := s.path("rootfs", digest.Hex)
	held, err := hold(place, exclusive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer held.Close()
	trash, err := os.MkdirTemp(s.path("rootfs"), ".old-*")
	if err != nil {
		return err
	}
	if err := os.Rename(place, trash+"/rootfs"); err != nil {
		return err
	}
	return os.RemoveAll(trash)
}
