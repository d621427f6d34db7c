package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// CgroupPath is the control group of an instance's Pod, or of all its Pods if pod is empty, in every hierarchy.
func CgroupPath(instance, pod string) string { return filepath.Join("/fairway", instance, pod) }

// RemoveEmptyRoot removes the control group above all instances, unless another instance is in it.
func RemoveEmptyRoot() error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range roots {
		err := unix.Rmdir(filepath.Join(root, "/fairway"))
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, fmt.Errorf("control group %s/fairway: remove: %w", root, err))
		}
	}
	return errors.Join(errs...)
}

// hierarchies lists where control groups are mounted.
func hierarchies() ([]string, error) {
	const mount = "/sys/fs/cgroup"
	roots := []string{mount}
	if _, err := os.Stat(mount + "/cgroup.controllers"); err == nil {
		return roots, nil
	}
	entries, err := os.ReadDir(mount)
	if err != nil {
		return nil, fmt.Errorf("control groups: list: %w", err)
	}
	for _, e := range entries {
		roots = append(roots, filepath.Join(mount, e.Name()))
	}
	return roots, nil
}

// busyLimit bounds the wait for the kernel to let go of a control group and all below it.
const busyLimit = 2 * time.Second

// removeGroup removes one control group. The kernel calls it busy for some milliseconds after its last process has ended, and while one
// that was killed is still on its way out, listed or not; it has no way to tell when that is over.
func removeGroup(dir string, deadline time.Time) error {
	for ; ; time.Sleep(5 * time.Millisecond) {
		err := unix.Rmdir(dir)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}

// RemoveCgroup removes a control group and all below it, in the one hierarchy of version 2 or in every one of version 1. One
// that is absent is fine; one that still has processes is an error.
func RemoveCgroup(path string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	deadline := time.Now().Add(busyLimit)
	for _, root := range roots {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(root, path), func(dir string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if e.IsDir() {
				dirs = append(dirs, dir)
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("control group %s: list: %w", path, err))
		}
		for _, dir := range slices.Backward(dirs) {
			if err := removeGroup(dir, deadline); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("control group %s: remove: %w", dir, err))
			}
		}
	}
	return errors.Join(errs...)
}
