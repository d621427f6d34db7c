package node

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// apiVolume is the directory of a volume whose content comes from the API. Its files are links through one more link, ..data, to a directory that is never
// changed: a new state of all files is put beside and then takes effect as a whole, by one rename. Programs that watch for the change of ..data
// rely on this form, which is the kubelet's.
//
// While it is open, nobody else has it open: the containers of a Pod start at the same time and share it.
type apiVolume struct {
	*os.Root
	lock *os.File
}

// dataLink leads to the files that are in force. Names that begin with ownPrefix are the volume's own; the API lets no file have one.
const (
	ownPrefix = ".."
	dataLink  = ownPrefix + "data"
)

// file is one file of a volume.
type file struct {
	data []byte
	mode int32
	user *int64 // its owner; nil: root
}

// openVolume makes the directory if it is not there, and waits until nobody else has it open.
func openVolume(dir string) (*apiVolume, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		lock.Close()
		return nil, &fs.PathError{Op: "lock", Path: dir, Err: err}
	}
	// Names come from the API server, which has checked that they do not leave the volume; a root makes sure.
	root, err := os.OpenRoot(dir)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &apiVolume{root, lock}, nil
}

// Close lets others open the volume.
func (v *apiVolume) Close() error { return errors.Join(v.Root.Close(), v.lock.Close()) }

// read reads a file that is in force.
func (v *apiVolume) read(name string) ([]byte, error) {
	return v.ReadFile(filepath.Join(dataLink, name))
}

// publish makes the volume hold these files and no others, all at the same time, readable by group if there is one. It writes nothing where nothing has
// changed.
func (v *apiVolume) publish(files map[string]file, group *int64) error {
	current, err := v.Readlink(dataLink)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || !v.holds(current, files, group) {
		if current, err = v.write(files, group); err != nil {
			return err
		}
		_ = v.Remove(dataLink + ".new") // of an attempt that was cut short
		if err := v.Symlink(current, dataLink+".new"); err != nil {
			return err
		}
		if err := v.Rename(dataLink+".new", dataLink); err != nil {
			return err
		}
	}
	return v.tidy(current, files)
}

// write puts the files into a new directory.
func (v *apiVolume) write(files map[string]file, group *int64) (dir string, err error) {
	dir = ownPrefix + rand.Text()
	if err := v.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	dirs := []string{dir}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, path := files[name], filepath.Join(dir, name)
		for parent := filepath.Dir(path); !slices.Contains(dirs, parent); parent = filepath.Dir(parent) {
			dirs = append(dirs, parent)
		}
		if err := v.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := v.WriteFile(path, f.data, 0o600); err != nil {
			return "", err
		}
		if err := v.own(path, f.owner(), group, f.permissions(group)); err != nil {
			return "", err
		}
	}
	for _, d := range dirs {
		mode := fs.FileMode(0o755)
		if group != nil {
			mode |= fs.ModeSetgid
		}
		if err := v.own(d, 0, group, mode); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// own gives a path its owner and mode, in this order, since a new owner takes away the bits above.
func (v *apiVolume) own(path string, user int, group *int64, mode fs.FileMode) error {
	if user != 0 || group != nil {
		if err := v.Chown(path, user, groupOf(group)); err != nil {
			return err
		}
	}
	return v.Chmod(path, mode)
}

func groupOf(group *int64) int {
	if group == nil {
		return 0
	}
	return int(*group)
}

func (f file) owner() int {
	if f.user == nil {
		return 0
	}
	return int(*f.user)
}

// permissions are those of the file, and those of a group to read it.
func (f file) permissions(group *int64) fs.FileMode {
	mode := fs.FileMode(f.mode) & fs.ModePerm
	if group != nil {
		mode |= 0o440
	}
	return mode
}

// holds tells whether a directory has these files and no others.
func (v *apiVolume) holds(dir string, files map[string]file, group *int64) bool {
	count := 0
	err := fs.WalkDir(v.FS(), dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		count++
		f, wanted := files[strings.TrimPrefix(path, dir+"/")]
		info, err := entry.Info()
		if err != nil || !wanted || info.Mode() != f.permissions(group) {
			return errors.Join(err, fs.ErrInvalid)
		}
		if stat := info.Sys().(*syscall.Stat_t); int(stat.Uid) != f.owner() || int(stat.Gid) != groupOf(group) {
			return fs.ErrInvalid
		}
		data, err := v.ReadFile(path)
		if err != nil || !bytes.Equal(data, f.data) {
			return errors.Join(err, fs.ErrInvalid)
		}
		return nil
	})
	return err == nil && count == len(files)
}

// tidy makes the names that a program sees, and removes what does not belong to the state in force.
func (v *apiVolume) tidy(current string, files map[string]file) error {
	seen := map[string]bool{}
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		seen[top] = true
	}
	entries, err := fs.ReadDir(v.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if name == dataLink || name == current {
			continue
		}
		if target, err := v.Readlink(name); seen[name] && err == nil && target == filepath.Join(dataLink, name) {
			delete(seen, name)
			continue
		}
		if err := v.RemoveAll(name); err != nil {
			return err
		}
	}
	for name := range seen {
		if err := v.Symlink(filepath.Join(dataLink, name), name); err != nil {
			return err
		}
	}
	return nil
}
