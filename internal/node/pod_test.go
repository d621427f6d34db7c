package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	clienttesting "k8s.io/client-go/testing"

	"fairway.dev/fairway/internal/node/shim"
)

func TestPodRunsServesAndIsReady(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	begun := time.Now()
	m.run("web", "serve=:8080", withReadiness)
	pod := m.until("web", "ready", ready)
	t.Logf("created → ready in %s", time.Since(begun))
	if pod.Status.Phase != corev1.PodRunning || len(pod.Status.PodIPs) != 2 || pod.Status.HostIP == "" || pod.Status.StartTime == nil {
		t.Errorf("status %+v", pod.Status)
	}
	for _, ip := range pod.Status.PodIPs {
		url := "http://" + netip.AddrPortFrom(netip.MustParseAddr(ip.IP), 8080).String() + "/"
		if got := get(t, url); got != "web\n" {
			t.Errorf("%s answers %q", url, got)
		}
	}
}

func TestSecondStartIsFast(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run("first", "serve=:8080", withReadiness)
	m.until("first", "ready", ready)
	begun := time.Now()
	m.run("second", "serve=:8080", withReadiness)
	m.until("second", "ready", ready)
	t.Logf("created → ready in %s", time.Since(begun))
}

func TestDeletedPodEndsInOrder(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.halt()
	asked := make(chan string, 1)
	m.config.BeforeStop = func(_ context.Context, pod *corev1.Pod) { asked <- pod.Name }
	m.start()
	m.run("web", "serve=:8080", withReadiness)
	pod := m.until("web", "ready", ready)
	m.markDeleted("web", 30)
	if name := <-asked; name != "web" {
		t.Errorf("asked for %s", name)
	}
	m.untilGone("web")
	for _, dir := range []string{m.config.RunDir, m.config.DataDir} {
		if _, err := os.Stat(filepath.Join(dir, "pods", string(pod.UID))); !os.IsNotExist(err) {
			t.Errorf("left in %s: %v", dir, err)
		}
	}
	last := m.lastStatus("web")
	if s := last.ContainerStatuses[0].State.Terminated; s == nil || s.ExitCode != 0 || s.Reason != "Completed" {
		t.Errorf("last status of the container is %+v", last.ContainerStatuses[0].State)
	}
}

// A Pod that is deleted does not wait for a registry that does not answer.
func TestDeletedPodDoesNotWaitForItsImage(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	registry := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer registry.Close()
	defer close(release)
	m.run("slow", "say=x", func(p *corev1.Pod) {
		p.Spec.Containers[0].Image = strings.TrimPrefix(registry.URL, "http://") + "/slow:v1"
	})
	<-asked
	m.markDeleted("slow", 30)
	m.untilGone("slow")
}

func TestStubbornContainerIsKilled(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	pod := m.run("mule", "stubborn", nil)
	m.until("mule", "ready", ready)
	waitForLog(m, pod, "stubborn\n") // from here on it does not listen
	m.markDeleted("mule", 1)
	m.untilGone("mule")
	if s := m.lastStatus("mule").ContainerStatuses[0].State.Terminated; s == nil || s.ExitCode != 137 {
		t.Errorf("last status of the container is %+v", m.lastStatus("mule").ContainerStatuses[0].State)
	}
}

// Who deletes a Pod again with less patience gets it sooner.
func TestSecondDeletionHurries(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	pod := m.run("mule", "stubborn", nil)
	m.until("mule", "ready", ready)
	waitForLog(m, pod, "stubborn\n")
	m.markDeleted("mule", 3600)
	m.markDeleted("mule", 1)
	m.untilGone("mule")
}

// markDeleted does what the API does for a graceful deletion.
func (m *machine) markDeleted(name string, grace int64) {
	m.Helper()
	for {
		pod := m.get(name)
		now := metav1.Now()
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &now, &grace
		_, err := m.client.CoreV1().Pods("default").Update(context.Background(), pod, metav1.UpdateOptions{})
		if err == nil {
			return
		}
		if !apierrors.IsConflict(err) {
			m.Fatal(err)
		}
	}
}

func (m *machine) untilGone(name string) {
	m.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if _, err := m.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return
		}
	}
	m.Fatalf("Pod %s is still in the API after %s", name, patience)
}

// lastStatus is what the last patch of the Pod's status said, together with all before.
func (m *machine) lastStatus(name string) corev1.PodStatus {
	m.Helper()
	var pod corev1.Pod
	for _, action := range m.client.Actions() {
		patch, ok := action.(clienttesting.PatchAction)
		if !ok || patch.GetName() != name || patch.GetSubresource() != "status" {
			continue
		}
		old, err := json.Marshal(pod)
		if err != nil {
			m.Fatal(err)
		}
		merged, err := strategicpatch.StrategicMergePatch(old, patch.GetPatch(), corev1.Pod{})
		if err != nil {
			m.Fatal(err)
		}
		pod = corev1.Pod{}
		if err := json.Unmarshal(merged, &pod); err != nil {
			m.Fatal(err)
		}
	}
	return pod.Status
}

func TestContainerThatDiesIsUnreadyAtOnceAndComesBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run("web", "serve=:8080", withReadiness)
	pod := m.until("web", "ready", ready)
	kill(t, m, pod, 0)
	pod = m.until("web", "ready again", func(p *corev1.Pod) bool { return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if s := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated; s == nil || s.ExitCode != 137 || s.Reason != "Error" {
		t.Errorf("last termination %+v", s)
	}
	unready := false
	for _, action := range m.client.Actions() {
		if patch, ok := action.(clienttesting.PatchAction); ok && strings.Contains(string(patch.GetPatch()), `"ContainersNotReady"`) {
			unready = true
		}
	}
	if !unready {
		t.Error("the Pod was never reported unready")
	}
}

// kill ends the container's process as a crash would.
func kill(t *testing.T, m *machine, pod *corev1.Pod, attempt int) {
	t.Helper()
	dir := filepath.Join(m.config.RunDir, "pods", string(pod.UID), "containers", "main", fmt.Sprint(attempt))
	started, err := shim.ReadStarted(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(started.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestPodOutlivesItsNode(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run("web", "serve=:8080", withReadiness)
	before := m.until("web", "ready", ready)
	m.halt()
	if got := get(t, "http://"+before.Status.PodIP+":8080/"); got != "web\n" {
		t.Errorf("without a node the Pod answers %q", got)
	}
	m.run("late", "say=hello", nil)
	m.start()
	m.until("late", "started", func(p *corev1.Pod) bool { return p.Status.PodIP != "" })
	after := m.get("web")
	if !ready(after) || after.Status.PodIP != before.Status.PodIP ||
		after.Status.ContainerStatuses[0].ContainerID != before.Status.ContainerStatuses[0].ContainerID {
		t.Errorf("before: %+v\nafter: %+v", before.Status, after.Status)
	}
	if m.get("late").Status.PodIP == after.Status.PodIP {
		t.Error("both Pods have one address")
	}
	// What is no longer in the API when the node starts is removed.
	m.halt()
	if err := m.client.CoreV1().Pods("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.start()
	dir := filepath.Join(m.config.RunDir, "pods", string(before.UID))
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the Pod that is gone from the API is still here")
		}
	}
}

func TestOneShotPods(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, test := range []struct {
		args   string
		policy corev1.RestartPolicy
		phase  corev1.PodPhase
		code   int32
		reason string
	}{
		{"say=done", corev1.RestartPolicyNever, corev1.PodSucceeded, 0, "Completed"},
		{"exit=3", corev1.RestartPolicyNever, corev1.PodFailed, 3, "Error"},
		{"say=done", corev1.RestartPolicyOnFailure, corev1.PodSucceeded, 0, "Completed"},
	} {
		name := strings.ToLower(string(test.policy)) + "-" + strings.ReplaceAll(test.args, "=", "-")
		m.run(name, test.args, func(p *corev1.Pod) { p.Spec.RestartPolicy = test.policy })
		pod := m.until(name, "at its end", func(p *corev1.Pod) bool { return p.Status.Phase == test.phase })
		if s := pod.Status.ContainerStatuses[0].State.Terminated; s == nil || s.ExitCode != test.code || s.Reason != test.reason {
			t.Errorf("%s: %+v", name, pod.Status.ContainerStatuses[0].State)
		}
	}
}

func TestInitContainersRunInOrderAndSidecarsStay(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	always := corev1.ContainerRestartPolicyAlways
	share := []corev1.VolumeMount{{Name: "share", MountPath: "/share"}}
	pod := m.run("steps", "cat=/share/two", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Spec.Volumes = []corev1.Volume{{Name: "share", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		p.Spec.InitContainers = []corev1.Container{
			{Name: "one", Image: "app:v1", Args: []string{"absent=/share/two", "write=/share/one:1"}, VolumeMounts: share},
			{Name: "side", Image: "app:v1", Args: []string{"serve=:9000"}, RestartPolicy: &always},
			{Name: "two", Image: "app:v1", Args: []string{"cat=/share/one", "write=/share/two:2"}, VolumeMounts: share},
		}
		p.Spec.Containers[0].VolumeMounts = share
	})
	m.until("steps", "succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	if got := m.log(pod, "main", 0) + m.log(pod, "two", 0); got != "2\n1\n" {
		t.Errorf("the containers printed %q", got)
	}
	m.until("steps", "without its sidecar", func(p *corev1.Pod) bool { return p.Status.InitContainerStatuses[1].State.Running == nil })
}

func TestCrashLoopAndMissingThings(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	waiting := func(reason string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
				p.Status.ContainerStatuses[0].State.Waiting.Reason == reason
		}
	}
	m.run("crash", "exit=1", nil)
	m.run("never", "say=x", func(p *corev1.Pod) {
		p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "absent:v1", corev1.PullNever
	})
	m.run("pull", "say=x", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "127.0.0.1:1/absent:v1" })
	m.run("name", "say=x", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "NOT A NAME" })
	m.run("config", "env=COLOUR", func(p *corev1.Pod) {
		p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "colours"},
		}}}
	})
	m.run("program", "", func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"/absent"} })
	for name, reason := range map[string]string{
		"crash": "CrashLoopBackOff", "never": "ErrImageNeverPull", "pull": "ErrImagePull", "name": "InvalidImageName",
		"config": "CreateContainerConfigError", "program": "CrashLoopBackOff",
	} {
		pod := m.until(name, reason, waiting(reason))
		if pod.Status.Phase != corev1.PodPending && reason != "CrashLoopBackOff" {
			t.Errorf("%s is %s", name, pod.Status.Phase)
		}
	}
	if s := m.get("program").Status.ContainerStatuses[0].LastTerminationState.Terminated; s == nil || s.Reason != "StartError" || s.ExitCode != 128 {
		t.Errorf("program: %+v", s)
	}
	// What was missing may come.
	_, err := m.client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "colours"}, Data: map[string]string{"COLOUR": "blue"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := m.until("config", "run", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount > 0 })
	if got := m.log(pod, "main", 0); got != "blue\n" {
		t.Errorf("printed %q", got)
	}
}

func TestProbes(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	fast := func(h corev1.ProbeHandler) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: h, PeriodSeconds: 1, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: 2}
	}
	exec := corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/app", "absent=/unhealthy"}}}
	tcp := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}
	http := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("http")}}
	pod := m.run("probed", "serve=:8080", func(p *corev1.Pod) {
		c := &p.Spec.Containers[0]
		c.StartupProbe, c.ReadinessProbe, c.LivenessProbe = fast(tcp), fast(http), fast(exec)
	})
	m.until("probed", "ready", ready)
	// The file makes readiness fail first or liveness first; in the end the container is replaced by one that is well.
	if err := os.WriteFile(filepath.Join(m.config.RunDir, "pods", string(pod.UID), "containers", "main", "0", "rootfs", "unhealthy"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	m.until("probed", "restarted and ready", func(p *corev1.Pod) bool { return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
}

// A privileged container starts, also where this machine has not every capability to give.
func TestPrivilegedContainerStarts(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	yes := true
	m.run("root", "serve=:8080", func(p *corev1.Pod) {
		withReadiness(p)
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &yes}
	})
	m.until("root", "ready", ready)
}
