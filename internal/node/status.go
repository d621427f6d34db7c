package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// status is the Pod's status as the kubelet would report it, on top of what the API has already (base): conditions of
// others stay, and the time of a condition changes only with its value.
func (p *pod) status(base *corev1.PodStatus, now time.Time) *corev1.PodStatus {
	s := base.DeepCopy()
	s.ObservedGeneration = p.generation
	s.Phase = p.phase()
	s.Reason, s.Message = p.reason, p.message
	s.HostIP, s.HostIPs = "", nil
	for _, ip := range p.hostIPs {
		s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip})
	}
	if len(p.hostIPs) > 0 {
		s.HostIP = p.hostIPs[0]
	}
	s.PodIP, s.PodIPs = "", nil
	for _, ip := range p.podIPs {
		s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
	}
	if len(p.podIPs) > 0 {
		s.PodIP = p.podIPs[0]
	}
	if s.StartTime == nil && !p.startTime.IsZero() {
		s.StartTime = &metav1.Time{Time: p.startTime.Truncate(time.Second)}
	}
	s.InitContainerStatuses, s.ContainerStatuses = nil, nil
	for _, c := range p.containers {
		one := p.containerStatus(c, now)
		if c.role == roleMain {
			s.ContainerStatuses = append(s.ContainerStatuses, one)
		} else {
			s.InitContainerStatuses = append(s.InitContainerStatuses, one)
		}
	}
	for _, condition := range p.conditions(s) {
		setCondition(s, condition, p.generation, now)
	}
	return s
}

func (p *pod) containerStatus(c *container, now time.Time) corev1.ContainerStatus {
	started := c.started && c.phase == phaseRunning
	s := corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.image, ImageID: c.imageID, ContainerID: c.id, RestartCount: c.restarts,
		Ready: c.ready && c.phase == phaseRunning, Started: &started,
	}
	if c.role == roleInit && c.phase == phaseEnded && c.exit.ExitCode == 0 {
		s.Ready = true // for an init container: it is through
	}
	if c.lastExit != nil {
		s.LastTerminationState.Terminated = c.lastExit
	}
	switch {
	case c.phase == phaseRunning:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(c.startedAt.Truncate(time.Second))}
	case c.phase == phaseEnded && (p.stopping || !p.restarts(c)):
		s.State.Terminated = c.exit
	case c.phase == phaseEnded && c.waitReason == "" && now.Before(c.notBefore):
		s.LastTerminationState.Terminated = c.exit
		s.State.Waiting = &corev1.ContainerStateWaiting{
			Reason: "CrashLoopBackOff",
			Message: fmt.Sprintf("back-off %s restarting failed container=%s",
				c.notBefore.Sub(c.exit.FinishedAt.Time).Round(time.Second), c.spec.Name),
		}
	case c.phase == phaseEnded && c.waitReason == "":
		s.State.Terminated = c.exit
	default:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: c.waitReason, Message: c.waitText}
		if c.phase == phaseEnded {
			s.LastTerminationState.Terminated = c.exit
		}
		if c.waitReason == "" {
			s.State.Waiting.Reason = "ContainerCreating"
			if c.phase == phaseNew && (c.role != roleMain && p.sandbox || c.role == roleMain && !p.initialized()) {
				s.State.Waiting.Reason = "PodInitializing"
			}
		}
	}
	return s
}

// conditions are those that the node decides on.
func (p *pod) conditions(s *corev1.PodStatus) []corev1.PodCondition {
	condition := func(kind corev1.PodConditionType, holds bool, reason, message string) corev1.PodCondition {
		if holds {
			return corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue}
		}
		return corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reason, Message: message}
	}
	var notInitialized, notReady []string
	for _, c := range p.containers {
		if c.role != roleMain && !c.passed() {
			notInitialized = append(notInitialized, c.spec.Name)
		}
		if c.role != roleInit && !(c.ready && c.phase == phaseRunning) {
			notReady = append(notReady, c.spec.Name)
		}
	}
	all := []corev1.PodCondition{
		condition(corev1.PodReadyToStartContainers, p.sandbox, "", ""),
		condition(corev1.PodInitialized, p.initialized() || s.Phase == corev1.PodSucceeded, "ContainersNotInitialized",
			fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(notInitialized, " "))),
	}
	reason, message := "ContainersNotReady", fmt.Sprintf("containers with unready status: [%s]", strings.Join(notReady, " "))
	switch s.Phase {
	case corev1.PodSucceeded:
		reason, message = "PodCompleted", ""
	case corev1.PodFailed:
		reason, message = "PodFailed", ""
	}
	containersReady := len(notReady) == 0 && !terminal(s.Phase)
	all = append(all, condition(corev1.ContainersReady, containersReady, reason, message))
	ready := condition(corev1.PodReady, containersReady, reason, message)
	if containersReady {
		for _, gate := range p.spec.ReadinessGates {
			if !holds(s, gate.ConditionType) {
				ready = condition(corev1.PodReady, false, "ReadinessGatesNotReady",
					fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist or is not True.", gate.ConditionType))
			}
		}
	}
	return append(all, ready)
}

func holds(s *corev1.PodStatus, kind corev1.PodConditionType) bool {
	return slices.ContainsFunc(s.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == kind && c.Status == corev1.ConditionTrue
	})
}

func setCondition(s *corev1.PodStatus, c corev1.PodCondition, generation int64, now time.Time) {
	c.ObservedGeneration = generation
	c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	at := slices.IndexFunc(s.Conditions, func(old corev1.PodCondition) bool { return old.Type == c.Type })
	if at < 0 {
		s.Conditions = append(s.Conditions, c)
		return
	}
	if s.Conditions[at].Status == c.Status {
		c.LastTransitionTime = s.Conditions[at].LastTransitionTime
	}
	s.Conditions[at] = c
}
