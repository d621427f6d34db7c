package node

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/node/network"
	"fairway.dev/fairway/internal/node/runtime"
)

// adopt finds what an earlier process, or an earlier life of the machine, has left of the Pod. Containers in the run directory are
// taken over as they are; about others the API's status says what became of them.
func (w *worker) adopt(ctx context.Context) {
	status := w.pod.Status
	if status.StartTime != nil {
		w.state.startTime = status.StartTime.Time
	}
	known := map[string]corev1.ContainerStatus{}
	for _, s := range append(append([]corev1.ContainerStatus{}, status.InitContainerStatuses...), status.ContainerStatuses...) {
		known[s.Name] = s
	}
	record, err := w.node.readPod(string(w.uid))
	if err == nil {
		w.adoptSandbox(record)
	} else if !errors.Is(err, fs.ErrNotExist) {
		w.logger.Warn("Pod's record not read", "error", err)
	}
	for _, c := range w.state.containers {
		s, reported := known[c.spec.Name]
		if reported {
			c.restarts, c.lastExit, c.id, c.imageID = s.RestartCount, s.LastTerminationState.Terminated, s.ContainerID, s.ImageID
		}
		if w.adoptContainer(ctx, c, s) {
			continue
		}
		switch {
		case s.State.Terminated != nil:
			c.phase, c.exit = phaseEnded, s.State.Terminated
		case s.State.Running != nil || s.State.Waiting != nil && s.LastTerminationState.Terminated != nil:
			c.phase, c.exit = phaseEnded, s.LastTerminationState.Terminated
			if s.State.Running != nil {
				c.exit = &corev1.ContainerStateTerminated{
					ExitCode: 137, Reason: "ContainerStatusUnknown", Message: "The container could not be located when the node started",
					StartedAt: s.State.Running.StartedAt, FinishedAt: metav1.Now(), ContainerID: s.ContainerID,
				}
			}
		}
	}
	if terminal(status.Phase) {
		w.torn = !w.state.sandbox && len(w.handles) == 0
	}
}

// adoptSandbox takes over the Pod's network, or notes that it has to be made anew.
func (w *worker) adoptSandbox(record podRecord) {
	if w.shared {
		w.hasSandbox(nil)
		return
	}
	w.sandbox = network.SandboxOf(w.node.network(), string(w.uid), record.Addresses)
	if w.sandbox.Exists() {
		w.hasSandbox(record.Addresses)
		return
	}
	w.node.addresses.Release(record.Addresses)
	w.sandbox = network.Sandbox{}
}

// adoptContainer takes over the newest container of that name. What its probes had found stays until they find something else.
func (w *worker) adoptContainer(ctx context.Context, c *container, reported corev1.ContainerStatus) bool {
	attempt, found := w.node.newestAttempt(string(w.uid), c.spec.Name)
	if !found {
		return false
	}
	place := w.node.place(w.pod, c.spec.Name, attempt)
	running, err := w.node.runtime.Load(place)
	if err != nil {
		w.logger.Info("container whose start was cut short: removing it", "container", c.spec.Name)
		if err := w.node.runtime.Discard(place); err != nil {
			w.logger.Warn("container not fully removed", "container", c.spec.Name, "error", err)
		}
		return false
	}
	var record containerRecord
	if data, err := os.ReadFile(filepath.Join(place.State, "container.json")); err == nil {
		_ = json.Unmarshal(data, &record) // without it only the image's digest is missing
	}
	c.restarts = attempt
	c.imageID = record.Image + "@" + record.ImageID
	same := reported.ContainerID == containerURL(running.ID)
	c.ready = same && reported.Ready
	c.started = same && reported.Started != nil && *reported.Started
	h := newHandle(running, attempt)
	w.handles[c.spec.Name] = h
	w.follow(ctx, c, h)
	return true
}

// newestAttempt returns the highest number of a container of that name.
func (n *Node) newestAttempt(uid, container string) (int32, bool) {
	entries, err := os.ReadDir(filepath.Join(n.podRun(uid), "containers", container))
	if err != nil {
		return 0, false
	}
	newest, found := 0, false
	for _, e := range entries {
		if number, err := strconv.Atoi(e.Name()); err == nil && (!found || number > newest) {
			newest, found = number, true
		}
	}
	return int32(newest), found
}

func (n *Node) readPod(uid string) (podRecord, error) {
	var record podRecord
	data, err := os.ReadFile(filepath.Join(n.podRun(uid), "pod.json"))
	if err == nil {
		err = json.Unmarshal(data, &record)
	}
	return record, err
}

// present lists the Pods that have a directory here.
func (n *Node) present() ([]podRecord, error) {
	entries, err := os.ReadDir(podsDir(n.RunDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var records []podRecord
	for _, e := range entries {
		record, err := n.readPod(e.Name())
		if err != nil {
			n.Logger.Warn("Pod's record not read", "pod", e.Name(), "error", err)
			continue
		}
		records = append(records, record)
	}
	return records, nil
}

// removeOrphan stops and removes a Pod that the API no longer has.
func (n *Node) removeOrphan(ctx context.Context, record podRecord) error {
	uid := string(record.UID)
	handles := n.loadAll(uid)
	deadline, done := context.WithTimeout(ctx, orphanGrace)
	defer done()
	stopRunning(deadline, handles)
	var errs []error
	for _, r := range handles {
		errs = append(errs, r.Remove())
	}
	sandbox := network.Sandbox{}
	if len(record.Addresses) > 0 {
		sandbox = network.SandboxOf(n.network(), uid, record.Addresses)
	}
	errs = append(errs, n.removePod(record.UID, sandbox), os.RemoveAll(n.podData(uid)))
	n.addresses.Release(record.Addresses)
	return errors.Join(errs...)
}

// loadAll finds all containers of a Pod, whatever its specification, and removes those whose start was cut short.
func (n *Node) loadAll(uid string) []*runtime.Running {
	var all []*runtime.Running
	places, _ := filepath.Glob(filepath.Join(n.podRun(uid), "containers", "*", "*")) // the pattern is well-formed
	pod := podOf(uid)
	for _, state := range places {
		attempt, err := strconv.Atoi(filepath.Base(state))
		if err != nil {
			continue
		}
		place := n.place(pod, filepath.Base(filepath.Dir(state)), int32(attempt))
		if r, err := n.runtime.Load(place); err == nil {
			all = append(all, r)
		} else if err := n.runtime.Discard(place); err != nil {
			n.Logger.Warn("container not fully removed", "container", state, "error", err)
		}
	}
	return all
}

// stopRunning asks containers to end, waits until the deadline and kills those that have not.
func stopRunning(deadline context.Context, all []*runtime.Running) {
	for _, r := range all {
		_ = r.Signal(sigterm)
	}
	for _, r := range all {
		if r.WaitDead(deadline) != nil {
			_ = r.Signal(sigkill)
			last, done := context.WithTimeout(context.WithoutCancel(deadline), 5*time.Second)
			_ = r.WaitDead(last)
			done()
		}
	}
}
