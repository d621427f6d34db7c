package podspec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// decided are all fields that are done, as Check names them.
func decided() map[string]bool {
	fields := map[string]bool{}
	add := func(prefix, list string) {
		for f := range strings.FieldsSeq(list) {
			fields[prefix+f] = true
		}
	}
	add("", done)
	for _, call := range []string{"livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop"} {
		add("containers."+call+".", doneCalls)
		if strings.HasSuffix(call, "Probe") {
			add("containers."+call+".", doneProbes)
		}
	}
	return fields
}

// TestEveryField goes through all fields of the API's Pod: each is done or has a rule, never both, and each decision is about a field that there is.
func TestEveryField(t *testing.T) {
	t.Parallel()
	fields, met := decided(), map[string]bool{}
	leaves := 0
	var walk func(ty reflect.Type, kind string)
	walk = func(ty reflect.Type, kind string) {
		_, ruled := rules[kind]
		met[kind] = true
		met[kind+".*"] = true
		if fields[kind+".*"] || ruled {
			if ruled && (fields[kind] || fields[kind+".*"]) {
				t.Errorf("%s is done and has a rule", kind)
			}
			leaves++
			return
		}
		for ty.Kind() == reflect.Pointer || ty.Kind() == reflect.Slice {
			ty = ty.Elem()
		}
		if !described(ty) {
			leaves++
			if !fields[kind] {
				t.Errorf("nobody has decided whether the node does spec.%s: see internal/podspec/fields.go", kind)
			}
			return
		}
		for i := range ty.NumField() {
			next := kind
			if name := fieldName(ty.Field(i)); name != "" {
				next = under(kind, name)
			}
			walk(ty.Field(i).Type, next)
		}
	}
	for f := range reflect.TypeFor[corev1.PodSpec]().Fields() {
		walk(f.Type, under("", fieldName(f)))
	}
	if leaves < 200 {
		t.Errorf("only %d fields seen", leaves)
	}
	for f := range fields {
		if !met[f] {
			t.Errorf("%s is done, and there is no such field", f)
		}
	}
	for f, r := range rules {
		if !met[f] {
			t.Errorf("there is a rule for %s, and no such field", f)
		}
		if r.why == "" {
			t.Errorf("%s: the rule does not say why", f)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// TestCheck gives descriptions and wants what is not done, by name: with an exclamation mark what is refused.
func TestCheck(t *testing.T) {
	t.Parallel()
	always, never := corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever
	one := func(c corev1.Container) corev1.PodSpec { return corev1.PodSpec{Containers: []corev1.Container{{}, c}} }
	for _, c := range []struct {
		name string
		spec corev1.PodSpec
		want []string
	}{
		{"plain", one(corev1.Container{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}), nil},
		{"values that ask for nothing", corev1.PodSpec{
			ShareProcessNamespace: ptr(false), HostUsers: ptr(true), OS: &corev1.PodOS{Name: corev1.Linux},
			SecurityContext: &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}},
			InitContainers:  []corev1.Container{{RestartPolicy: &always}}, ImagePullSecrets: []corev1.LocalObjectReference{},
			Containers: []corev1.Container{{
				SecurityContext: &corev1.SecurityContext{ProcMount: ptr(corev1.DefaultProcMount)},
				VolumeMounts:    []corev1.VolumeMount{{MountPropagation: ptr(corev1.MountPropagationNone)}},
				Resources:       corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}},
			}},
		}, nil},
		{"namespaces", corev1.PodSpec{ShareProcessNamespace: ptr(true), HostUsers: ptr(false), HostPID: true}, []string{"!spec.shareProcessNamespace", "!spec.hostUsers"}},
		{"port of the machine", one(corev1.Container{Ports: []corev1.ContainerPort{{HostPort: 80, HostIP: "::"}}}), []string{"!spec.containers[1].ports[0].hostPort"}},
		{"on the machine's network", corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{HostPort: 80}}}}}, nil},
		{"profiles", corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{SecurityContext: &corev1.SecurityContext{
				AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: ptr("mine")}}}},
		}, []string{"spec.containers[0].securityContext.appArmorProfile.type", "!spec.containers[0].securityContext.appArmorProfile.localhostProfile",
			"spec.securityContext.seccompProfile.type"}},
		{"restarts", corev1.PodSpec{InitContainers: []corev1.Container{{RestartPolicy: &never}}, Containers: []corev1.Container{{RestartPolicy: &always}}},
			[]string{"!spec.initContainers[0].restartPolicy", "!spec.containers[0].restartPolicy"}},
		{"volumes", corev1.PodSpec{Volumes: []corev1.Volume{
			{Name: "d", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr(resource.MustParse("1Gi"))}}},
			{Name: "m", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: ptr(resource.MustParse("1Gi"))}}},
			{Name: "n", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s"}}},
			{Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}},
		}}, []string{"spec.volumes[0].emptyDir.sizeLimit", "!spec.volumes[2].nfs"}},
		{"disk", one(corev1.Container{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")}}}),
			[]string{"spec.containers[1].resources.requests"}},
		{"files as variables", one(corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{Key: "k"}}}}}),
			[]string{"!spec.containers[1].env[0].valueFrom.fileKeyRef"}},
	} {
		var got []string
		for _, f := range Check(&c.spec) {
			got = append(got, fmt.Sprintf("%.*s%s", map[bool]int{true: 1}[f.Refused], "!", f.Field))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
