package apiserver

import (
	"context"
	"fmt"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/apiserver/pki"
)

// as is a client of the server for a user who shows a client certificate of the authority, and who may ask to be taken for another.
func (r *running) as(t *testing.T, user string, other restclient.ImpersonationConfig) kubernetes.Interface {
	t.Helper()
	pair, err := r.authority.Leaf(pki.Leaf{Name: "user-" + user, CommonName: user})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(&restclient.Config{
		Host: r.url(), TLSClientConfig: restclient.TLSClientConfig{CAData: r.authority.CertPEM(), CertData: pair.CertPEM, KeyData: pair.KeyPEM},
		Impersonate: other,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

var noOther restclient.ImpersonationConfig

// Roles decide what a user may do, where, and only from the moment they are bound to the moment they are not.
func TestRoles(t *testing.T) {
	t.Parallel()
	here, elsewhere := shared.namespace(t), shared.namespace(t)
	ann := shared.as(t, "ann-"+here, noOther)
	list := func(namespace string) error {
		_, err := ann.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
		return err
	}
	err := list(here)
	if want := fmt.Sprintf(`pods is forbidden: User "ann-%s" cannot list resource "pods" in API group "" in the namespace "%s"`, here, here); !apierrors.IsForbidden(err) || err.Error() != want {
		t.Fatalf("without a role: %v, want %s", err, want)
	}
	for _, args := range []string{
		"create role pods --verb=get,list --resource=pods", "create rolebinding pods --role=pods --user=ann-" + here,
		"create clusterrole " + here + " --verb=list --resource=nodes", "create clusterrolebinding " + here + " --clusterrole=" + here + " --user=ann-" + here,
	} {
		if out, err := shared.kubectl(t, "", append([]string{"-n", here}, strings.Fields(args)...)...); err != nil {
			t.Fatalf("kubectl %s: %v: %s", args, err, out)
		}
	}
	eventually(t, func() error { return list(here) })
	if _, err := ann.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	if err := list(elsewhere); !apierrors.IsForbidden(err) {
		t.Errorf("in another namespace: %v", err)
	}
	if err := ann.CoreV1().Pods(here).Delete(t.Context(), "p", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("another verb: %v", err)
	}
	if err := shared.client.RbacV1().RoleBindings(here).Delete(t.Context(), "pods", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if err := list(here); !apierrors.IsForbidden(err) {
			return fmt.Errorf("after the binding went: %v", err)
		}
		return nil
	})
}

// Nobody gives others, or himself, what he has not.
func TestEscalation(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	user := "eve-" + ns
	rules := []rbacv1.PolicyRule{
		{APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "rolebindings"}, Verbs: []string{"create"}},
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}},
	}
	roles := shared.client.RbacV1().Roles(ns)
	if _, err := roles.Create(t.Context(), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "giver"}, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bind := func(client kubernetes.Interface, name, kind, role string) error {
		_, err := client.RbacV1().RoleBindings(ns).Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: role},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
		}, metav1.CreateOptions{})
		return err
	}
	if err := bind(shared.client, "giver", "Role", "giver"); err != nil {
		t.Fatal(err)
	}
	eve := shared.as(t, user, noOther)
	give := func(name, resource, verb string) error {
		_, err := eve.RbacV1().Roles(ns).Create(t.Context(), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{resource}, Verbs: []string{verb}}}}, metav1.CreateOptions{})
		return err
	}
	eventually(t, func() error { return give("less", "pods", "get") })
	if err := give("more", "secrets", "get"); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "attempting to grant RBAC permissions not currently held") {
		t.Errorf("a role with more than she has: %v", err)
	}
	if err := bind(eve, "more", "ClusterRole", "admin"); !apierrors.IsForbidden(err) {
		t.Errorf("a binding to more than she has: %v", err)
	}
	// The verbs bind and escalate say that she may all the same.
	role, err := roles.Get(t.Context(), "giver", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	role.Rules = append(role.Rules, rbacv1.PolicyRule{APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles"}, ResourceNames: []string{"view"}, Verbs: []string{"bind"}})
	if _, err := roles.Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { return bind(eve, "view", "ClusterRole", "view") })
}

// Upstream's default roles are there, composed of what carries their label, restored at a start, and say what upstream's say.
func TestDefaultRoles(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"cluster-admin", "admin", "edit", "view", "system:discovery", "system:basic-user", "system:public-info-viewer", "system:auth-delegator"} {
		eventually(t, func() error {
			r, err := shared.client.RbacV1().ClusterRoles().Get(t.Context(), role, metav1.GetOptions{})
			if err == nil && len(r.Rules) == 0 {
				err = fmt.Errorf("ClusterRole %s has no rules", role)
			}
			return err
		})
	}
	t.Cleanup(func() {
		_ = shared.client.RbacV1().ClusterRoles().Delete(context.Background(), "view-boats", metav1.DeleteOptions{})
	})
	// A role with the label joins, also for kinds that Fairway has never heard of.
	_, err := shared.client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "view-boats", Labels: map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"example.test"}, Resources: []string{"boats"}, Verbs: []string{"get"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ns := shared.namespace(t)
	for _, test := range []struct {
		role  string
		check authorizationv1.ResourceAttributes
		want  bool
	}{
		{"view", authorizationv1.ResourceAttributes{Verb: "get", Group: "example.test", Resource: "boats"}, true},
		{"admin", authorizationv1.ResourceAttributes{Verb: "get", Group: "example.test", Resource: "boats"}, true},
		{"view", authorizationv1.ResourceAttributes{Verb: "list", Resource: "pods"}, true},
		{"view", authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets"}, false},
		{"edit", authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets"}, true},
		{"edit", authorizationv1.ResourceAttributes{Verb: "create", Group: rbacv1.GroupName, Resource: "roles"}, false},
		{"admin", authorizationv1.ResourceAttributes{Verb: "create", Group: rbacv1.GroupName, Resource: "roles"}, true},
		{"admin", authorizationv1.ResourceAttributes{Verb: "delete", Resource: "nodes"}, false},
		{"cluster-admin", authorizationv1.ResourceAttributes{Verb: "anything", Group: "anywhere", Resource: "things"}, true},
	} {
		user := test.role + "-" + ns
		_, err := shared.client.RbacV1().RoleBindings(ns).Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: user}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: test.role},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
		test.check.Namespace = ns
		eventually(t, func() error {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &test.check}}
			review, err := shared.client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
			if err == nil && review.Status.Allowed != test.want {
				err = fmt.Errorf("%s: %s %s/%s: allowed %v, want %v: %s", test.role, test.check.Verb, test.check.Group, test.check.Resource, review.Status.Allowed, test.want, review.Status.Reason)
			}
			return err
		})
	}
}

// What is taken from the defaults is given back at the next start, unless somebody has said that it is his.
func TestDefaultsAreRestored(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	r := startFor(t, dualStack(dir))
	roles := func(r *running) error {
		for _, name := range []string{"cluster-admin", "view", "system:basic-user"} {
			if _, err := r.client.RbacV1().ClusterRoles().Get(context.Background(), name, metav1.GetOptions{}); err != nil {
				return err
			}
		}
		_, err := r.client.RbacV1().RoleBindings("kube-public").List(context.Background(), metav1.ListOptions{})
		return err
	}
	eventually(t, func() error {
		if _, err := r.client.RbacV1().ClusterRoleBindings().Get(t.Context(), "system:public-info-viewer", metav1.GetOptions{}); err != nil {
			return err
		}
		return roles(r)
	})
	view, err := r.client.RbacV1().ClusterRoles().Get(t.Context(), "system:public-info-viewer", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	view.Annotations[rbacv1.AutoUpdateAnnotationKey], view.Rules = "false", nil
	if _, err := r.client.RbacV1().ClusterRoles().Update(t.Context(), view, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"view", "system:basic-user"} {
		if err := r.client.RbacV1().ClusterRoles().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r.stopNow(t)
	r = startFor(t, dualStack(dir))
	eventually(t, func() error { return roles(r) })
	if kept, err := r.client.RbacV1().ClusterRoles().Get(t.Context(), view.Name, metav1.GetOptions{}); err != nil || len(kept.Rules) != 0 {
		t.Errorf("a role that is not to be updated: %v, %v", kept, err)
	}
}

// What a user sees of it with kubectl.
func TestKubectlAuth(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	account := "system:serviceaccount:" + ns + ":seller"
	reconciled := `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: ` + ns + `}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: ` + ns + `}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: seller, namespace: ` + ns + `}]
`
	for _, test := range []struct {
		command, stdin, want string
		fails                bool
	}{
		{"create serviceaccount seller", "", "serviceaccount/seller created", false},
		{"auth can-i list configmaps --as " + account, "", "no", true},
		{"auth reconcile -f -", reconciled, "role.rbac.authorization.k8s.io/reader reconciled", false},
		{"get rolebindings -o wide", "", ns + "/seller", false},
		{"auth whoami --as " + account, "", "system:serviceaccounts:" + ns, false},
		{"auth whoami --as bob --as-group friends", "", "friends", false},
		{"get pods --as bob", "", `User "bob" cannot list resource "pods"`, true},
		{"get pods --as " + account + " --as-group system:masters", "", "No resources found", false},
		{"create token seller --duration 5m", "", "may not specify a duration less than 10 minutes", true},
		{"create token nobody", "", `serviceaccounts "nobody" not found`, true},
		{"create -f -", "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: x}", `no matches for kind "ValidatingWebhookConfiguration"`, true},
		{"create -f -", "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: x}", `no matches for kind "ResourceQuota"`, true},
	} {
		args := append([]string{"-n", ns}, strings.Fields(test.command)...)
		eventually(t, func() error {
			out, err := shared.kubectl(t, test.stdin, args...)
			if (err != nil) != test.fails || !strings.Contains(out, test.want) {
				return fmt.Errorf("kubectl %s: %v: %s, want %s", test.command, err, out, test.want)
			}
			return nil
		})
	}
	eventually(t, func() error {
		out, err := shared.kubectl(t, "", "-n", ns, "auth", "can-i", "--list", "--as", account)
		if err != nil || !strings.Contains(out, "configmaps") || !strings.Contains(out, "selfsubjectrulesreviews.authorization.k8s.io") {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	})
	// Impersonation is a right like others.
	for _, other := range []restclient.ImpersonationConfig{noOther, {UserName: "admin", Groups: []string{"system:masters"}}, {UserName: account}} {
		if _, err := shared.as(t, "bob-"+ns, other).CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("as %q: %v", other.UserName, err)
		}
	}
}
