package probe

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/probe"
	grpcprobe "k8s.io/kubernetes/pkg/probe/grpc"
	httpprobe "k8s.io/kubernetes/pkg/probe/http"
	tcpprobe "k8s.io/kubernetes/pkg/probe/tcp"
)

var (
	httpProber = httpprobe.New(false)
	tcpProber  = tcpprobe.New()
	grpcProber = grpcprobe.New()
)

// Attempt makes one attempt of a probe or hook over the network at a container with the given address. The time that is left of
// ctx is its time limit.
func Attempt(ctx context.Context, h *corev1.ProbeHandler, c *corev1.Container, podIP string) Result {
	timeout := time.Second
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	var result probe.Result
	var output string
	var err error
	switch {
	case h.HTTPGet != nil:
		request, requestErr := httpprobe.NewRequestForHTTPGetAction(h.HTTPGet, c, podIP, "probe")
		if requestErr != nil {
			return Result{Output: requestErr.Error()}
		}
		result, output, err = httpProber.Probe(request.WithContext(ctx), timeout)
	case h.TCPSocket != nil:
		port, portErr := probe.ResolveContainerPort(h.TCPSocket.Port, c)
		if portErr != nil {
			return Result{Output: portErr.Error()}
		}
		host := h.TCPSocket.Host
		if host == "" {
			host = podIP
		}
		result, output, err = tcpProber.Probe(host, port, timeout)
	case h.GRPC != nil:
		service := ""
		if h.GRPC.Service != nil {
			service = *h.GRPC.Service
		}
		result, output, err = grpcProber.Probe(podIP, service, int(h.GRPC.Port), timeout, grpcprobe.ProbeOptions{})
	default:
		return Result{Output: fmt.Sprintf("unknown kind of probe %v", h)}
	}
	if err != nil {
		output = err.Error()
	}
	return Result{OK: err == nil && (result == probe.Success || result == probe.Warning), Output: output}
}
