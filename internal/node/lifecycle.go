package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Restarts of a container that ended soon wait longer each time, as the kubelet's do.
const (
	backoffFirst = 10 * time.Second
	backoffMax   = 5 * time.Minute
	// backoffReset is how long a container must have run for its next end to count as the first.
	backoffReset = 10 * time.Minute
)

// role is a container's place in its Pod's life.
type role int

const (
	roleInit    role = iota // runs to its end before the next one starts
	roleSidecar             // an init container that is restarted always and outlives the others
	roleMain
)

type phase int

const (
	phaseNew      phase = iota // never started
	phaseStarting              // being pulled, prepared or started
	phaseRunning
	phaseEnded
)

// container is the state of one container of a Pod. It holds no handle: the worker has those.
type container struct {
	spec *corev1.Container
	role role

	phase    phase
	restarts int32
	id       string // "fairway://…"
	image    string // name as given
	imageID  string

	startedAt  time.Time
	started    bool // its startup probe has succeeded, or there is none
	ready      bool
	exit       *corev1.ContainerStateTerminated // how it ended, while phaseEnded
	lastExit   *corev1.ContainerStateTerminated // how its forerunner ended
	waitReason string                           // why it does not run, in the kubelet's words
	waitText   string

	backoff   time.Duration // to wait at the next end
	notBefore time.Time     // of the next start
}

// pod is the state of one Pod, its containers in the order of their start.
type pod struct {
	spec       *corev1.PodSpec
	containers []*container
	stopping   bool // it is being deleted, or must not run any longer
	reason     string
	message    string // why it must not run any longer
	sandbox    bool   // its network is there
	podIPs     []string
	hostIPs    []string
	startTime  time.Time
	generation int64
}

// clone copies the state for a reader beside the Pod's goroutine.
func (p *pod) clone() *pod {
	copied := *p
	copied.containers = make([]*container, len(p.containers))
	for i, c := range p.containers {
		one := *c
		copied.containers[i] = &one
	}
	return &copied
}

func newPod(spec *corev1.PodSpec) *pod {
	p := &pod{spec: spec}
	for i := range spec.InitContainers {
		c := &container{spec: &spec.InitContainers[i], role: roleInit}
		if policy := c.spec.RestartPolicy; policy != nil && *policy == corev1.ContainerRestartPolicyAlways {
			c.role = roleSidecar
		}
		p.containers = append(p.containers, c)
	}
	for i := range spec.Containers {
		p.containers = append(p.containers, &container{spec: &spec.Containers[i], role: roleMain})
	}
	for _, c := range p.containers {
		c.image = c.spec.Image
	}
	return p
}

func (p *pod) container(name string) *container {
	for _, c := range p.containers {
		if c.spec.Name == name {
			return c
		}
	}
	return nil
}

// startable returns the containers to start now, and when to ask again if one waits for its time (zero: on the next event).
func (p *pod) startable(now time.Time) (start []*container, wake time.Time) {
	if p.stopping || terminal(p.phase()) {
		return nil, time.Time{}
	}
	consider := func(c *container) {
		switch {
		case now.Before(c.notBefore):
			if wake.IsZero() || c.notBefore.Before(wake) {
				wake = c.notBefore
			}
		default:
			start = append(start, c)
		}
	}
	initialized := p.initialized()
	for _, c := range p.containers {
		switch {
		case c.phase == phaseNew || c.phase == phaseEnded && p.restarts(c):
			if c.role != roleInit || !initialized {
				consider(c)
			}
		}
		if !initialized && !c.passed() {
			return start, wake // the next one has to wait for this one
		}
	}
	return start, wake
}

// passed tells whether what comes after an init container may start.
func (c *container) passed() bool {
	switch c.role {
	case roleInit:
		return c.phase == phaseEnded && c.exit.ExitCode == 0
	case roleSidecar:
		return c.phase == phaseRunning && c.started
	}
	return true
}

// initialized tells whether the init containers are through. Once a main container was started they stay so.
func (p *pod) initialized() bool {
	through := true
	for _, c := range p.containers {
		if c.role == roleMain {
			if c.phase != phaseNew || c.restarts > 0 {
				return true
			}
		} else if !c.passed() {
			through = false
		}
	}
	return through
}

// restarts tells whether a container that has ended is to be started again.
func (p *pod) restarts(c *container) bool {
	if c.role == roleSidecar {
		return true
	}
	switch p.spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return c.exit.ExitCode != 0
	}
	return c.role == roleMain || c.exit.ExitCode != 0
}

// phase is the Pod's phase by the rules of the Pod lifecycle in the Kubernetes documentation.
func (p *pod) phase() corev1.PodPhase {
	started, alive, failed := false, false, false
	for _, c := range p.containers {
		switch c.role {
		case roleInit:
			if c.phase == phaseEnded && c.exit.ExitCode != 0 && (p.stopping || !p.restarts(c)) {
				return corev1.PodFailed
			}
		case roleMain:
			started = started || c.phase == phaseRunning || c.phase == phaseEnded || c.lastExit != nil
			if c.phase != phaseEnded || !p.stopping && p.restarts(c) {
				alive = true
			} else if c.exit.ExitCode != 0 {
				failed = true
			}
		}
	}
	switch {
	case p.reason != "" && !p.busy():
		return corev1.PodFailed
	case !started:
		return corev1.PodPending
	case alive:
		return corev1.PodRunning
	case failed:
		return corev1.PodFailed
	}
	return corev1.PodSucceeded
}

// overdue tells whether the Pod has been active for longer than it may.
func (p *pod) overdue(now time.Time) bool {
	return p.spec.ActiveDeadlineSeconds != nil && !p.startTime.IsZero() && !terminal(p.phase()) && !now.Before(p.deadline())
}

func (p *pod) deadline() time.Time {
	return p.startTime.Add(time.Duration(*p.spec.ActiveDeadlineSeconds) * time.Second)
}

// earlier returns wake, or the Pod's deadline if that comes first.
func (p *pod) earlier(wake time.Time) time.Time {
	if p.spec.ActiveDeadlineSeconds == nil || p.startTime.IsZero() || p.stopping || terminal(p.phase()) {
		return wake
	}
	if d := p.deadline(); wake.IsZero() || d.Before(wake) {
		return d
	}
	return wake
}

// busy tells whether a container runs or is about to.
func (p *pod) busy() bool {
	for _, c := range p.containers {
		if c.phase == phaseRunning || c.phase == phaseStarting {
			return true
		}
	}
	return false
}

func terminal(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }

// begin records that a start of the container is under way.
func (c *container) begin() {
	if c.phase == phaseEnded {
		c.lastExit = c.exit
		c.restarts++
	}
	c.phase, c.exit = phaseStarting, nil
	c.started, c.ready = false, false
}

// end records how the container ended and when it may start again.
func (c *container) end(exit corev1.ContainerStateTerminated) {
	ran := exit.FinishedAt.Sub(exit.StartedAt.Time)
	c.phase, c.exit = phaseEnded, &exit
	c.started, c.ready = false, false
	c.waitReason, c.waitText = "", ""
	if ran >= backoffReset {
		c.backoff = 0
	}
	c.notBefore = exit.FinishedAt.Add(c.backoff)
	c.backoff = nextBackoff(c.backoff)
}

// postpone records that the container could not be started, and why, in the kubelet's words, and when to try again; without a time
// that is by the same rule as for one that ends again and again.
func (c *container) postpone(now time.Time, after time.Duration, reason, text string) {
	c.phase = phaseNew
	if c.lastExit != nil { // it had run before: that it ended is what is known about it
		c.phase, c.exit = phaseEnded, c.lastExit
		c.restarts--
	}
	c.waitReason, c.waitText = reason, text
	if after == 0 {
		c.backoff = nextBackoff(c.backoff)
		after = c.backoff
	}
	c.notBefore = now.Add(after)
}

func nextBackoff(d time.Duration) time.Duration {
	if d == 0 {
		return backoffFirst
	}
	return min(2*d, backoffMax)
}
