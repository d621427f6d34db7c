package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairway.dev/fairway/internal/node/image"
	"fairway.dev/fairway/internal/node/runtime"
)

// startError says, in the kubelet's words, why a container was not started.
type startError struct {
	reason string
	err    error
}

func (e *startError) Error() string { return e.err.Error() }
func (e *startError) Unwrap() error { return e.err }

// launched is a container that was started.
type launched struct {
	running *runtime.Running
	image   image.Image
}

// launch does all that a container needs before and for its start. The Pod carries its addresses in its status. A pull, which may take
// minutes, ends with wanted; the start itself, which does not, goes to its end.
func (n *Node) launch(ctx, wanted context.Context, pod *corev1.Pod, netns string, c *corev1.Container, attempt int32) (launched, error) {
	img, err := n.ensureImage(wanted, pod, c)
	if err != nil {
		return launched{}, err
	}
	configError := func(err error) error {
		reason := "CreateContainerError"
		if errors.Is(err, errConfig) {
			reason = "CreateContainerConfigError"
		}
		return &startError{reason, err}
	}
	root, err := n.Images.RootFS(img)
	if err != nil {
		return launched{}, configError(err)
	}
	defer root.Close() // the shim holds it from here on
	place := n.place(pod, c.Name, attempt)
	if err := os.MkdirAll(place.State, 0o755); err != nil {
		return launched{}, configError(err)
	}
	described, err := n.describe(ctx, pod, netns, c, img, root.Path, place)
	if err != nil {
		return launched{}, configError(err)
	}
	described.ID = newID()
	record := containerRecord{ID: described.ID, Image: img.Name, ImageID: img.Digest}
	if err := writeJSON(filepath.Join(place.State, "container.json"), record); err != nil {
		return launched{}, configError(err)
	}
	running, err := n.runtime.Start(ctx, described, place, root)
	if err != nil {
		return launched{image: img}, &startError{"StartError", err}
	}
	return launched{running, img}, nil
}

func newID() string {
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// containerRecord is what is kept about a container beside what the runtime keeps.
type containerRecord struct {
	ID, Image, ImageID string
}

func (n *Node) place(pod *corev1.Pod, container string, attempt int32) runtime.Place {
	uid, number := string(pod.UID), strconv.Itoa(int(attempt))
	return runtime.Place{
		State: filepath.Join(n.podRun(uid), "containers", container, number),
		Data:  filepath.Join(n.podData(uid), "containers", container, number),
		Log:   n.logPath(uid, container, attempt),
	}
}

func (n *Node) logPath(uid, container string, attempt int32) string {
	return filepath.Join(n.podData(uid), "logs", container, strconv.Itoa(int(attempt))+".log")
}

// ensureImage finds or pulls the image by the container's pull policy. An image that was built or imported here counts as just
// pulled: no registry knows a newer one.
func (n *Node) ensureImage(ctx context.Context, pod *corev1.Pod, c *corev1.Container) (image.Image, error) {
	name, err := image.Normalize(c.Image)
	if err != nil {
		return image.Image{}, &startError{"InvalidImageName", err}
	}
	img, err := n.Images.Get(name)
	switch {
	case err == nil && (c.ImagePullPolicy != corev1.PullAlways || img.Local):
		n.event(pod, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine", c.Image)
		return img, nil
	case err != nil && !errors.Is(err, image.ErrNotFound):
		return image.Image{}, &startError{"ErrImageInspect", err}
	case c.ImagePullPolicy == corev1.PullNever:
		return image.Image{}, &startError{"ErrImageNeverPull", fmt.Errorf("container image %q is not present with pull policy of Never", c.Image)}
	}
	n.event(pod, corev1.EventTypeNormal, "Pulling", "Pulling image %q", c.Image)
	img, err = n.Images.Pull(ctx, c.Image)
	if err != nil {
		if ctx.Err() == nil {
			n.event(pod, corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", c.Image, err)
		}
		return image.Image{}, &startError{"ErrImagePull", err}
	}
	n.event(pod, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q", c.Image)
	return img, nil
}

// describe turns the Pod's and the image's description into the runtime's.
func (n *Node) describe(ctx context.Context, pod *corev1.Pod, netns string, c *corev1.Container, img image.Image, rootfs string, place runtime.Place) (runtime.Container, error) {
	out := runtime.Container{NetNS: netns, Dir: c.WorkingDir, Cgroup: runtime.CgroupPath(n.Instance, string(pod.UID)) + "/" + c.Name + "-" + filepath.Base(place.State)}
	if !pod.Spec.HostNetwork {
		out.Hostname = hostname(pod)
	}
	if out.Dir == "" {
		out.Dir = img.Config.WorkingDir
	}
	values, links, err := n.environment(ctx, pod, c)
	if err != nil {
		return out, err
	}
	if links.left > 0 {
		n.event(pod, corev1.EventTypeWarning, "ServiceLinksLeftOut",
			"container %s: the environment has variables of the %d oldest Services only, and %d are left out, because more than %d KiB of them would keep programs from starting; "+
				"DNS has all Services, and enableServiceLinks: false in the Pod's spec does without the variables", c.Name, links.all-links.left, links.left, maxServiceLinks>>10)
	}
	out.Env = variables(img.Config.Env, out.Hostname, links.environment(values))
	if out.Args = command(c, img.Config.Entrypoint, img.Config.Cmd, values); len(out.Args) == 0 {
		return out, fmt.Errorf("%w: neither the container nor the image %s names a command", errConfig, img.Name)
	}
	if out.User, err = user(pod, c, img.Config.User, rootfs); err != nil {
		return out, err
	}
	out.Input = runtime.Input{Stdin: c.Stdin, Once: c.StdinOnce, Terminal: c.TTY}
	out.Security = security(pod, c)
	out.Limits = limits(c)
	volumes, err := n.volumes(ctx, pod)
	if err != nil {
		return out, err
	}
	if out.Mounts, err = n.mounts(pod, c, volumes, values, place); err != nil {
		return out, err
	}
	return out, nil
}

// mounts lists the Pod's volumes as the container wants them, and the files that every container gets.
func (n *Node) mounts(pod *corev1.Pod, c *corev1.Container, volumes, values map[string]string, place runtime.Place) ([]runtime.Mount, error) {
	var mounts []runtime.Mount
	taken := map[string]bool{}
	for _, m := range c.VolumeMounts {
		source, found := volumes[m.Name]
		if !found {
			return nil, fmt.Errorf("%w: the Pod has no volume %s", errConfig, m.Name)
		}
		inner := m.SubPath
		if m.SubPathExpr != "" {
			inner = command(&corev1.Container{Command: []string{m.SubPathExpr}}, nil, nil, values)[0]
		}
		if inner != "" {
			var err error
			if source, err = subPath(source, inner); err != nil {
				return nil, fmt.Errorf("%w: volume %s: subPath %s: %w", errConfig, m.Name, inner, err)
			}
		}
		mounts = append(mounts, runtime.Mount{Source: source, Target: m.MountPath, ReadOnly: m.ReadOnly || fromAPI(pod, m.Name)})
		taken[filepath.Clean(m.MountPath)] = true
	}
	terminationLog := c.TerminationMessagePath
	if terminationLog == "" {
		terminationLog = corev1.TerminationMessagePathDefault
	}
	own, err := n.ownFiles(pod, place)
	if err != nil {
		return nil, err
	}
	own[terminationLog] = filepath.Join(place.State, terminationFile)
	for _, target := range []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", terminationLog} {
		if source, made := own[target]; made && !taken[filepath.Clean(target)] {
			mounts = append(mounts, runtime.Mount{Source: source, Target: target})
		}
	}
	return mounts, nil
}

// terminationFile is where a container may leave a message about its end.
const terminationFile = "termination-log"

// ownFiles writes the files that every container gets, and returns them by their path in the container. A Pod on the machine's network
// gets the machine's own names.
func (n *Node) ownFiles(pod *corev1.Pod, place runtime.Place) (map[string]string, error) {
	host, err := hostResolver()
	if err != nil {
		return nil, err
	}
	var ips []string
	for _, ip := range pod.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	content := map[string]string{
		"/etc/resolv.conf": podResolver(pod, host, n.ClusterDNS, n.ClusterDomain).String(),
		"/etc/hosts":       hostsFile(pod, ips, n.ClusterDomain),
		"/etc/hostname":    hostname(pod) + "\n",
	}
	if pod.Spec.HostNetwork {
		delete(content, "/etc/hostname")
		if data, err := os.ReadFile("/etc/hosts"); err == nil {
			content["/etc/hosts"] = string(data)
		}
	}
	files := map[string]string{}
	for target, text := range content {
		files[target] = filepath.Join(place.State, strings.TrimPrefix(target, "/etc/"))
		if err := os.WriteFile(files[target], []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	// The container writes to it, whatever user it runs as.
	message := filepath.Join(place.State, terminationFile)
	if err := os.WriteFile(message, nil, 0o666); err != nil {
		return nil, err
	}
	return files, os.Chmod(message, 0o666)
}

func fromAPI(pod *corev1.Pod, volume string) bool {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Name == volume {
			return v.EmptyDir == nil && v.HostPath == nil
		}
	}
	return false
}
