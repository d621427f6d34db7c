package image

import (
	"errors"
	"fmt"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// sweep removes what no name leads to any more, and what a process that was killed has left half-written. Root file systems
// on which containers run stay for a later sweep, and so does everything while somebody adds an image: nobody waits for a sweep.
func (s *Store) sweep() error {
	blobs, err := s.lock(blobLock, exclusive|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer blobs.unlock()
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	return errors.Join(s.removeUnreferenced(index), s.removeUnnamed(index))
}

// removeUnnamed deletes the root file systems of images that are not in the index. The caller holds the blob lock exclusively.
func (s *Store) removeUnnamed(index *v1.IndexManifest) error {
	named := map[string]bool{}
	for _, d := range index.Manifests {
		named[d.Digest.Hex] = true
	}
	entries, err := os.ReadDir(s.path("rootfs"))
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		switch name := entry.Name(); {
		case named[name]:
		case strings.HasPrefix(name, "."): // whoever made it held the blob lock, and is gone
			errs = append(errs, os.RemoveAll(s.path("rootfs", name)))
		default:
			err := s.removeRootFS(v1.Hash{Algorithm: "sha256", Hex: name})
			if err != nil && !errors.Is(err, ErrInUse) {
				errs = append(errs, fmt.Errorf("root file system %s: remove: %w", name, err))
			}
		}
	}
	return errors.Join(errs...)
}
