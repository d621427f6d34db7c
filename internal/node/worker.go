package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/internal/node/network"
	"fairway.dev/fairway/internal/node/runtime"
	"fairway.dev/fairway/internal/podspec"
)

// Pauses before another attempt at what failed for a reason that may pass.
const (
	sandboxRetry = time.Second
	configRetry  = 2 * time.Second
)

// worker runs one Pod. Its fields belong to the goroutine of run; others send it functions.
type worker struct {
	node   *Node
	uid    types.UID
	logger *slog.Logger

	events chan func()
	done   chan struct{} // closed when run has returned

	pod      *corev1.Pod // newest from the API
	state    *pod
	writer   *statusWriter
	sandbox  network.Sandbox
	handles  map[string]*handle // by container name, of the newest attempt of each
	retryAt  time.Time          // of the sandbox
	gone     bool               // the Pod is no longer in the API
	stopped  bool               // the containers' stop has been through
	torn     bool               // nothing of the Pod is left here but volumes and logs
	shared   bool               // the Pod is on the machine's network
	cancel   context.CancelFunc // of the stop, when it has to hurry
	wanted   context.Context    // ends when the Pod begins to stop
	unwanted context.CancelFunc // ends wanted
	finished bool

	background sync.WaitGroup
	removals   sync.WaitGroup // of containers that have a successor
}

// handle is what is needed to act on a container that was started.
type handle struct {
	running *runtime.Running
	attempt int32
	exited  chan struct{}      // closed when it has ended and all of its log is written
	life    context.Context    // ends with the worker
	cancel  context.CancelFunc // of its probes
}

func newHandle(r *runtime.Running, attempt int32) *handle {
	return &handle{running: r, attempt: attempt, exited: make(chan struct{})}
}

func (n *Node) newWorker(p *corev1.Pod) *worker {
	w := &worker{
		node: n, uid: p.UID, logger: n.Logger.With("pod", p.Namespace+"/"+p.Name),
		events: make(chan func(), 64), done: make(chan struct{}),
		pod: p, state: newPod(&p.Spec), handles: map[string]*handle{}, shared: p.Spec.HostNetwork,
	}
	w.writer = newStatusWriter(n.Client, w.logger, p)
	w.state.generation = p.Generation
	for _, ip := range n.NodeIPs {
		w.state.hostIPs = append(w.state.hostIPs, ip.String())
	}
	return w
}

// post has the worker's goroutine call f, unless the worker has ended.
func (w *worker) post(f func()) {
	select {
	case w.events <- f:
	case <-w.done:
	}
}

// run lives until the Pod is gone from here, or ctx ends: then it leaves the containers alone.
func (w *worker) run(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer func() {
		close(w.done)
		stop()
		w.background.Wait()
		for _, h := range w.handles {
			h.running.Close()
		}
	}()
	w.background.Go(func() { w.writer.run(ctx) })
	w.wanted, w.unwanted = context.WithCancel(ctx)
	defer w.unwanted()
	w.adopt(ctx)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wake := w.step(ctx)
		if w.finished {
			return
		}
		timer.Reset(time.Until(wake))
		if wake.IsZero() {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case f := <-w.events:
			f()
		case <-timer.C:
		}
	}
}

// step does what the state asks for and returns when to look again without an event.
func (w *worker) step(ctx context.Context) (wake time.Time) {
	now := time.Now()
	if (w.gone || w.pod.DeletionTimestamp != nil) && !w.state.stopping {
		w.stop(ctx)
	}
	if !w.state.stopping && w.state.overdue(now) {
		w.state.reason, w.state.message = "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
		w.stop(ctx)
	}
	start, wake := w.state.startable(now)
	if len(start) > 0 && !w.ensureSandbox(now) {
		start, wake = nil, w.retryAt
	}
	for _, c := range start {
		w.start(ctx, c)
	}
	w.writer.set(w.state.clone())
	if terminal(w.state.phase()) && !w.state.stopping && !w.torn {
		w.settle(ctx)
	}
	if w.state.stopping && w.stopped && !w.state.busy() {
		w.finish(ctx)
	}
	return w.state.earlier(wake)
}

// ensureSandbox makes the Pod's network before the first container starts.
func (w *worker) ensureSandbox(now time.Time) bool {
	if w.state.sandbox {
		return true
	}
	if now.Before(w.retryAt) {
		return false
	}
	if err := w.createSandbox(); err != nil {
		w.retryAt = now.Add(sandboxRetry)
		w.node.event(w.pod, corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
		w.logger.Error("Pod network not made, will try again", "after", sandboxRetry, "error", err)
		return false
	}
	return true
}

// podRecord is what is kept about a Pod while it is here.
type podRecord struct {
	Namespace, Name string
	UID             types.UID
	Addresses       []netip.Addr // none on the machine's network
}

func (w *worker) recordPath() string { return filepath.Join(w.node.podRun(string(w.uid)), "pod.json") }

func (w *worker) createSandbox() error {
	if err := os.MkdirAll(w.node.podRun(string(w.uid)), 0o711); err != nil {
		return err
	}
	w.tell()
	record := podRecord{Namespace: w.pod.Namespace, Name: w.pod.Name, UID: w.uid}
	if !w.shared {
		addresses, err := w.node.addresses.Allocate()
		if err != nil {
			return err
		}
		record.Addresses = addresses
	}
	// Written first: whatever is made after this is found again.
	err := writeJSON(w.recordPath(), record)
	if err == nil && !w.shared {
		w.sandbox, err = network.CreateSandbox(w.node.network(), string(w.uid), record.Addresses)
	}
	if err != nil {
		w.node.addresses.Release(record.Addresses)
		return err
	}
	w.hasSandbox(record.Addresses)
	return nil
}

// tell says in an Event what of the Pod's description is not done here, each field by name.
func (w *worker) tell() {
	var notDone []string
	for _, f := range podspec.Check(&w.pod.Spec) {
		notDone = append(notDone, f.String())
	}
	if len(notDone) > 0 {
		w.node.event(w.pod, corev1.EventTypeWarning, "FieldsNotDone", "%s", strings.Join(notDone, "; "))
	}
}

// hasSandbox notes in the state that the Pod's network is there.
func (w *worker) hasSandbox(addresses []netip.Addr) {
	w.state.sandbox = true
	if w.state.startTime.IsZero() {
		w.state.startTime = time.Now()
	}
	w.state.podIPs = nil
	if w.shared {
		w.state.podIPs = w.state.hostIPs
	}
	for _, a := range addresses {
		w.state.podIPs = append(w.state.podIPs, a.String())
	}
}

// described is the Pod with its addresses, for whatever refers to them.
func (w *worker) described() *corev1.Pod {
	pod := w.pod.DeepCopy()
	pod.Status = *w.state.status(&pod.Status, time.Now())
	return pod
}

// running tells whether a container of the Pod runs that is not to end.
func (w *worker) running() bool {
	return !w.state.stopping && slices.ContainsFunc(w.state.containers, func(c *container) bool { return c.phase == phaseRunning })
}

// start has a container started beside; the outcome comes back as an event.
func (w *worker) start(ctx context.Context, c *container) {
	old := w.handles[c.spec.Name]
	c.begin()
	pod, attempt, netns := w.described(), c.restarts, ""
	if !w.shared {
		netns = w.sandbox.Path
	}
	wanted := w.wanted
	w.removals.Add(1)
	w.background.Go(func() {
		l, err := w.node.launch(ctx, wanted, pod, netns, c.spec, attempt)
		if err == nil && c.spec.Lifecycle != nil && c.spec.Lifecycle.PostStart != nil {
			if hookErr := w.node.hook(ctx, pod, c.spec, l.running, c.spec.Lifecycle.PostStart); hookErr != nil {
				w.node.event(pod, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed: %v", hookErr)
				_ = l.running.Signal(sigkill)
			}
		}
		w.post(func() { w.launched(ctx, c, attempt, l, err) })
		w.removeForerunner(c.spec.Name, old) // last, because nobody waits for it
		w.removals.Done()
	})
}

// removeForerunner removes the container that ran before, but for its log, and the log of the one before that.
func (w *worker) removeForerunner(name string, old *handle) {
	if old == nil {
		return
	}
	if err := old.running.Remove(); err != nil {
		w.logger.Warn("container not fully removed", "container", name, "error", err)
	}
	for _, suffix := range []string{"", ".1"} {
		_ = os.Remove(w.node.logPath(string(w.uid), name, old.attempt-1) + suffix)
	}
}

// launched takes in the outcome of a start.
func (w *worker) launched(ctx context.Context, c *container, attempt int32, l launched, err error) {
	now := time.Now()
	if l.image.Digest != "" {
		c.imageID = l.image.Name + "@" + l.image.Digest
	}
	if err != nil {
		delete(w.handles, c.spec.Name)
		w.notLaunched(c, now, err)
		return
	}
	w.node.event(w.pod, corev1.EventTypeNormal, "Started", "Container started: %s", c.spec.Name)
	h := newHandle(l.running, attempt)
	w.handles[c.spec.Name] = h
	w.follow(ctx, c, h)
	if w.state.stopping {
		_ = l.running.Signal(sigkill)
	}
}

func (w *worker) notLaunched(c *container, now time.Time, err error) {
	var why *startError
	if !errors.As(err, &why) {
		why = &startError{"CreateContainerError", err}
	}
	if why.reason == "ErrImagePull" && w.wanted.Err() != nil { // it was given up, because the Pod is to end
		c.postpone(now, 0, why.reason, err.Error())
		return
	}
	w.logger.Warn("container not started", "container", c.spec.Name, "reason", why.reason, "error", err)
	switch why.reason {
	case "StartError": // as the kubelet has it: it ran, and ended at once
		c.id = ""
		c.end(ended(runtime.Exit{Code: 128, FinishedAt: now}, now, "", "StartError", err.Error()))
	case "ErrImagePull":
		if c.waitReason == "ErrImagePull" || c.waitReason == "ImagePullBackOff" {
			c.postpone(now, 0, "ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: %v", c.spec.Image, err))
		} else {
			c.postpone(now, 0, "ErrImagePull", err.Error())
		}
	default:
		c.postpone(now, configRetry, why.reason, err.Error())
	}
	w.node.event(w.pod, corev1.EventTypeWarning, "Failed", "Error: %v", err)
}

// follow notes that a container runs, watches for its end and starts its probes.
func (w *worker) follow(ctx context.Context, c *container, h *handle) {
	c.phase, c.waitReason, c.waitText = phaseRunning, "", ""
	c.id = containerURL(h.running.ID)
	c.startedAt = h.running.Started.StartedAt
	probes, cancel := context.WithCancel(ctx)
	h.life, h.cancel = ctx, cancel
	w.background.Go(func() {
		defer cancel()
		if h.running.WaitDead(ctx) != nil {
			return
		}
		cancel()
		// Nobody may be sent to it any more; how it ended is known a moment later.
		w.post(func() {
			if w.handles[c.spec.Name] == h {
				c.ready = false
			}
		})
		exit, err := h.running.WaitExit(ctx)
		close(h.exited)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.logger.Warn("how the container ended is not known", "container", c.spec.Name, "error", err)
			exit = runtime.Exit{Code: 137, FinishedAt: time.Now()}
		}
		w.post(func() { w.ended(c, h, exit) })
	})
	w.probe(probes, c, h)
}

func containerURL(id string) string { return "fairway://" + id }

// ended takes in the end of a container.
func (w *worker) ended(c *container, h *handle, exit runtime.Exit) {
	if w.handles[c.spec.Name] != h {
		return
	}
	reason := "Error"
	switch {
	case exit.OOMKilled:
		reason = "OOMKilled"
	case exit.Code == 0:
		reason = "Completed"
	}
	message := terminationMessage(c.spec, h.running.Place, exit.Code)
	c.end(ended(exit, c.startedAt, c.id, reason, message))
	if w.state.restarts(c) && !w.state.stopping && time.Now().Before(c.notBefore) {
		w.node.event(w.pod, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s", c.spec.Name, w.pod.Name)
	}
}
