package node_test

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairway.dev/fairway/internal/node"
	"fairway.dev/fairway/internal/node/network"
)

// traces lists what an instance has on the machine: devices, routes, rules, mounts, control groups, processes and files.
func traces(m *machine) []string {
	m.Helper()
	var found []string
	add := func(kind, text string, marks ...string) {
		for line := range strings.Lines(text) {
			for _, mark := range marks {
				if strings.Contains(line, mark) {
					found = append(found, kind+": "+strings.TrimSpace(line))
					break
				}
			}
		}
	}
	run := func(args ...string) string {
		out, err := exec.Command(args[0], args[1:]...).Output()
		if err != nil {
			m.Fatalf("%v: %v", args, err)
		}
		return string(out)
	}
	c := m.config
	net4, net6 := strings.TrimSuffix(c.PodCIDRs[0].Addr().String(), "0"), strings.TrimSuffix(c.PodCIDRs[1].Addr().String(), ":")
	service := strings.TrimSuffix(c.ServiceCIDRs[0].Addr().String(), "0")
	add("device", run("ip", "-o", "link"), network.Device(c.Instance), network.LinkPrefix(c.Instance))
	add("address", run("ip", "-o", "addr"), net4, net6)
	add("route", run("ip", "route")+run("ip", "-6", "route"), net4, net6, service)
	add("rule", run("nft", "list", "tables"), c.Instance)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		m.Fatal(err)
	}
	add("mount", string(mounts), c.RunDir, c.DataDir)
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		m.Fatal(err)
	}
	for _, path := range commands {
		data, _ := os.ReadFile(path) // it may have ended
		add("process", strings.ReplaceAll(string(data), "\x00", " "), c.RunDir)
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/fairway/" + c.Instance)
	if err != nil {
		m.Fatal(err)
	}
	add("control group", strings.Join(groups, "\n"), "fairway")
	for _, dir := range []string{c.RunDir, filepath.Join(c.DataDir, "pods")} {
		_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && path != c.RunDir {
				found = append(found, "file: "+path)
			}
			return nil
		})
	}
	return found
}

func TestCleanupLeavesNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run("web", "serve=:8080", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "memory", VolumeSource: corev1.VolumeSource{
			EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory},
		}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "memory", MountPath: "/memory"}}
	})
	m.run("mule", "stubborn", nil)
	m.run("crash", "exit=1", nil)
	m.run("host", "stubborn", func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	for _, name := range []string{"web", "mule", "host"} {
		m.until(name, "ready", ready)
	}
	m.until("crash", "restarted", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount > 0 })
	m.halt() // the containers go on, as after kill -9
	kinds := map[string]bool{}
	for _, trace := range traces(m) {
		kind, _, _ := strings.Cut(trace, ":")
		kinds[kind] = true
	}
	for _, kind := range []string{"device", "address", "route", "rule", "mount", "process", "control group", "file"} {
		if !kinds[kind] {
			t.Errorf("this test would not see a %s that is left", kind)
		}
	}
	c := node.CleanupConfig{
		Instance: m.config.Instance, DataDir: m.config.DataDir, RunDir: m.config.RunDir, Grace: 100 * time.Millisecond,
	}
	if err := node.Cleanup(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	for _, trace := range traces(m) {
		t.Error("left behind:", trace)
	}
	if err := node.Cleanup(context.Background(), c); err != nil {
		t.Errorf("a second time: %v", err)
	}
}
