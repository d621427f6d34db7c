package image

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The lock files of a store. Whoever takes both takes blobLock first.
const (
	blobLock  = "blobs.lock" // shared: blobs are being added; exclusive: unreferenced blobs are being removed
	indexLock = "index.lock" // exclusive: index.json is being replaced. Readers need no lock
)

const (
	shared    = unix.LOCK_SH
	exclusive = unix.LOCK_EX
)

type fileLock struct{ file *os.File }

// lock waits for the lock; it also excludes other lockers of the same process, since each call opens the file anew.
func (s *Store) lock(name string, how int) (*fileLock, error) {
	file, err := os.OpenFile(s.path(name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("image store %s: lock: %w", s.dir, err)
	}
	for {
		err = unix.Flock(int(file.Fd()), how)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("image store %s: lock %s: %w", s.dir, name, err)
	}
	return &fileLock{file}, nil
}

func (l *fileLock) unlock() { l.file.Close() }
