package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/node/network"
	"fairway.dev/fairway/internal/node/runtime"
)

const (
	sigterm = unix.SIGTERM
	sigkill = unix.SIGKILL
)

// orphanGrace is the grace period of a Pod that the API no longer has, and flushTime how long the last status may take.
const (
	orphanGrace = time.Second
	flushTime   = 5 * time.Second
)

// acceptTime bounds how long a Pod's stop waits for programs to accept the connections that have come already.
const acceptTime = 3 * time.Second

// stop begins the end of a Pod: its consumers turn away, then each container is asked to end, then made to.
func (w *worker) stop(ctx context.Context) {
	w.state.stopping = true
	w.unwanted()
	grace := w.grace()
	pod, announced, sandbox := w.described(), !w.gone, w.sandbox
	mains, sidecars := w.toStop()
	for _, c := range mains {
		w.node.event(pod, corev1.EventTypeNormal, "Killing", "Stopping container %s", c.spec.Name)
	}
	hurry, cancel := context.WithCancel(ctx)
	w.cancel = cancel
	w.background.Go(func() {
		defer cancel()
		if announced && pod.DeletionTimestamp != nil {
			w.node.BeforeStop(hurry, pod)
			w.node.accepted(hurry, pod, sandbox)
		}
		deadline, done := context.WithTimeout(hurry, grace)
		defer done()
		w.stopAll(ctx, deadline, pod, mains)
		for i := len(sidecars) - 1; i >= 0; i-- {
			w.stopAll(ctx, deadline, pod, sidecars[i:i+1])
		}
		w.post(func() { w.stopped = true })
	})
}

// accepted lets the Pod's programs accept the connections that came before everybody turned away: a machine that is short of processors may leave them
// in the kernel's queue for a while, and a server that closes its listener on SIGTERM, as most do, cuts them.
func (n *Node) accepted(ctx context.Context, pod *corev1.Pod, sandbox network.Sandbox) {
	if sandbox.Path == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, acceptTime)
	defer cancel()
	if err := network.AwaitAccepted(ctx, sandbox); err != nil {
		n.Logger.Debug("connections may be cut", "pod", pod.Namespace+"/"+pod.Name, "error", err)
	}
}

// grace is how long the Pod's containers may take to end.
func (w *worker) grace() time.Duration {
	switch {
	case w.gone:
		return orphanGrace
	case w.pod.DeletionGracePeriodSeconds != nil:
		return time.Duration(*w.pod.DeletionGracePeriodSeconds) * time.Second
	case w.pod.Spec.TerminationGracePeriodSeconds != nil:
		return time.Duration(*w.pod.Spec.TerminationGracePeriodSeconds) * time.Second
	}
	return 30 * time.Second
}

// stopping is one container to be stopped.
type stopping struct {
	spec    *corev1.Container
	running *runtime.Running
}

func (w *worker) toStop() (mains, sidecars []stopping) {
	for _, c := range w.state.containers {
		h := w.handles[c.spec.Name]
		if h == nil || c.phase != phaseRunning {
			continue
		}
		if c.role == roleSidecar {
			sidecars = append(sidecars, stopping{c.spec, h.running})
		} else {
			mains = append(mains, stopping{c.spec, h.running})
		}
	}
	return mains, sidecars
}

// stopAll stops containers side by side and returns when they have ended, or ctx has.
func (w *worker) stopAll(ctx, deadline context.Context, pod *corev1.Pod, all []stopping) {
	ended := make(chan struct{})
	for _, c := range all {
		go func() {
			w.node.stopContainer(ctx, deadline, pod, c)
			ended <- struct{}{}
		}()
	}
	for range all {
		<-ended
	}
}

// stopContainer runs the preStop hook, sends the stop signal, waits until the deadline, and kills.
func (n *Node) stopContainer(ctx, deadline context.Context, pod *corev1.Pod, c stopping) {
	if c.spec.Lifecycle != nil && c.spec.Lifecycle.PreStop != nil {
		if err := n.hook(deadline, pod, c.spec, c.running, c.spec.Lifecycle.PreStop); err != nil && deadline.Err() == nil {
			n.event(pod, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: %v", err)
		}
	}
	if ctx.Err() != nil {
		return // this process ends, not the Pod
	}
	if deadline.Err() == nil {
		if err := c.running.Signal(n.stopSignal(c)); err != nil {
			n.Logger.Warn("container not stopped", "container", c.spec.Name, "error", err)
		}
		if c.running.WaitDead(deadline) == nil || ctx.Err() != nil {
			return
		}
	}
	if err := c.running.Signal(sigkill); err != nil {
		n.Logger.Warn("container not killed", "container", c.spec.Name, "error", err)
	}
	_ = c.running.WaitDead(ctx)
}

// stopSignal is the one that the Pod or the image names, or SIGTERM.
func (n *Node) stopSignal(c stopping) unix.Signal {
	name := ""
	if c.spec.Lifecycle != nil && c.spec.Lifecycle.StopSignal != nil {
		name = string(*c.spec.Lifecycle.StopSignal)
	} else if img, err := n.Images.Get(c.spec.Image); err == nil {
		name = img.Config.StopSignal
	}
	name = strings.ToUpper(name)
	if name != "" && !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if signal := unix.SignalNum(name); signal != 0 {
		return signal
	}
	return unix.SIGTERM
}

// settle removes the containers and the network of a Pod that has done its work. Volumes and logs stay until the Pod is deleted.
func (w *worker) settle(ctx context.Context) {
	mains, sidecars := w.toStop()
	if len(mains)+len(sidecars) > 0 {
		if w.cancel == nil {
			pod, grace := w.described(), w.grace()
			hurry, cancel := context.WithCancel(ctx)
			w.cancel = cancel
			w.background.Go(func() {
				deadline, done := context.WithTimeout(hurry, grace)
				defer done()
				w.stopAll(ctx, deadline, pod, append(mains, sidecars...))
			})
		}
		return
	}
	if w.state.busy() || !w.flush(ctx) {
		return
	}
	w.torn = true
	if err := w.tearDown(); err != nil {
		w.logger.Warn("Pod not fully removed", "error", err)
	}
}

// finish is the very end of a Pod: its last status, everything of it here, and the object in the API. A Pod that was stopped for
// another reason than its deletion keeps the object, its volumes and its logs.
func (w *worker) finish(ctx context.Context) {
	if !w.torn {
		if !w.gone && !w.flush(ctx) {
			return
		}
		w.torn = true
		if err := w.tearDown(); err != nil {
			w.logger.Warn("Pod not fully removed", "error", err)
		}
	}
	if !w.gone && w.pod.DeletionTimestamp == nil {
		return
	}
	if err := os.RemoveAll(w.node.podData(string(w.uid))); err != nil {
		w.logger.Warn("Pod's data not removed", "error", err)
	}
	if !w.gone && !w.deleteObject(ctx) {
		return
	}
	w.finished = true
}

// flush waits until the newest status is written. Without an answer from the API in time the Pod's end goes on: the API learns
// of it by the deletion.
func (w *worker) flush(ctx context.Context) bool {
	w.writer.set(w.state.clone())
	timer := time.NewTimer(flushTime)
	defer timer.Stop()
	select {
	case <-w.writer.flushed():
	case <-timer.C:
		w.logger.Warn("last status not written in time")
	case <-ctx.Done():
		return false
	}
	return true
}

// deleteObject removes the Pod from the API, trying until it is gone.
func (w *worker) deleteObject(ctx context.Context) bool {
	none := int64(0)
	options := metav1.DeleteOptions{GracePeriodSeconds: &none, Preconditions: &metav1.Preconditions{UID: &w.uid}}
	for retry := retryFirst; ; retry = min(2*retry, retryMax) {
		err := w.node.Client.CoreV1().Pods(w.pod.Namespace).Delete(ctx, w.pod.Name, options)
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return true
		}
		w.logger.Warn("Pod not deleted, will try again", "after", retry, "error", err)
		if !pause(ctx, retry) {
			return false
		}
	}
}

// tearDown removes what runs or is mounted for the Pod, and its network.
func (w *worker) tearDown() error {
	w.removals.Wait()
	var errs []error
	for name, h := range w.handles {
		errs = append(errs, h.running.Remove())
		delete(w.handles, name)
	}
	errs = append(errs, w.node.removePod(w.uid, w.sandbox))
	w.node.addresses.Release(w.sandbox.Addresses)
	w.state.sandbox = false
	return errors.Join(errs...)
}

// removePod removes what is left of a Pod whose containers have ended.
func (n *Node) removePod(uid types.UID, sandbox network.Sandbox) error {
	var errs []error
	if sandbox.Path != "" {
		errs = append(errs, network.DeleteSandbox(sandbox))
	}
	errs = append(errs,
		unmountBelow(n.podRun(string(uid))),
		unmountBelow(filepath.Join(n.podData(string(uid)), "volumes")),
		runtime.RemoveCgroup(runtime.CgroupPath(n.Instance, string(uid))),
		os.RemoveAll(n.podRun(string(uid))),
	)
	return errors.Join(errs...)
}
