package node

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/api/v1/resource"
)

// content collects what a volume from the API is to hold. What is in dir already is looked at for tokens, which are kept while they are fresh.
func (n *Node) content(ctx context.Context, pod *corev1.Pod, v *corev1.Volume, dir *apiVolume) (map[string]file, error) {
	switch {
	case v.ConfigMap != nil:
		return n.projected(ctx, pod, dir, v.ConfigMap.DefaultMode, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: v.ConfigMap.LocalObjectReference, Items: v.ConfigMap.Items, Optional: v.ConfigMap.Optional,
		}})
	case v.Secret != nil:
		return n.projected(ctx, pod, dir, v.Secret.DefaultMode, corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: v.Secret.SecretName}, Items: v.Secret.Items, Optional: v.Secret.Optional,
		}})
	case v.DownwardAPI != nil:
		return n.projected(ctx, pod, dir, v.DownwardAPI.DefaultMode, corev1.VolumeProjection{
			DownwardAPI: &corev1.DownwardAPIProjection{Items: v.DownwardAPI.Items},
		})
	case v.Projected != nil:
		return n.projected(ctx, pod, dir, v.Projected.DefaultMode, v.Projected.Sources...)
	}
	return nil, errors.New("its kind is not supported by this node: use emptyDir, configMap, secret, downwardAPI, projected or hostPath")
}

func (n *Node) projected(ctx context.Context, pod *corev1.Pod, dir *apiVolume, defaultMode *int32, sources ...corev1.VolumeProjection) (map[string]file, error) {
	mode := int32(0o644)
	if defaultMode != nil {
		mode = *defaultMode
	}
	files := map[string]file{}
	for _, s := range sources {
		switch {
		case s.ConfigMap != nil:
			m, err := n.configMap(ctx, pod.Namespace, s.ConfigMap.Name, s.ConfigMap.Optional)
			if err != nil {
				return nil, err
			}
			data := maps.Clone(m.BinaryData)
			if data == nil {
				data = map[string][]byte{}
			}
			for key, value := range m.Data {
				data[key] = []byte(value)
			}
			if err := choose(files, data, s.ConfigMap.Items, s.ConfigMap.Optional, mode); err != nil {
				return nil, fmt.Errorf("ConfigMap %s/%s: %w", pod.Namespace, s.ConfigMap.Name, err)
			}
		case s.Secret != nil:
			secret, err := n.secret(ctx, pod.Namespace, s.Secret.Name, s.Secret.Optional)
			if err != nil {
				return nil, err
			}
			if err := choose(files, secret.Data, s.Secret.Items, s.Secret.Optional, mode); err != nil {
				return nil, fmt.Errorf("secret %s/%s: %w", pod.Namespace, s.Secret.Name, err)
			}
		case s.DownwardAPI != nil:
			for _, item := range s.DownwardAPI.Items {
				value, err := downward(pod, item)
				if err != nil {
					return nil, err
				}
				files[item.Path] = file{data: []byte(value), mode: modeOf(item.Mode, mode)}
			}
		case s.ServiceAccountToken != nil:
			token, err := n.token(ctx, pod, s.ServiceAccountToken, dir)
			if err != nil {
				return nil, err
			}
			f := file{data: token, mode: mode, user: onlyUser(pod)}
			if f.user != nil || fsGroup(pod) != nil { // as the kubelet has it: for whom it is known to be, and nobody else
				f.mode = 0o600
			}
			files[s.ServiceAccountToken.Path] = f
		default:
			return nil, errors.New("a projected source of a kind that is not supported")
		}
	}
	return files, nil
}

// choose takes the keys that items name, or all.
func choose(files map[string]file, data map[string][]byte, items []corev1.KeyToPath, optional *bool, mode int32) error {
	if len(items) == 0 {
		for key, value := range data {
			files[key] = file{data: value, mode: mode}
		}
		return nil
	}
	for _, item := range items {
		value, found := data[item.Key]
		if !found {
			if optional != nil && *optional {
				continue
			}
			return fmt.Errorf("references non-existent key: %s", item.Key)
		}
		files[item.Path] = file{data: value, mode: modeOf(item.Mode, mode)}
	}
	return nil
}

func modeOf(own *int32, otherwise int32) int32 {
	if own != nil {
		return *own
	}
	return otherwise
}

func downward(pod *corev1.Pod, item corev1.DownwardAPIVolumeFile) (string, error) {
	if item.FieldRef != nil {
		return fieldValue(pod, item.FieldRef.FieldPath)
	}
	if item.ResourceFieldRef == nil {
		return "", errors.New("a downward API item without a reference")
	}
	return resource.ExtractResourceValueByContainerName(item.ResourceFieldRef, pod, item.ResourceFieldRef.ContainerName)
}

// onlyUser is the user that all containers of a Pod run as, if the Pod says so.
func onlyUser(pod *corev1.Pod) *int64 {
	var podContext corev1.PodSecurityContext
	if pod.Spec.SecurityContext != nil {
		podContext = *pod.Spec.SecurityContext
	}
	var only *int64
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			var own corev1.SecurityContext
			if containers[i].SecurityContext != nil {
				own = *containers[i].SecurityContext
			}
			uid := first(own.RunAsUser, podContext.RunAsUser)
			if uid == nil || only != nil && *only != *uid {
				return nil
			}
			only = uid
		}
	}
	return only
}

// tokenLife is how long a token is asked for that does not say, in seconds; the API fills it in.
const tokenLife = 3600

// tokenMaxAge is when a token is replaced that is good for much longer; the kubelet's number.
const tokenMaxAge = 24 * time.Hour

// token is a token of the Pod's service account, bound to the Pod: the one in the volume while four fifths of its life are not over, else a new one.
func (n *Node) token(ctx context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection, dir *apiVolume) ([]byte, error) {
	life := time.Second * tokenLife
	if p.ExpirationSeconds != nil {
		life = time.Second * time.Duration(*p.ExpirationSeconds)
	}
	if old, err := dir.read(p.Path); err == nil && !time.Now().After(issued(old).Add(min(life*4/5, tokenMaxAge))) {
		return old, nil
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: p.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if p.Audience != "" {
		request.Spec.Audiences = []string{p.Audience}
	}
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	answer, err := n.Client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("token of service account %s/%s: %w", pod.Namespace, account, err)
	}
	return []byte(answer.Status.Token), nil
}

// issued reads from a token when it was made: long ago if it does not say. What the token says about its end is no guide, since the API
// may accept it for longer than was asked for.
func issued(token []byte) time.Time {
	var claims struct {
		IssuedAt int64 `json:"iat"`
	}
	parts := strings.Split(string(token), ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return time.Time{}
	}
	return time.Unix(claims.IssuedAt, 0)
}
