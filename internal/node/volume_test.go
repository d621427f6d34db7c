package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/node/shim"
)

// A ConfigMap that changes reaches the container that runs, through the mount that it has had from the start; and so after a restart of the node.
func TestVolumeFollowsTheAPI(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.halt()
	m.config.VolumeSync = 50 * time.Millisecond
	m.start()
	conf := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "conf"}, Data: map[string]string{"colour": "red", "gone": "soon"}}
	if _, err := m.client.CoreV1().ConfigMaps("default").Create(t.Context(), conf, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	m.run("web", "serve=:8080", func(p *corev1.Pod) {
		withReadiness(p)
		p.Spec.Volumes = []corev1.Volume{{Name: "conf", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "conf", MountPath: "/conf"}}
	})
	pod := m.until("web", "ready", ready)
	started, err := shim.ReadStarted(filepath.Join(m.config.RunDir, "pods", string(pod.UID), "containers", "main", "0"))
	if err != nil {
		t.Fatal(err)
	}
	inside := fmt.Sprintf("/proc/%d/root/conf/", started.Pid)
	for _, colour := range []string{"red", "green", "blue"} {
		if colour == "blue" {
			m.halt()
			m.start()
		}
		conf.Data = map[string]string{"colour": colour}
		if _, err := m.client.CoreV1().ConfigMaps("default").Update(t.Context(), conf, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(patience)
		for {
			data, err := os.ReadFile(inside + "colour")
			if _, gone := os.Lstat(inside + "gone"); err == nil && string(data) == colour && os.IsNotExist(gone) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the container reads %q, %v; want %s", data, err, colour)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	if pod := m.get("web"); pod.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("the container was restarted")
	}
}
