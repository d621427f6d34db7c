package apiserver

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"fairway.dev/fairway/internal/apiserver/backup"
)

// Backup writes a backup of the data directory dir to w: a consistent copy of the database, the certificates with their keys,
// and the files that the caller keeps in dir itself. It holds every write that was acknowledged before it began. A server may be running on
// dir, in another process or this one; nothing stops for it. The copy of the database lies in the directory spool for a moment, without a
// name. about names the instance and the version; the complete manifest is returned.
func Backup(ctx context.Context, dir string, about backup.Manifest, spool string, w io.Writer) (backup.Manifest, error) {
	db, err := os.CreateTemp(spool, ".fairway-backup-*") // 0600
	if err != nil {
		return about, err
	}
	defer func() { _ = db.Close() }()
	if err := os.Remove(db.Name()); err != nil {
		return about, err
	}
	if err := copyDatabase(ctx, dir, db); err != nil {
		return about, fmt.Errorf("data directory %s: copy the database: %w", dir, err)
	}
	state, err := inspect(fmt.Sprintf("/proc/self/fd/%d", db.Fd()))
	if err != nil {
		return about, fmt.Errorf("data directory %s: the copy of the database: %w", dir, err)
	}
	about.Revision, about.Objects = state.revision, state.objects
	out, err := backup.NewWriter(w, about)
	if err != nil {
		return about, err
	}
	if err := addOpen(out, backup.Database, db); err != nil {
		return about, err
	}
	if err := addFiles(out, dir); err != nil {
		return about, err
	}
	return about, out.Close()
}

// copyDatabase asks the etcd that runs on the directory for a copy, or starts one for it: the log may hold what the file does not yet.
func copyDatabase(ctx context.Context, dir string, to io.Writer) error {
	lock, err := lockDirectory(dir)
	switch {
	case errors.Is(err, errInUse):
		at, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer func() { _ = at.Close() }()
		return copySnapshot(ctx, "unix://"+socketIn(at, "etcd"), to)
	case err != nil:
		return err
	}
	defer func() { _ = lock.Close() }()
	if _, err := os.Stat(filepath.Join(dir, "etcd", "member")); err != nil {
		return fmt.Errorf("there is none: %w", err)
	}
	d, err := newDatabase(dir, false, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer d.close()
	if err := d.start(); err != nil {
		return err
	}
	defer d.stop()
	return copySnapshot(ctx, d.endpoint(), to)
}

// copySnapshot streams a copy, which ends with its checksum.
func copySnapshot(ctx context.Context, endpoint string, to io.Writer) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Context: ctx, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	from, err := client.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	n, err := io.Copy(to, from)
	if err == nil && n%512 != sha256.Size {
		return fmt.Errorf("etcd ended it in the middle, after %d bytes", n)
	}
	return err
}

// contents is what a database file holds.
type contents struct {
	revision int64
	objects  int
}

// inspect reads all of a database file and says what is in it, or what is wrong with it.
func inspect(path string) (found contents, err error) {
	defer recovered(&err)
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return found, err
	}
	defer func() { _ = db.Close() }()
	err = db.View(func(tx *bolt.Tx) error {
		var wrong error
		for err := range tx.Check() { // to its end: it holds the transaction
			if wrong == nil {
				wrong = err
			}
		}
		keys := tx.Bucket(schema.Key.Name())
		if wrong != nil || keys == nil {
			return fmt.Errorf("it is damaged: %w", cmp.Or(wrong, errors.New("it has no keys")))
		}
		objects := make(map[string]struct{})
		err := keys.ForEach(func(revision, value []byte) error {
			var kv mvccpb.KeyValue
			if err := proto.Unmarshal(value, &kv); err != nil {
				return fmt.Errorf("it is damaged: %w", err)
			}
			found.revision = mvcc.BytesToRev(revision).Main
			switch key := string(kv.Key); {
			case mvcc.IsTombstone(revision):
				delete(objects, key)
			case strings.HasPrefix(key, registry+"/"):
				objects[key] = struct{}{}
			}
			return nil
		})
		found.objects = len(objects)
		return err
	})
	return found, err
}

// addFiles adds the certificates, and the regular files beside them; sockets and the lock are not data.
func addFiles(out *backup.Writer, dir string) error {
	for _, sub := range []string{".", "pki"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			name := filepath.Join(sub, entry.Name())
			if !entry.Type().IsRegular() || name == lockName {
				continue
			}
			if err := addFile(out, dir, name); err != nil && !errors.Is(err, fs.ErrNotExist) { // a file that is being replaced has another name for a moment
				return err
			}
		}
	}
	return nil
}

func addFile(out *backup.Writer, dir, name string) error {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return addOpen(out, name, f)
}

// addOpen adds an open file from its beginning.
func addOpen(out *backup.Writer, name string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return out.File(name, info.Size(), io.NewSectionReader(f, 0, info.Size()))
}
