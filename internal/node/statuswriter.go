package node

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	podutil "k8s.io/kubernetes/pkg/util/pod"
)

// Pauses between attempts to write a status that the API did not take.
const (
	retryFirst = 50 * time.Millisecond
	retryMax   = 5 * time.Second
)

// statusWriter brings the newest state of one Pod to the API, one patch at a time: what changes while a patch is under way goes out
// together with the next.
type statusWriter struct {
	client kubernetes.Interface
	logger *slog.Logger
	now    func() time.Time

	mu      sync.Mutex
	base    *corev1.Pod // the newest that the API has told
	want    *pod        // the newest state; nil once it is written
	written chan struct{}
	wake    chan struct{}
}

func newStatusWriter(client kubernetes.Interface, logger *slog.Logger, base *corev1.Pod) *statusWriter {
	written := make(chan struct{})
	close(written)
	return &statusWriter{
		client: client, logger: logger, now: time.Now, base: base, written: written, wake: make(chan struct{}, 1),
	}
}

// observe takes note of what a watch said. It may be older than the answer to the last patch.
func (s *statusWriter) observe(pod *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version(pod) >= version(s.base) {
		s.base = pod
	}
}

func version(pod *corev1.Pod) uint64 {
	v, err := strconv.ParseUint(pod.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// set gives the state to be written. The writer owns it from here on.
func (s *statusWriter) set(state *pod) {
	s.mu.Lock()
	if s.want == nil {
		s.written = make(chan struct{})
	}
	s.want = state
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// flushed is closed when all that was set before has been written, or cannot be because the Pod is gone.
func (s *statusWriter) flushed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// run writes until ctx ends.
func (s *statusWriter) run(ctx context.Context) {
	retry := retryFirst
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		for {
			s.mu.Lock()
			want, base := s.want, s.base
			s.mu.Unlock()
			if want == nil {
				break
			}
			answer, err := s.write(ctx, want, base)
			if err == nil || s.gone(ctx, base) {
				s.done(want, answer)
				retry = retryFirst
				continue
			}
			if ctx.Err() != nil {
				return
			}
			s.logger.Warn("status not written, will try again", "after", retry, "error", err)
			if !pause(ctx, retry) {
				return
			}
			retry = min(2*retry, retryMax)
		}
	}
}

// write patches the difference between what the API has and the state; no answer if there is none.
func (s *statusWriter) write(ctx context.Context, want *pod, base *corev1.Pod) (*corev1.Pod, error) {
	status := want.status(&base.Status, s.now())
	answer, _, unchanged, err := podutil.PatchPodStatus(ctx, s.client, base.Namespace, base.Name, base.UID, base.Status, *status)
	if err != nil || unchanged {
		return nil, err
	}
	return answer, nil
}

// gone asks whether the Pod is no longer there: upstream's patch does not pass on what kind of error it met.
func (s *statusWriter) gone(ctx context.Context, base *corev1.Pod) bool {
	pod, err := s.client.CoreV1().Pods(base.Namespace).Get(ctx, base.Name, metav1.GetOptions{})
	return apierrors.IsNotFound(err) || err == nil && pod.UID != base.UID
}

func (s *statusWriter) done(written *pod, answer *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer != nil && version(answer) >= version(s.base) {
		s.base = answer
	}
	if s.want == written {
		s.want = nil
		close(s.written)
	}
}

// pause waits and tells whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
