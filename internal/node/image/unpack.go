package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Marks of the OCI layer format: an entry of this prefix removes what is below it by the rest of its name, and one of the opaque name
// removes all that lower layers have in its directory.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// unpack writes the entries of a tar archive below dir. Every path is resolved with dir as the root directory
// (openat2's RESOLVE_IN_ROOT), so that no name or symbolic link in the archive leads outside.
func unpack(archive io.Reader, dir string) error {
	u, err := newUnpacker(dir)
	if err != nil {
		return err
	}
	defer u.close()
	return u.layer(archive)
}

// unpacker lays the layers of an image one over the other.
type unpacker struct{ root int }

func newUnpacker(dir string) (*unpacker, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return &unpacker{root}, nil
}

func (u *unpacker) close() { unix.Close(u.root) }

func (u *unpacker) layer(archive io.Reader) error {
	in := tar.NewReader(archive)
	var dirs []*tar.Header
	own := map[string]bool{} // what this layer has brought so far
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name := path.Clean("/" + header.Name)
		if base := path.Base(name); strings.HasPrefix(base, whiteout) {
			err = u.remove(path.Dir(name), base, own)
		} else {
			own[name] = true
			err = unpackEntry(u.root, header, in)
		}
		if err != nil {
			return fmt.Errorf("entry %s: %w", header.Name, err)
		}
		if header.Typeflag == tar.TypeDir {
			dirs = append(dirs, header)
		}
	}
	// A directory's time changes with each entry made in it, therefore last.
	for _, header := range dirs {
		parent, base, err := openParent(u.root, header.Name)
		if err != nil {
			return err
		}
		setTime(parent, base, header)
		unix.Close(parent)
	}
	return nil
}

// remove carries out a whiteout in dir; what the layer itself has brought stays.
func (u *unpacker) remove(dir, mark string, own map[string]bool) error {
	fd, err := openDir(u.root, strings.TrimSuffix(dir, "/")+"/")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if mark != opaque {
		return removeAll(fd, strings.TrimPrefix(mark, whiteout))
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !own[path.Join(dir, e.Name())] {
			if err := removeAll(fd, e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeAll removes a name in an open directory, with all below it if it is a directory itself. It follows no link.
func removeAll(parent int, name string) error {
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("whiteout of %q", name)
	}
	return os.RemoveAll(fmt.Sprintf("/proc/self/fd/%d/%s", parent, name))
}

// openParent opens the directory that holds name, making what is missing of it, and returns name's last element.
func openParent(root int, name string) (int, string, error) {
	name = path.Clean("/" + name)
	parent, base := path.Split(name)
	if base == "" {
		base = "."
	}
	fd, err := openDir(root, parent)
	if errors.Is(err, unix.ENOENT) {
		above, dir, err := openParent(root, parent)
		if err != nil {
			return -1, "", err
		}
		err = unix.Mkdirat(above, dir, 0o755)
		unix.Close(above)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, "", err
		}
		fd, err = openDir(root, parent)
		return fd, base, err
	}
	return fd, base, err
}

func openDir(root int, name string) (int, error) {
	return unix.Openat2(root, strings.TrimPrefix(name, "/")+".", &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT,
	})
}

func unpackEntry(root int, header *tar.Header, content io.Reader) error {
	parent, base, err := openParent(root, header.Name)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	mode := uint32(header.Mode) & 0o7777
	// An entry takes the place of what is there, unless both are directories.
	var there unix.Stat_t
	err = unix.Fstatat(parent, base, &there, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && (there.Mode&unix.S_IFMT != unix.S_IFDIR || header.Typeflag != tar.TypeDir) {
		err = removeAll(parent, base)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		if err := unix.Mkdirat(parent, base, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	case tar.TypeReg:
		if err := unpackFile(parent, base, content, header); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := unix.Symlinkat(header.Linkname, parent, base); err != nil {
			return err
		}
		return unix.Fchownat(parent, base, header.Uid, header.Gid, unix.AT_SYMLINK_NOFOLLOW)
	case tar.TypeLink:
		from, fromBase, err := openParent(root, header.Linkname)
		if err != nil {
			return err
		}
		defer unix.Close(from)
		return unix.Linkat(from, fromBase, parent, base, 0)
	case tar.TypeFifo:
		if err := unix.Mknodat(parent, base, unix.S_IFIFO|mode, 0); err != nil {
			return err
		}
	default:
		return nil // devices: a container's /dev is made for it, whatever the image holds
	}
	if err := unix.Fchownat(parent, base, header.Uid, header.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	// After the owner, because changing the owner clears the set-user-id bit.
	if err := unix.Fchmodat(parent, base, mode, 0); err != nil {
		return err
	}
	setTime(parent, base, header)
	return nil
}

func unpackFile(parent int, base string, content io.Reader, header *tar.Header) error {
	fd, err := unix.Openat(parent, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := io.Copy(fdWriter(fd), content); err != nil {
		return err
	}
	for key, value := range header.PAXRecords {
		if attribute, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if err := unix.Fsetxattr(fd, attribute, []byte(value), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
				return fmt.Errorf("set attribute %s: %w", attribute, err)
			}
		}
	}
	return nil
}

// setTime is best effort: nothing depends on an image's file times.
func setTime(parent int, base string, header *tar.Header) {
	t, err := unix.TimeToTimespec(header.ModTime)
	if err == nil {
		_ = unix.UtimesNanoAt(parent, base, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
	}
}

// fdWriter writes to a file descriptor without taking it over, as os.File would.
type fdWriter int

func (fd fdWriter) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := unix.Write(int(fd), p[written:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}
