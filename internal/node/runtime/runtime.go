package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/node/image"
	"fairway.dev/fairway/internal/node/shim"
)

// logLimit is the size at which a container's log is moved aside: with the one moved aside before, a container keeps at
// most twice as much.
const logLimit = 10 << 20

// Runtime starts containers.
type Runtime struct {
	runc string
	root string // runc's own state
}

// New looks for runc, by the given path or name (empty: "runc"), and keeps its state in runDir.
func New(runc, runDir string) (*Runtime, error) {
	if runc == "" {
		runc = "runc"
	}
	path, err := exec.LookPath(runc)
	if err != nil {
		return nil, fmt.Errorf("runc, which starts containers, was not found: install it (Debian: apt install runc) or name its path: %w", err)
	}
	return &Runtime{runc: path, root: filepath.Join(runDir, "runc")}, nil
}

// Place says where a container's files are.
type Place struct {
	State string // directory of small files, gone after a reboot: bundle, records, mount point of the root
	Data  string // directory of what the container writes; on a file system that an overlay may write to
	Log   string // log file
}

func (p Place) rootfs() string { return filepath.Join(p.State, "rootfs") }

// Start makes and starts a container in a place that no other container had. After an error nothing is left but the log.
func (r *Runtime) Start(ctx context.Context, c Container, place Place, root *image.RootFS) (_ *Running, err error) {
	defer func() {
		if err != nil {
			r.clear(c.ID, c.Cgroup, place)
			err = fmt.Errorf("container %s: start: %w", c.ID, err)
		}
	}()
	if err := mountRoot(place, root.Path); err != nil {
		return nil, err
	}
	config, err := json.Marshal(Spec(c, place.rootfs()))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(place.State, "config.json"), config, 0o600); err != nil {
		return nil, err
	}
	err = shim.WriteConfig(place.State, shim.Config{
		ID: c.ID, Runc: r.runc, Root: r.root, Bundle: place.State, Log: place.Log, LogLimit: logLimit, Cgroup: c.Cgroup,
		Stdin: c.Input.Stdin, StdinOnce: c.Input.Once, Terminal: c.Input.Terminal,
	})
	if err != nil {
		return nil, err
	}
	started, err := shim.Start(ctx, place.State, root.File)
	if err != nil {
		return nil, err
	}
	return r.running(c.ID, c.Cgroup, place, started)
}

// Load finds a container that an earlier process started, running or ended.
func (r *Runtime) Load(place Place) (*Running, error) {
	c, err := shim.ReadConfig(place.State)
	if err != nil {
		return nil, fmt.Errorf("container in %s: load: %w", place.State, err)
	}
	started, err := shim.ReadStarted(place.State)
	if err != nil {
		return nil, fmt.Errorf("container %s: load: %w", c.ID, err)
	}
	return r.running(c.ID, c.Cgroup, place, started)
}

// Discard removes what is left of a container that cannot be loaded, because its start was cut short.
func (r *Runtime) Discard(place Place) error {
	shim.Kill(place.State)
	c, err := shim.ReadConfig(place.State)
	if errors.Is(err, fs.ErrNotExist) { // runc has not been told about it yet
		return discardFiles(place)
	}
	if err != nil {
		return errors.Join(err, discardFiles(place))
	}
	if err := r.clear(c.ID, c.Cgroup, place); err != nil {
		return fmt.Errorf("container %s: remove: %w", c.ID, err)
	}
	return nil
}

// mountRoot lays a writable layer over the unpacked image.
func mountRoot(place Place, lower string) error {
	upper, work := filepath.Join(place.Data, "upper"), filepath.Join(place.Data, "work")
	for _, dir := range []string{place.rootfs(), upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	options := "lowerdir=" + escape(lower) + ",upperdir=" + escape(upper) + ",workdir=" + escape(work)
	if err := unix.Mount("overlay", place.rootfs(), "overlay", 0, options); err != nil {
		return fmt.Errorf("mount overlay at %s: %w", place.rootfs(), err)
	}
	return nil
}

// escape protects the characters that separate mount options and lower directories.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `:`, `\:`).Replace(path)
}

// clear removes what a container may have left, in whatever state it is. The log stays.
func (r *Runtime) clear(id, cgroup string, place Place) error {
	var errs []error
	if out, err := exec.Command(r.runc, "--root", r.root, "delete", "--force", id).CombinedOutput(); err != nil {
		if !strings.Contains(string(out), "does not exist") {
			errs = append(errs, fmt.Errorf("runc delete: %s", strings.TrimSpace(string(out))))
		}
	}
	return errors.Join(append(errs, RemoveCgroup(cgroup), discardFiles(place))...)
}

// discardFiles unmounts a container's root and removes all its files but the log.
func discardFiles(place Place) error {
	err := unix.Unmount(place.rootfs(), unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", place.rootfs(), err) // what is still mounted must not be deleted
	}
	return errors.Join(os.RemoveAll(place.State), os.RemoveAll(place.Data))
}
