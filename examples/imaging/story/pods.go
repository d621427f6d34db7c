package story

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// settleTime bounds every change of the Pods: starting, draining and everything between.
const settleTime = 90 * time.Second

// backends lists the Pods of imaging, those that are ending included.
func (c *cluster) backends(ctx context.Context) ([]corev1.Pod, error) {
	list, err := c.client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=imaging"})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// settled waits until there are exactly n Pods of imaging, all of them ready and of the image, and none that is still ending. more, if
// not nil, may ask for more.
func (c *cluster) settled(ctx context.Context, n int, image string, more func([]corev1.Pod) string) error {
	what := fmt.Sprintf("%d ready Pods of %s and no other", n, image)
	return c.await(ctx, settleTime, what, func(ctx context.Context) (string, error) {
		pods, err := c.backends(ctx)
		if err != nil {
			return err.Error(), nil
		}
		if missing := unsettled(pods, n, image); missing != "" {
			return missing, nil
		}
		if more != nil {
			return more(pods), nil
		}
		return "", nil
	})
}

// unsettled says what is still missing, or nothing.
func unsettled(pods []corev1.Pod, n int, image string) string {
	var missing []string
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil:
			missing = append(missing, p.Name+" is ending")
		case !ready(p):
			missing = append(missing, p.Name+" is not ready")
		case p.Spec.Containers[0].Image != image:
			missing = append(missing, p.Name+" is of "+p.Spec.Containers[0].Image)
		}
	}
	if len(pods) != n {
		missing = append(missing, fmt.Sprintf("%d Pods, not %d", len(pods), n))
	}
	return strings.Join(missing, ", ")
}

func ready(p corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// restarts is how often the Pod's container was started again.
func restarts(p corev1.Pod) int32 {
	if len(p.Status.ContainerStatuses) == 0 {
		return 0
	}
	return p.Status.ContainerStatuses[0].RestartCount
}

// processOf finds the process of a Pod's container from outside, as somebody with root on the machine would: the manifest puts the Pod's UID
// into its environment. That works whatever the container runtime is.
func processOf(pod corev1.Pod) (int, error) {
	want := []byte("POD_UID=" + string(pod.UID))
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil {
			continue // it ended, or is the kernel's
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.Equal(v, want) {
				return strconv.Atoi(filepath.Base(dir))
			}
		}
	}
	return 0, fmt.Errorf("pod %s/%s: find its process: none has %s in its environment", pod.Namespace, pod.Name, want)
}
