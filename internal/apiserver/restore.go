package apiserver

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/apiserver/backup"
	"fairway.dev/fairway/internal/apiserver/pki"
)

// minimalBump is how far revisions are moved on by a restore at least.
const minimalBump = 1_000_000_000

// Restore makes the data directory dir what it was when the backup in r was made. Data that is there already is refused, unless
// replace; so is a directory that a server uses. Everything is written beside dir and verified first, and changes places with dir in
// one step: whenever the process or the machine dies, dir holds the old data or the new. Revisions go on at a number that no client
// has seen, and everything before counts as compacted: a watch that was open lists again.
func Restore(r io.Reader, dir string, replace bool) (backup.Manifest, error) {
	var none backup.Manifest
	unlock, exists, err := holdForRestore(dir, replace)
	if err != nil {
		return none, err
	}
	defer unlock()
	staged := restoring(dir)
	if err := os.RemoveAll(staged); err != nil { // of a restore that was killed
		return none, err
	}
	defer func() { _ = os.RemoveAll(staged) }() // what failed, or the old data
	if err := os.Mkdir(staged, 0o700); err != nil {
		return none, err
	}
	manifest, err := unpack(r, staged)
	if err != nil {
		return none, err
	}
	if err := layOut(staged); err != nil {
		return none, fmt.Errorf("the backup's data: %w", err)
	}
	if err := flush(staged); err != nil {
		return none, err
	}
	if err := putInPlace(staged, dir, exists); err != nil {
		return none, fmt.Errorf("data directory %s: put the restored data in place: %w", dir, err)
	}
	return manifest, nil
}

// restoring is where a restore of dir works.
func restoring(dir string) string { return dir + ".restore" }

// holdForRestore refuses what may not be replaced, and keeps servers away from the rest.
func holdForRestore(dir string, replace bool) (release func(), exists bool, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("data directory %s: %w", dir, err)
	}
	lock, err := lockDirectory(dir)
	if err != nil {
		return nil, false, err
	}
	if len(entries) > 0 && !replace {
		_ = lock.Close()
		return nil, false, fmt.Errorf("data directory %s: there is data already; give --force to replace it with the backup's", dir)
	}
	return func() { _ = lock.Close() }, true, nil
}

// unpack writes the files of a backup below dir.
func unpack(r io.Reader, dir string) (backup.Manifest, error) {
	return backup.Read(r, func(name string, content io.Reader) error {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	})
}

// layOut verifies unpacked files and makes etcd's directory of its snapshot.
func layOut(dir string) (err error) {
	defer recovered(&err)
	if _, err := os.Stat(filepath.Join(dir, "pki", "ca.crt")); err != nil {
		return errors.New("the certificate authority is missing")
	}
	if _, err := pki.Open(filepath.Join(dir, "pki")); err != nil {
		return err
	}
	db := filepath.Join(dir, backup.Database)
	state, err := inspect(db)
	if err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	name := embed.NewConfig().Name
	if err := snapshot.NewV3(quietLogger()).Restore(snapshot.RestoreConfig{
		SnapshotPath: db, OutputDataDir: filepath.Join(dir, "etcd"), Name: name,
		PeerURLs: []string{peerURL}, InitialCluster: name + "=" + peerURL, InitialClusterToken: "fairway",
		// Milliseconds since 1970 are more than any database has written that did not write a thousand times each second of its life, and
		// more at each restore.
		RevisionBump:  uint64(max(minimalBump, time.Now().UnixMilli()-state.revision)),
		MarkCompacted: true,
	}); err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	return os.Remove(db)
}

// flush brings all of the file system that holds dir to the disk.
func flush(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("%s: sync: %w", dir, err)
	}
	return nil
}

// putInPlace makes staged what is found at dir, in one step; what was there is at staged then.
func putInPlace(staged, dir string, exists bool) error {
	flags := uint(unix.RENAME_NOREPLACE)
	if exists {
		flags = unix.RENAME_EXCHANGE
	}
	if err := unix.Renameat2(unix.AT_FDCWD, staged, unix.AT_FDCWD, dir, flags); err != nil {
		return err
	}
	return flush(filepath.Dir(dir))
}

// quietLogger says nothing, and ends no process.
func quietLogger() *zap.Logger {
	return zap.NewNop().WithOptions(zap.WithFatalHook(panicOnFatal{}), zap.WithPanicHook(panicOnFatal{}))
}

// panicOnFatal keeps a log line from ending the process, and its cause from being lost: recovered makes an error of both.
type panicOnFatal struct{}

func (panicOnFatal) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	panic(message(entry.Entry, fields))
}

// recovered makes an error of a panic: etcd and its database panic on damaged data.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("it is damaged: %v", p)
	}
}
