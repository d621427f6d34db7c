package cluster_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
)

// manifests reads a file of deploy/ as a user would apply it; an unknown field is an error.
func manifests(t testing.TB, file string) (out []runtime.Object) {
	t.Helper()
	text := string(ok(os.ReadFile("../../deploy/" + file))(t))
	text = strings.NewReplacer("FAIRWAY_IMAGE", "registry.example/fairway:v0", "API_SERVER", "192.0.2.1").Replace(text)
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for doc := range strings.SplitSeq(text, "\n---\n") {
		o, _, err := strict.Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, o)
	}
	return out
}

// apply creates the objects of a file of deploy/, but for those that are there.
func (c *cluster) apply(t testing.TB, file string) {
	t.Helper()
	ctx, o := t.Context(), metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}
	for _, obj := range manifests(t, file) {
		var err error
		switch obj := obj.(type) {
		case *corev1.Namespace:
			_, err = c.CoreV1().Namespaces().Create(ctx, obj, o)
		case *corev1.ServiceAccount:
			_, err = c.CoreV1().ServiceAccounts(obj.Namespace).Create(ctx, obj, o)
		case *rbacv1.ClusterRole:
			_, err = c.RbacV1().ClusterRoles().Create(ctx, obj, o)
		case *rbacv1.ClusterRoleBinding:
			_, err = c.RbacV1().ClusterRoleBindings().Create(ctx, obj, o)
		case *rbacv1.Role:
			_, err = c.RbacV1().Roles(obj.Namespace).Create(ctx, obj, o)
		case *rbacv1.RoleBinding:
			_, err = c.RbacV1().RoleBindings(obj.Namespace).Create(ctx, obj, o)
		case *networkingv1.IngressClass:
			_, err = c.NetworkingV1().IngressClasses().Create(ctx, obj, o)
		case *appsv1.DaemonSet:
			_, err = c.AppsV1().DaemonSets(obj.Namespace).Create(ctx, obj, o)
		case *appsv1.Deployment:
			_, err = c.AppsV1().Deployments(obj.Namespace).Create(ctx, obj, o)
		default:
			t.Fatalf("%s: an object of type %T", file, obj)
		}
		if err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatalf("%s: %v", file, err)
		}
	}
}

// right is one thing that a role allows, or that somebody did: "list endpointslices.discovery.k8s.io".
type right string

func rightOf(verb, resource, group string) right {
	if group != "" {
		resource += "." + group
	}
	return right(verb + " " + resource)
}

// granted gives the rights of all roles in the files.
func granted(t testing.TB, files ...string) map[right]bool {
	out := map[right]bool{}
	for _, f := range files {
		for _, o := range manifests(t, f) {
			var rules []rbacv1.PolicyRule
			switch o := o.(type) {
			case *rbacv1.ClusterRole:
				rules = o.Rules
			case *rbacv1.Role:
				rules = o.Rules
			}
			for _, r := range rules {
				for _, g := range r.APIGroups {
					for _, res := range r.Resources {
						for _, v := range r.Verbs {
							out[rightOf(v, res, g)] = true
						}
					}
				}
			}
		}
	}
	return out
}

// used reads from the audit log what a ServiceAccount of fairway-system has done, and fails for what was forbidden.
func (c *cluster) used(t testing.TB, account string) map[right]bool {
	t.Helper()
	out := map[right]bool{}
	lines := bufio.NewScanner(bytes.NewReader(ok(os.ReadFile(c.server.AuditLog()))(t)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			Verb, RequestURI string
			User             struct{ Username string }
			ObjectRef        struct{ Resource, Subresource, APIGroup, Name string }
			ResponseStatus   struct{ Code int }
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.User.Username != "system:serviceaccount:fairway-system:"+account {
			continue // the last line may be half written
		}
		if e.ResponseStatus.Code == 403 || e.ObjectRef.Resource == "" {
			t.Errorf("%s: %s %s is answered with %d", account, e.Verb, e.RequestURI, e.ResponseStatus.Code)
		}
		resource := e.ObjectRef.Resource
		if e.ObjectRef.Subresource != "" {
			resource += "/" + e.ObjectRef.Subresource
		}
		out[rightOf(e.Verb, resource, e.ObjectRef.APIGroup)] = true
		if e.Verb == "watch" && strings.Contains(e.RequestURI, "sendInitialEvents=true") {
			out[rightOf("list", resource, e.ObjectRef.APIGroup)] = true // a list in the form of a watch; an older API is asked for a list
		}
	}
	return out
}

// usesAll waits until a ServiceAccount has used every right of the files, and holds it to them.
func (c *cluster) usesAll(t testing.TB, account string, files ...string) {
	t.Helper()
	may := granted(t, files...)
	until(t, account+" uses its roles", func() error {
		var missing []string
		did := c.used(t, account)
		for r := range may {
			if !did[r] {
				missing = append(missing, string(r))
			}
		}
		if slices.Sort(missing); len(missing) > 0 {
			return fmt.Errorf("never used: %v", missing)
		}
		return nil
	})
	for r := range c.used(t, account) {
		if !may[r] {
			t.Errorf("%s did %s, which %v do not grant", account, r, files)
		}
	}
}
