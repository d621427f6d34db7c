package source

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"

	fake "k8s.io/client-go/tools/cache/testing"
)

// TestNamedSecretsAndConfigMaps: what an Ingress or class of ours names is there, and nothing else, before the first state is complete; it comes and
// goes with who names it.
func TestNamedSecretsAndConfigMaps(t *testing.T) {
	t.Parallel()
	a := newAPI()
	a["configmaps"] = fake.NewFakeControllerSource()
	secret := func(name, value string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: meta("default", name), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"auth": []byte(value)}}
	}
	a["secrets"].Add(secret("users", "a:b"))
	a["secrets"].Add(secret("other", "x"))
	a["configmaps"].Add(&corev1.ConfigMap{ObjectMeta: meta("infra", "parameters"), Data: map[string]string{"hsts": "true"}})
	a["configmaps"].Add(&corev1.ConfigMap{ObjectMeta: meta("infra", "theirs")})
	class := func(name, controller, parameters string) *networkingv1.IngressClass {
		return &networkingv1.IngressClass{ObjectMeta: meta("", name), Spec: networkingv1.IngressClassSpec{Controller: controller,
			Parameters: &networkingv1.IngressClassParametersReference{Kind: "ConfigMap", Name: parameters, Namespace: ptr("infra"), Scope: ptr("Namespace")}}}
	}
	a["ingressclasses"].Add(class("fairway", model.IngressController, "parameters"))
	a["ingressclasses"].Add(class("theirs", "example.com/other", "theirs"))
	ing := func(name, class, secret string) *networkingv1.Ingress {
		i := &networkingv1.Ingress{ObjectMeta: meta("default", name), Spec: networkingv1.IngressSpec{IngressClassName: &class}}
		i.Annotations = map[string]string{"nginx.ingress.kubernetes.io/auth-secret": secret}
		return i
	}
	a["ingresses"].Add(ing("mine", "fairway", "users"))
	a["ingresses"].Add(ing("elsewhere", "fairway", "kube-system/users"))
	a["ingresses"].Add(ing("theirs", "theirs", "other"))
	st := start(t, a)
	snap := await(t, st, "synced", synced)
	users := model.Name{Namespace: "default", Name: "users"}
	if s := snap.Secrets.Get(users); s == nil || string(s.Data["auth"]) != "a:b" || snap.Secrets.Len() != 1 || snap.ConfigMaps.Len() != 1 {
		t.Fatalf("users %v, %d secrets and %d config maps in the first state; want 1 of each", s, snap.Secrets.Len(), snap.ConfigMaps.Len())
	}
	a["secrets"].Modify(secret("users", "a:c"))
	await(t, st, "change", func(s *store.Snapshot) bool {
		row := s.Secrets.Get(users)
		return row != nil && string(row.Data["auth"]) == "a:c"
	})
	a["ingresses"].Modify(ing("mine", "fairway", "other"))
	await(t, st, "another name", func(s *store.Snapshot) bool {
		return s.Secrets.Get(users) == nil && s.Secrets.Get(model.Name{Namespace: "default", Name: "other"}) != nil
	})
	a["ingresses"].Delete(ing("mine", "fairway", "other"))
	await(t, st, "nobody names it", func(s *store.Snapshot) bool { return s.Secrets.Len() == 0 })
}
