package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"fairway.dev/fairway/internal/apiserver"
	"fairway.dev/fairway/internal/apiserver/backup"
)

// BackupInfo is what a backup is, and the JSON of -o json. Fields are only ever added.
type BackupInfo struct {
	File     string    `json:"file"`
	Instance string    `json:"instance"` // of which it was made
	Version  string    `json:"version"`
	Created  time.Time `json:"created"`
	Objects  int       `json:"objects"`
	Revision int64     `json:"revision"`
	Size     int64     `json:"size,omitempty"` // bytes of the file
}

// Backup writes the data of an instance, running or not, to a file of mode 0600, which is there when it is complete and not before.
func Backup(ctx context.Context, i Instance, file string) (BackupInfo, error) {
	info, err := os.Stat(file)
	if err == nil && !info.Mode().IsRegular() {
		return BackupInfo{}, fmt.Errorf("%s is no regular file; name a file, or - for standard output", file)
	}
	dir := filepath.Dir(file)
	out, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*") // 0600
	if err != nil {
		return BackupInfo{}, fmt.Errorf("%s: %w", file, err)
	}
	defer func() { _ = os.Remove(out.Name()) }() // fails, as it should, after the rename
	b, err := BackupTo(ctx, i, dir, out)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return BackupInfo{}, err
	}
	if info, err = os.Stat(out.Name()); err != nil {
		return BackupInfo{}, err
	}
	b.File, b.Size = file, info.Size()
	return b, os.Rename(out.Name(), file)
}

// BackupTo writes the data of an instance, running or not, to out; the database is copied into the directory spool first.
func BackupTo(ctx context.Context, i Instance, spool string, out io.Writer) (BackupInfo, error) {
	if err := ofRoot("the keys of the cluster are in a backup"); err != nil {
		return BackupInfo{}, err
	}
	if _, err := os.Stat(i.api()); errors.Is(err, fs.ErrNotExist) {
		return BackupInfo{}, fmt.Errorf("instance %q has no data in %s: there is nothing to back up", i.Name, i.DataDir)
	}
	m, err := apiserver.Backup(ctx, i.api(), backup.Manifest{Instance: i.Name, Version: Version, Created: time.Now().UTC().Truncate(time.Second)}, spool, out)
	return backupInfo(m), err
}

// Restore makes the data of an instance that does not run what it was when the backup was made; the file - is in. Where there is data
// already, it takes replace.
func Restore(i Instance, file string, in io.Reader, replace bool) (info BackupInfo, err error) {
	if err := ofRoot("the data directory belongs to root"); err != nil {
		return BackupInfo{}, err
	}
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return BackupInfo{}, err
		}
		defer f.Close()
		in = f
	}
	removeNew := i.removeNew()
	unlock, err := i.lock()
	if err != nil {
		return BackupInfo{}, err
	}
	defer unlock()
	defer func() {
		if err != nil {
			err = errors.Join(err, removeNew())
		}
	}()
	if err := os.MkdirAll(i.DataDir, 0o711); err != nil {
		return BackupInfo{}, fmt.Errorf("data directory: %w", err)
	}
	m, err := apiserver.Restore(in, i.api(), replace)
	info = backupInfo(m)
	info.File = file
	return info, err
}

func backupInfo(m backup.Manifest) BackupInfo {
	return BackupInfo{Instance: m.Instance, Version: m.Version, Created: m.Created, Objects: m.Objects, Revision: m.Revision}
}

// ofRoot refuses everybody else, and says why.
func ofRoot(why string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("this needs root: %s; run it with sudo", why)
	}
	return nil
}
