package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"golang.org/x/sys/unix"
)

// volumes prepares the volumes of a Pod and returns where each one is. A volume that is there is left as it is, but for
// what comes from the API: that is brought to what the API has now.
func (n *Node) volumes(ctx context.Context, pod *corev1.Pod) (map[string]string, error) {
	places := map[string]string{}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		place := filepath.Join(n.podData(string(pod.UID)), "volumes", v.Name)
		if v.HostPath != nil {
			place = v.HostPath.Path
		}
		if err := n.volume(ctx, pod, v, place); err != nil {
			return nil, fmt.Errorf("%w: volume %s: %w", errConfig, v.Name, err)
		}
		places[v.Name] = place
	}
	return places, nil
}

// keepVolumes follows the API with the volumes of all Pods that run, until ctx ends: ConfigMaps, Secrets and labels that change, tokens whose time has
// come. What cannot be read stays as it was, and is tried again the next time.
func (n *Node) keepVolumes(ctx context.Context) {
	sync := time.NewTicker(n.VolumeSync)
	defer sync.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sync.C:
		}
		for _, w := range n.allWorkers() {
			var pod *corev1.Pod
			if !w.ask(ctx, func() {
				if w.running() {
					pod = w.described()
				}
			}) || pod == nil {
				continue
			}
			if _, err := n.volumes(ctx, pod); err != nil && ctx.Err() == nil {
				w.logger.Warn("volumes not brought up to date", "error", err)
			}
		}
	}
}

func (n *Node) volume(ctx context.Context, pod *corev1.Pod, v *corev1.Volume, place string) error {
	switch {
	case v.HostPath != nil:
		return hostPath(v.HostPath)
	case v.EmptyDir != nil:
		return emptyDir(pod, v.EmptyDir, place)
	}
	dir, err := openVolume(place)
	if err != nil {
		return err
	}
	defer dir.Close()
	files, err := n.content(ctx, pod, v, dir)
	if err != nil {
		return err
	}
	return dir.publish(files, fsGroup(pod))
}

func emptyDir(pod *corev1.Pod, v *corev1.EmptyDirVolumeSource, place string) error {
	if _, err := os.Stat(place); err == nil {
		return nil
	}
	if err := os.MkdirAll(place, 0o777); err != nil {
		return err
	}
	if v.Medium == corev1.StorageMediumMemory {
		options := "mode=0777"
		if v.SizeLimit != nil && !v.SizeLimit.IsZero() {
			options += fmt.Sprintf(",size=%d", v.SizeLimit.Value())
		}
		if err := unix.Mount("tmpfs", place, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
			return fmt.Errorf("mount tmpfs: %w", err)
		}
	}
	if group := fsGroup(pod); group != nil {
		if err := os.Chown(place, -1, int(*group)); err != nil {
			return err
		}
		return os.Chmod(place, 0o777|fs.ModeSetgid)
	}
	return os.Chmod(place, 0o777)
}

// fsGroup is the group that the Pod's volumes are for, if it names one.
func fsGroup(pod *corev1.Pod) *int64 {
	if s := pod.Spec.SecurityContext; s != nil {
		return s.FSGroup
	}
	return nil
}

// hostPath checks or makes what a hostPath volume promises.
func hostPath(v *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if v.Type != nil {
		kind = *v.Type
	}
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		return os.MkdirAll(v.Path, 0o755)
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(v.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	}
	info, err := os.Stat(v.Path)
	if err != nil {
		return err
	}
	wrong := map[corev1.HostPathType]bool{
		corev1.HostPathDirectory: !info.IsDir(),
		corev1.HostPathFile:      !info.Mode().IsRegular(),
		corev1.HostPathSocket:    info.Mode()&fs.ModeSocket == 0,
		corev1.HostPathCharDev:   info.Mode()&fs.ModeCharDevice == 0,
		corev1.HostPathBlockDev:  info.Mode()&(fs.ModeDevice|fs.ModeCharDevice) != fs.ModeDevice,
	}
	if wrong[kind] {
		return fmt.Errorf("%s is not a %s", v.Path, kind)
	}
	return nil
}

// subPath finds a path inside a volume, making a directory if there is nothing, and refuses one that leads outside.
func subPath(volume, path string) (string, error) {
	root, err := os.OpenRoot(volume)
	if err != nil {
		return "", err
	}
	defer root.Close()
	path = strings.TrimPrefix(filepath.Clean("/"+path), "/")
	if path == "" {
		return volume, nil
	}
	if _, err := root.Stat(path); errors.Is(err, fs.ErrNotExist) {
		err = root.MkdirAll(path, 0o755)
		if err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(filepath.Join(volume, path))
}

// writeJSON replaces a file as a whole.
func writeJSON(path string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
