package node

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairway.dev/fairway/internal/node/runtime"
)

// user decides who a container runs as: the container's security context, else the Pod's, else the image's user.
func user(pod *corev1.Pod, c *corev1.Container, imageUser, rootfs string) (runtime.User, error) {
	u, err := runtime.ResolveUser(rootfs, imageUser)
	var podContext corev1.PodSecurityContext
	if pod.Spec.SecurityContext != nil {
		podContext = *pod.Spec.SecurityContext
	}
	var own corev1.SecurityContext
	if c.SecurityContext != nil {
		own = *c.SecurityContext
	}
	if uid := first(own.RunAsUser, podContext.RunAsUser); uid != nil {
		u.UID, err = uint32(*uid), nil
	}
	if err != nil {
		return u, fmt.Errorf("%w: %w", errConfig, err)
	}
	if gid := first(own.RunAsGroup, podContext.RunAsGroup); gid != nil {
		u.GID = uint32(*gid)
	}
	for _, gid := range podContext.SupplementalGroups {
		u.Groups = append(u.Groups, uint32(gid))
	}
	if podContext.FSGroup != nil && !slices.Contains(u.Groups, uint32(*podContext.FSGroup)) {
		u.Groups = append(u.Groups, uint32(*podContext.FSGroup))
	}
	if nonRoot := first(own.RunAsNonRoot, podContext.RunAsNonRoot); nonRoot != nil && *nonRoot && u.UID == 0 {
		return u, fmt.Errorf("%w: container has runAsNonRoot and would run as root", errConfig)
	}
	return u, nil
}

func first[T any](values ...*T) *T {
	for _, v := range values {
		if v != nil {
			return v
		}
	}
	return nil
}

func security(pod *corev1.Pod, c *corev1.Container) runtime.Security {
	s := runtime.Security{HostPID: pod.Spec.HostPID, HostIPC: pod.Spec.HostIPC}
	own := c.SecurityContext
	if own == nil {
		return s
	}
	is := func(flag *bool) bool { return flag != nil && *flag }
	s.Privileged = is(own.Privileged)
	s.ReadOnlyRoot = is(own.ReadOnlyRootFilesystem)
	s.NoNewPrivilege = own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation
	if own.Capabilities != nil {
		s.Add, s.Drop = capabilityNames(own.Capabilities.Add), capabilityNames(own.Capabilities.Drop)
	}
	return s
}

func capabilityNames(from []corev1.Capability) []string {
	var names []string
	for _, c := range from {
		names = append(names, strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_"))
	}
	return names
}

// limits translates requests and limits as the kubelet does: a request of CPU time is a weight, a limit a quota.
func limits(c *corev1.Container) runtime.Limits {
	const sharesPerCPU, leastShares, quotaPerCPU, leastQuota = 1024, 2, 100_000, 1000
	var l runtime.Limits
	request, requested := c.Resources.Requests[corev1.ResourceCPU]
	if requested {
		l.CPUShares = uint64(max(request.MilliValue()*sharesPerCPU/1000, leastShares))
	}
	if limit, found := c.Resources.Limits[corev1.ResourceCPU]; found && !limit.IsZero() {
		l.CPUQuota = max(limit.MilliValue()*quotaPerCPU/1000, leastQuota)
		if !requested {
			l.CPUShares = uint64(max(limit.MilliValue()*sharesPerCPU/1000, leastShares))
		}
	}
	if limit, found := c.Resources.Limits[corev1.ResourceMemory]; found {
		l.MemoryBytes = limit.Value()
	}
	return l
}
