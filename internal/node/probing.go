package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairway.dev/fairway/internal/node/probe"
	"fairway.dev/fairway/internal/node/runtime"
)

// maxOutput bounds what is kept of the output of a probe or hook.
const maxOutput = 10 << 10

// probe starts a container's probes: the startup probe first, the others once it has succeeded.
func (w *worker) probe(ctx context.Context, c *container, h *handle) {
	if c.spec.StartupProbe == nil || c.started {
		w.probeStarted(ctx, c, h)
		return
	}
	startup, cancel := context.WithCancel(ctx)
	w.runProbe(startup, c, h, probe.Startup, c.spec.StartupProbe, func(ok bool) {
		cancel()
		if !ok {
			w.restart(c, h, probe.Startup, c.spec.StartupProbe)
			return
		}
		w.probeStarted(ctx, c, h)
	})
}

func (w *worker) probeStarted(ctx context.Context, c *container, h *handle) {
	c.started = true
	if c.spec.ReadinessProbe == nil {
		c.ready = true
	} else {
		w.runProbe(ctx, c, h, probe.Readiness, c.spec.ReadinessProbe, func(ok bool) { c.ready = ok })
	}
	if c.spec.LivenessProbe != nil {
		w.runProbe(ctx, c, h, probe.Liveness, c.spec.LivenessProbe, func(ok bool) {
			if !ok {
				w.restart(c, h, probe.Liveness, c.spec.LivenessProbe)
			}
		})
	}
}

// runProbe runs one probe beside; verdict is called in the worker's goroutine, and only while the container is the one that was probed.
func (w *worker) runProbe(ctx context.Context, c *container, h *handle, kind probe.Kind, p *corev1.Probe, verdict func(bool)) {
	pod, podIP := w.pod, ""
	if len(w.state.podIPs) > 0 {
		podIP = w.state.podIPs[0]
	}
	task := probe.Task{
		Kind: kind, Probe: p, StartedAt: c.startedAt,
		Attempt: func(ctx context.Context) probe.Result {
			return w.node.attempt(ctx, &p.ProbeHandler, c.spec, h.running, podIP)
		},
		Verdict: func(ok bool) {
			w.post(func() {
				if w.handles[c.spec.Name] == h && c.phase == phaseRunning && ctx.Err() == nil {
					verdict(ok)
				}
			})
		},
		Failed: func(r probe.Result) {
			w.node.event(pod, corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %s", kind, r.Output)
		},
	}
	w.background.Go(func() { task.Run(ctx) })
}

// restart ends a container that is not well; what happens next is up to the restart policy.
func (w *worker) restart(c *container, h *handle, kind probe.Kind, p *corev1.Probe) {
	if w.state.stopping {
		return // it ends anyway, in its own time
	}
	c.ready = false
	h.cancel()
	w.node.event(w.pod, corev1.EventTypeNormal, "Killing", "Container %s failed %s probe, will be restarted", c.spec.Name, kind)
	grace := w.grace()
	if p.TerminationGracePeriodSeconds != nil {
		grace = time.Duration(*p.TerminationGracePeriodSeconds) * time.Second
	}
	pod := w.pod
	w.background.Go(func() {
		deadline, done := context.WithTimeout(h.life, grace)
		defer done()
		w.node.stopContainer(h.life, deadline, pod, stopping{c.spec, h.running})
	})
}

// attempt makes one attempt of a probe or hook.
func (n *Node) attempt(ctx context.Context, h *corev1.ProbeHandler, c *corev1.Container, running *runtime.Running, podIP string) probe.Result {
	if h.Exec == nil {
		return probe.Attempt(ctx, h, c, podIP)
	}
	var output limited
	code, err := running.Exec(ctx, runtime.ExecOptions{Args: h.Exec.Command, Stdout: &output, Stderr: &output})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return probe.Result{Output: fmt.Sprintf("command timed out: %q", h.Exec.Command)}
	case err != nil:
		return probe.Result{Output: err.Error()}
	}
	return probe.Result{OK: code == 0, Output: output.String()}
}

// hook runs a lifecycle hook to its end.
func (n *Node) hook(ctx context.Context, pod *corev1.Pod, c *corev1.Container, running *runtime.Running, h *corev1.LifecycleHandler) error {
	if h.Sleep != nil {
		pause(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
		return nil
	}
	podIP := pod.Status.PodIP
	r := n.attempt(ctx, &corev1.ProbeHandler{Exec: h.Exec, HTTPGet: h.HTTPGet, TCPSocket: h.TCPSocket}, c, running, podIP)
	if !r.OK {
		return errors.New(r.Output)
	}
	return nil
}

// limited keeps the beginning of what is written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := maxOutput - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
