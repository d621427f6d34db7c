package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

func service(namespace, name, ip string, port int32) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "http", Port: port, Protocol: corev1.ProtocolTCP}}},
	}
}

// knowing is a node that has these objects in its API.
func knowing(t *testing.T, services ...*corev1.Service) *Node {
	t.Helper()
	client := fake.NewClientset(
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "settings"}, Data: map[string]string{"SIZE": "7", "app.conf": "conf"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "keys"}, Data: map[string][]byte{"KEY": []byte("s3cret")}},
	)
	factory := informers.NewSharedInformerFactory(client, 0)
	informer := factory.Core().V1().Services()
	for _, s := range services {
		if err := informer.Informer().GetStore().Add(s); err != nil {
			t.Fatal(err)
		}
	}
	return &Node{Config: Config{Client: client, DataDir: t.TempDir(), RunDir: t.TempDir()}, services: informer.Lister()}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	n := knowing(t,
		service("default", "kubernetes", "10.96.0.1", 443), service("shop", "imaging-api", "10.96.0.7", 80),
		service("shop", "headless", corev1.ClusterIPNone, 80), service("other", "elsewhere", "10.96.0.8", 80),
	)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "box"},
		Status:     corev1.PodStatus{PodIP: "10.0.0.2", PodIPs: []corev1.PodIP{{IP: "10.0.0.2"}, {IP: "fd00::2"}}},
	}
	yes := true
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	c := &corev1.Container{
		EnvFrom: []corev1.EnvFromSource{
			{Prefix: "C_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}, Optional: &yes}},
		},
		Env: []corev1.EnvVar{
			{Name: "URL", Value: "http://$(IMAGING_API_SERVICE_HOST):$(IMAGING_API_SERVICE_PORT)/ $(LATER) $$(URL)"},
			{Name: "LATER", Value: "later"},
			{Name: "IMAGING_API_SERVICE_PORT", Value: "own"},
			{Name: "KEY", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}, Key: "KEY"}}},
			{Name: "NONE", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Key: "absent", Optional: &yes}}},
			{Name: "IPS", ValueFrom: field("status.podIPs")}, {Name: "NODE", ValueFrom: field("spec.nodeName")},
			{Name: "LABEL", ValueFrom: field("metadata.labels['app']")},
		},
	}
	got, _, err := n.environment(t.Context(), pod, c)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"URL": "http://10.96.0.7:80/ $(LATER) $(URL)", "IMAGING_API_SERVICE_PORT": "own", "IMAGING_API_PORT_80_TCP_ADDR": "10.96.0.7",
		"KUBERNETES_SERVICE_HOST": "10.96.0.1", "C_SIZE": "7", "KEY": "s3cret", "IPS": "10.0.0.2,fd00::2", "NODE": "box", "LABEL": "web",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{"HEADLESS_SERVICE_HOST", "ELSEWHERE_SERVICE_HOST", "NONE"} {
		if value, set := got[name]; set {
			t.Errorf("%s is set, to %q", name, value)
		}
	}
	no := false
	pod.Spec.EnableServiceLinks = &no
	got, _, err = n.environment(t.Context(), pod, &corev1.Container{})
	if _, set := got["IMAGING_API_SERVICE_HOST"]; err != nil || set || got["KUBERNETES_SERVICE_HOST"] == "" {
		t.Errorf("without service links: %v, %v", got, err)
	}
	_, _, err = n.environment(t.Context(), pod, &corev1.Container{EnvFrom: []corev1.EnvFromSource{
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}}},
	}})
	if !errors.Is(err, errConfig) {
		t.Errorf("an absent ConfigMap: %v", err)
	}
}

func TestCommandAndVariables(t *testing.T) {
	t.Parallel()
	values := map[string]string{"X": "1"}
	for _, test := range []struct {
		command, args []string
		want          string
	}{
		{nil, nil, "[/entry default]"},
		{[]string{"run", "$(X)"}, nil, "[run 1]"},
		{nil, []string{"$(X)", "$(Y)", "$$(X)"}, "[/entry 1 $(Y) $(X)]"},
		{[]string{"run"}, []string{"a"}, "[run a]"},
	} {
		c := &corev1.Container{Command: test.command, Args: test.args}
		if got := fmt.Sprint(command(c, []string{"/entry"}, []string{"default"}, values)); got != test.want {
			t.Errorf("%v %v: %s, want %s", test.command, test.args, got, test.want)
		}
	}
	got := variables([]string{"PATH=/bin", "A=image"}, "box", map[string]string{"A": "own", "B": "b=c"})
	if want := []string{"PATH=/bin", "HOSTNAME=box", "A=own", "B=b=c"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestVolumes(t *testing.T) {
	t.Parallel()
	n := knowing(t)
	mode := int32(0o400)
	host := t.TempDir()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "uid", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Volumes: []corev1.Volume{
			{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "conf", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "settings"},
				Items:                []corev1.KeyToPath{{Key: "app.conf", Path: "etc/app.conf"}},
			}}},
			{Name: "keys", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys", DefaultMode: &mode}}},
			{Name: "self", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "name", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}}},
			{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: host}}},
		}},
	}
	places, err := n.volumes(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"conf/etc/app.conf": "conf", "keys/KEY": "s3cret", "self/name": "web"} {
		volume, rest, _ := strings.Cut(path, "/")
		if data, err := os.ReadFile(filepath.Join(places[volume], rest)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", path, data, err)
		}
	}
	if info, err := os.Stat(filepath.Join(places["keys"], "KEY")); err != nil || info.Mode() != 0o400 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if places["host"] != host {
		t.Errorf("hostPath at %s", places["host"])
	}
	// What was written to an emptyDir stays when the next container of the Pod starts.
	kept := filepath.Join(places["scratch"], "kept")
	if err := os.WriteFile(kept, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := n.volumes(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	// A link in a volume does not lead a subPath outside.
	if err := os.Symlink("/etc", filepath.Join(places["scratch"], "out")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"out", "out/ssl", "../../../etc"} {
		if place, err := subPath(places["scratch"], bad); err == nil && !strings.HasPrefix(place, places["scratch"]) {
			t.Errorf("subPath %s leads to %s", bad, place)
		}
	}
	pod.Spec.Volumes = []corev1.Volume{{Name: "disk", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}}}
	if _, err := n.volumes(t.Context(), pod); !errors.Is(err, errConfig) {
		t.Errorf("a kind that is not supported: %v", err)
	}
}
