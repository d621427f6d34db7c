package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// podOfContainers makes a Pod from words "name" or "name:init" or "name:sidecar".
func podOfContainers(policy corev1.RestartPolicy, words ...string) *pod {
	always := corev1.ContainerRestartPolicyAlways
	spec := &corev1.PodSpec{RestartPolicy: policy}
	for _, word := range words {
		name, kind, _ := strings.Cut(word, ":")
		c := corev1.Container{Name: name, Image: "app:v1"}
		switch kind {
		case "init":
			spec.InitContainers = append(spec.InitContainers, c)
		case "sidecar":
			c.RestartPolicy = &always
			spec.InitContainers = append(spec.InitContainers, c)
		default:
			spec.Containers = append(spec.Containers, c)
		}
	}
	p := newPod(spec)
	p.sandbox = true
	return p
}

// happen applies events: "a starts", "a runs", "a ready", "a ends 0".
func (p *pod) happen(events ...string) {
	for _, event := range events {
		words := strings.Fields(event)
		c := p.container(words[0])
		switch words[1] {
		case "starts":
			c.begin()
		case "runs":
			c.phase, c.started, c.startedAt = phaseRunning, true, noon
		case "ready":
			c.ready = true
		case "ends":
			var code int32
			_, _ = fmt.Sscan(words[2], &code)
			c.end(corev1.ContainerStateTerminated{ExitCode: code, StartedAt: metav1.NewTime(noon), FinishedAt: metav1.NewTime(noon)})
		}
	}
}

func TestWhatStartsNext(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		policy     corev1.RestartPolicy
		containers string
		events     []string
		start      string
		wake       time.Duration
	}{
		{"all main containers at once", "Always", "a b", nil, "a b", 0},
		{"an init container first", "Always", "i:init j:init a", nil, "i", 0},
		{"the next one after it", "Always", "i:init j:init a", []string{"i starts", "i runs", "i ends 0"}, "j", 0},
		{"nothing while it runs", "Always", "i:init a", []string{"i starts", "i runs"}, "", 0},
		{"again after a failure", "Always", "i:init a", []string{"i starts", "i ends 1"}, "i", 0},
		{"not again if that is the policy", "Never", "i:init a", []string{"i starts", "i ends 1"}, "", 0},
		{"main containers after the last", "Never", "i:init a b", []string{"i starts", "i ends 0"}, "a b", 0},
		{"a sidecar lets pass once it has started", "Always", "s:sidecar a", []string{"s starts", "s runs"}, "a", 0},
		{"a sidecar that is starting does not", "Always", "s:sidecar a", []string{"s starts"}, "", 0},
		{"a sidecar is restarted whatever the policy", "Never", "s:sidecar a",
			[]string{"s starts", "s runs", "a starts", "a runs", "s ends 0"}, "s", 0},
		{"a first end restarts at once", "Always", "a", []string{"a starts", "a ends 0"}, "a", 0},
		{"a second one waits", "Always", "a", []string{"a starts", "a ends 1", "a starts", "a ends 1"}, "", 10 * time.Second},
		{"a third one longer", "Always", "a",
			[]string{"a starts", "a ends 1", "a starts", "a ends 1", "a starts", "a ends 1"}, "", 20 * time.Second},
		{"success is not restarted on failure only", "OnFailure", "a b", []string{"a starts", "a ends 0", "b starts", "b ends 2"}, "b", 0},
		{"nothing after the end", "Never", "a", []string{"a starts", "a ends 2"}, "", 0},
	} {
		p := podOfContainers(test.policy, strings.Fields(test.containers)...)
		p.happen(test.events...)
		start, wake := p.startable(noon)
		var names []string
		for _, c := range start {
			names = append(names, c.spec.Name)
		}
		if got := strings.Join(names, " "); got != test.start {
			t.Errorf("%s: starts %q, want %q", test.name, got, test.start)
		}
		if test.wake == 0 && !wake.IsZero() || test.wake != 0 && !wake.Equal(noon.Add(test.wake)) {
			t.Errorf("%s: looks again at %v, want after %v", test.name, wake, test.wake)
		}
		p.stopping = true
		if start, _ := p.startable(noon.Add(time.Hour)); len(start) > 0 {
			t.Errorf("%s: starts something although it is being stopped", test.name)
		}
	}
}

func TestBackoffGrowsToItsLimitAndIsForgotten(t *testing.T) {
	t.Parallel()
	p := podOfContainers("Always", "a")
	c := p.containers[0]
	var waits []time.Duration
	for range 8 {
		p.happen("a starts", "a ends 1")
		waits = append(waits, c.notBefore.Sub(noon))
	}
	if got, want := fmt.Sprint(waits), "[0s 10s 20s 40s 1m20s 2m40s 5m0s 5m0s]"; got != want {
		t.Errorf("waits %s, want %s", got, want)
	}
	c.begin()
	c.end(corev1.ContainerStateTerminated{StartedAt: metav1.NewTime(noon), FinishedAt: metav1.NewTime(noon.Add(backoffReset))})
	if wait := c.notBefore.Sub(noon.Add(backoffReset)); wait != 0 {
		t.Errorf("after a long run it waits %s", wait)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		policy     corev1.RestartPolicy
		containers string
		events     []string
		stopping   bool
		phase      corev1.PodPhase
		conditions string // Initialized, ContainersReady, Ready
		state      string // of the containers, in order
	}{
		{"new", "Always", "a", nil, false, "Pending", "T F/ContainersNotReady F/ContainersNotReady", "waiting ContainerCreating"},
		{"waiting for an init container", "Always", "i:init a", []string{"i starts", "i runs"}, false, "Pending",
			"F/ContainersNotInitialized F/ContainersNotReady F/ContainersNotReady", "running, waiting PodInitializing"},
		{"running", "Always", "a", []string{"a starts", "a runs"}, false, "Running", "T F/ContainersNotReady F/ContainersNotReady", "running"},
		{"ready", "Always", "a", []string{"a starts", "a runs", "a ready"}, false, "Running", "T T T", "running ready"},
		{"one of two ready", "Always", "a b", []string{"a starts", "a runs", "a ready", "b starts", "b runs"}, false, "Running",
			"T F/ContainersNotReady F/ContainersNotReady", "running ready, running"},
		{"ended, about to restart", "Always", "a", []string{"a starts", "a runs", "a ends 1"}, false, "Running",
			"T F/ContainersNotReady F/ContainersNotReady", "terminated 1"},
		{"waiting to restart", "Always", "a", []string{"a starts", "a ends 1", "a starts", "a ends 1"}, false, "Running",
			"T F/ContainersNotReady F/ContainersNotReady", "waiting CrashLoopBackOff last 1"},
		{"succeeded", "Never", "a", []string{"a starts", "a ends 0"}, false, "Succeeded", "T F/PodCompleted F/PodCompleted", "terminated 0"},
		{"failed", "Never", "a b", []string{"a starts", "a ends 0", "b starts", "b ends 3"}, false, "Failed", "T F/PodFailed F/PodFailed",
			"terminated 0, terminated 3"},
		{"failed in an init container", "Never", "i:init a", []string{"i starts", "i ends 3"}, false, "Failed",
			"F/ContainersNotInitialized F/PodFailed F/PodFailed", "terminated 3, waiting PodInitializing"},
		{"stopped", "Always", "a", []string{"a starts", "a runs", "a ends 0"}, true, "Succeeded", "T F/PodCompleted F/PodCompleted", "terminated 0"},
		{"a sidecar counts for readiness", "Always", "s:sidecar a", []string{"s starts", "s runs", "a starts", "a runs", "a ready"}, false,
			"Running", "T F/ContainersNotReady F/ContainersNotReady", "running, running ready"},
	} {
		p := podOfContainers(test.policy, strings.Fields(test.containers)...)
		p.happen(test.events...)
		p.stopping = test.stopping
		s := p.status(&corev1.PodStatus{}, noon)
		if s.Phase != test.phase {
			t.Errorf("%s: phase %s, want %s", test.name, s.Phase, test.phase)
		}
		if got := conditionWords(s); got != test.conditions {
			t.Errorf("%s: conditions %q, want %q", test.name, got, test.conditions)
		}
		if got := stateWords(s); got != test.state {
			t.Errorf("%s: state %q, want %q", test.name, got, test.state)
		}
	}
}

func conditionWords(s *corev1.PodStatus) string {
	var words []string
	for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		for _, c := range s.Conditions {
			switch {
			case c.Type != kind:
			case c.Status == corev1.ConditionTrue:
				words = append(words, "T")
			default:
				words = append(words, "F/"+c.Reason)
			}
		}
	}
	return strings.Join(words, " ")
}

func stateWords(s *corev1.PodStatus) string {
	var all []string
	for _, c := range append(append([]corev1.ContainerStatus{}, s.InitContainerStatuses...), s.ContainerStatuses...) {
		word := ""
		switch {
		case c.State.Running != nil:
			word = "running"
		case c.State.Terminated != nil:
			word = fmt.Sprint("terminated ", c.State.Terminated.ExitCode)
		case c.State.Waiting != nil:
			word = "waiting " + c.State.Waiting.Reason
			if last := c.LastTerminationState.Terminated; last != nil {
				word += fmt.Sprint(" last ", last.ExitCode)
			}
		}
		if c.Ready {
			word += " ready"
		}
		all = append(all, word)
	}
	return strings.Join(all, ", ")
}

func TestStatusKeepsWhatIsNotTheNodes(t *testing.T) {
	t.Parallel()
	earlier := metav1.NewTime(noon.Add(-time.Hour))
	base := &corev1.PodStatus{
		QOSClass: corev1.PodQOSBurstable,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: earlier},
			{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: earlier},
			{Type: "example.test/gate", Status: corev1.ConditionFalse},
		},
	}
	p := podOfContainers("Always", "a")
	p.spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.test/gate"}}
	p.happen("a starts", "a runs", "a ready")
	s := p.status(base, noon)
	if s.QOSClass != corev1.PodQOSBurstable || s.Conditions[0] != base.Conditions[0] {
		t.Errorf("status %+v", s)
	}
	if got := conditionWords(s); got != "T T F/ReadinessGatesNotReady" {
		t.Errorf("with a gate that is closed: %s", got)
	}
	if at := s.Conditions[1].LastTransitionTime; !at.Equal(&earlier) {
		t.Errorf("a condition that did not change has the time %s", at)
	}
	base.Conditions[2].Status = corev1.ConditionTrue
	s = p.status(base, noon)
	if got := conditionWords(s); got != "T T T" {
		t.Errorf("with a gate that is open: %s", got)
	}
	if at := s.Conditions[1].LastTransitionTime; !at.Time.Equal(noon) {
		t.Errorf("a condition that changed has the time %s", at)
	}
}
