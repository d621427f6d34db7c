package node

import (
	"bytes"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/node/runtime"
)

// Limits of a termination message, as the API documents them.
const (
	maxMessage      = 4096
	maxMessageLog   = 2048
	maxMessageLines = 80
)

// ended is the end of a container as the API shows it.
func ended(exit runtime.Exit, startedAt time.Time, id, reason, message string) corev1.ContainerStateTerminated {
	return corev1.ContainerStateTerminated{
		ExitCode: int32(exit.Code), Reason: reason, Message: message, ContainerID: id,
		StartedAt: metav1.NewTime(startedAt), FinishedAt: metav1.NewTime(exit.FinishedAt),
	}
}

// terminationMessage is what the container left in its termination file or, if the Pod asks for that and it failed, the end of its log.
func terminationMessage(c *corev1.Container, place runtime.Place, code int) string {
	data, err := os.ReadFile(filepath.Join(place.State, terminationFile))
	if err == nil && len(data) > 0 {
		return string(data[:min(len(data), maxMessage)])
	}
	if c.TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError || code == 0 {
		return ""
	}
	data, err = os.ReadFile(place.Log)
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	lines = lines[max(0, len(lines)-maxMessageLines):]
	for i, line := range lines {
		if fields := bytes.SplitN(line, []byte(" "), 4); len(fields) == 4 {
			lines[i] = fields[3]
		}
	}
	text := append(bytes.Join(lines, []byte("\n")), '\n')
	return string(text[max(0, len(text)-maxMessageLog):])
}
