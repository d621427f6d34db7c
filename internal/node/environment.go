package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/api/v1/resource"
	"k8s.io/kubernetes/pkg/fieldpath"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// errConfig marks errors in what a container refers to: the kubelet's CreateContainerConfigError.
var errConfig = errors.New("container configuration")

// environment resolves the variables of a container: Services first, then envFrom, then env, where a later one wins and may
// refer to earlier ones as $(NAME). The Pod carries its addresses in its status. Not all of them may go into the process's environment: links
// says which.
func (n *Node) environment(ctx context.Context, pod *corev1.Pod, c *corev1.Container) (map[string]string, *serviceLinks, error) {
	links, err := n.serviceVariables(pod)
	if err != nil {
		return nil, nil, err
	}
	values := maps.Clone(links.values)
	own := map[string]string{}
	for _, from := range c.EnvFrom {
		if err := n.addAll(ctx, pod.Namespace, from, own); err != nil {
			return nil, nil, err
		}
	}
	maps.Copy(values, own)
	// A reference sees what the container itself has defined before, and the Services.
	for _, variable := range c.Env {
		value := expansion.Expand(variable.Value, expansion.MappingFuncFor(values))
		if variable.ValueFrom != nil {
			var found bool
			value, found, err = n.valueFrom(ctx, pod, c, variable.ValueFrom)
			if err != nil {
				return nil, nil, fmt.Errorf("variable %s: %w", variable.Name, err)
			}
			if !found {
				continue
			}
		}
		values[variable.Name], own[variable.Name] = value, value
	}
	links.keep(own)
	return values, links, nil
}

func (n *Node) addAll(ctx context.Context, namespace string, from corev1.EnvFromSource, values map[string]string) error {
	add := func(data map[string]string) {
		for key, value := range data {
			values[from.Prefix+key] = value
		}
	}
	if ref := from.ConfigMapRef; ref != nil {
		m, err := n.configMap(ctx, namespace, ref.Name, ref.Optional)
		if err != nil {
			return err
		}
		add(m.Data)
	}
	if ref := from.SecretRef; ref != nil {
		s, err := n.secret(ctx, namespace, ref.Name, ref.Optional)
		if err != nil {
			return err
		}
		add(textOf(s.Data))
	}
	return nil
}

// valueFrom resolves one reference; found is false for an optional one that leads nowhere.
func (n *Node) valueFrom(ctx context.Context, pod *corev1.Pod, c *corev1.Container, from *corev1.EnvVarSource) (value string, found bool, err error) {
	key := func(data map[string]string, kind, name, key string, optional *bool) (string, bool, error) {
		value, found := data[key]
		if !found && (optional == nil || !*optional) {
			return "", false, fmt.Errorf("%w: couldn't find key %s in %s %s/%s", errConfig, key, kind, pod.Namespace, name)
		}
		return value, found, nil
	}
	switch {
	case from.FieldRef != nil:
		value, err = fieldValue(pod, from.FieldRef.FieldPath)
		return value, true, err
	case from.ResourceFieldRef != nil:
		value, err = resource.ExtractContainerResourceValue(from.ResourceFieldRef, c)
		return value, true, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		m, err := n.configMap(ctx, pod.Namespace, ref.Name, ref.Optional)
		if err != nil {
			return "", false, err
		}
		return key(m.Data, "ConfigMap", ref.Name, ref.Key, ref.Optional)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		s, err := n.secret(ctx, pod.Namespace, ref.Name, ref.Optional)
		if err != nil {
			return "", false, err
		}
		return key(textOf(s.Data), "Secret", ref.Name, ref.Key, ref.Optional)
	}
	return "", false, fmt.Errorf("%w: a kind of reference that is not supported", errConfig)
}

// fieldValue reads a field of the Pod itself, as the downward API names them.
func fieldValue(pod *corev1.Pod, path string) (string, error) {
	switch path {
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return pod.Status.HostIP, nil
	case "status.hostIPs":
		return joined(pod.Status.HostIPs, func(ip corev1.HostIP) string { return ip.IP }), nil
	case "status.podIP":
		return pod.Status.PodIP, nil
	case "status.podIPs":
		return joined(pod.Status.PodIPs, func(ip corev1.PodIP) string { return ip.IP }), nil
	}
	value, err := fieldpath.ExtractFieldPathAsString(pod, path)
	if err != nil {
		return "", fmt.Errorf("%w: field %s: %w", errConfig, path, err)
	}
	return value, nil
}

// rootCA is the ConfigMap with the API's authority, which nearly every Pod wants and which never changes: it is read once in rootCALife for all Pods of a
// namespace.
const (
	rootCA     = "kube-root-ca.crt"
	rootCALife = 5 * time.Minute
)

// readConfigMap is a ConfigMap and when it was read.
type readConfigMap struct {
	*corev1.ConfigMap
	at time.Time
}

// configMap gets a ConfigMap; an empty one if it is absent and optional.
func (n *Node) configMap(ctx context.Context, namespace, name string, optional *bool) (*corev1.ConfigMap, error) {
	if name == rootCA {
		if known, found := n.authorities.Load(namespace); found && time.Since(known.(readConfigMap).at) < rootCALife {
			return known.(readConfigMap).ConfigMap, nil
		}
	}
	m, err := n.Client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		if optional != nil && *optional && apierrors.IsNotFound(err) {
			return &corev1.ConfigMap{}, nil
		}
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	if name == rootCA {
		n.authorities.Store(namespace, readConfigMap{m, time.Now()})
	}
	return m, nil
}

// secret gets a Secret; an empty one if it is absent and optional.
func (n *Node) secret(ctx context.Context, namespace, name string, optional *bool) (*corev1.Secret, error) {
	s, err := n.Client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		if optional != nil && *optional && apierrors.IsNotFound(err) {
			return &corev1.Secret{}, nil
		}
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	return s, nil
}

func textOf(data map[string][]byte) map[string]string {
	text := make(map[string]string, len(data))
	for key, value := range data {
		text[key] = string(value)
	}
	return text
}

func joined[T any](items []T, text func(T) string) string {
	out := ""
	for i, item := range items {
		if i > 0 {
			out += ","
		}
		out += text(item)
	}
	return out
}

// command gives the arguments of a container's process: the Pod's command replaces the image's entry point and its default
// arguments, the Pod's args only the arguments.
func command(c *corev1.Container, entrypoint, defaults []string, values map[string]string) []string {
	expand := func(words []string) []string {
		var out []string
		for _, word := range words {
			out = append(out, expansion.Expand(word, expansion.MappingFuncFor(values)))
		}
		return out
	}
	switch {
	case len(c.Command) > 0:
		return append(expand(c.Command), expand(c.Args)...)
	case len(c.Args) > 0:
		return append(slices.Clone(entrypoint), expand(c.Args)...)
	}
	return append(slices.Clone(entrypoint), defaults...)
}

// variables joins the image's environment and the container's own, which wins, sorted by name after the image's.
func variables(image []string, hostname string, own map[string]string) []string {
	env := slices.Clone(image)
	if hostname != "" {
		env = append(env, "HOSTNAME="+hostname)
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		env = append(env, name+"="+own[name])
	}
	// Of two variables of one name, programs see the first or the last, as they like: keep the last only.
	seen := map[string]bool{}
	var unique []string
	for _, v := range slices.Backward(env) {
		name, _, _ := strings.Cut(v, "=")
		if !seen[name] {
			seen[name] = true
			unique = append(unique, v)
		}
	}
	slices.Reverse(unique)
	return unique
}
