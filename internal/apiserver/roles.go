package apiserver

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/reconciliation"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

// restoreRoles makes upstream's default roles and bindings where they are missing and gives back to them what was taken from them; what was added
// stays, and so does all of one with the annotation rbac.authorization.kubernetes.io/autoupdate: "false". It compares with what the informers of shared
// hold, so that a start at which nothing is missing asks the API nothing.
//
// The roles of upstream's own controllers (system:controller:*) are not among them: those controllers run in this process, and roles that nobody needs
// are only there to be abused.
func restoreRoles(ctx context.Context, client kubernetes.Interface, shared informers.SharedInformerFactory) error {
	var errs []error
	lists, api := shared.Rbac().V1(), client.RbacV1()
	role := func(role reconciliation.RuleOwner, modifier reconciliation.RuleOwnerModifier) {
		if ctx.Err() != nil {
			return
		}
		options := reconciliation.ReconcileRoleOptions{Role: role, Client: modifier, Confirm: true}
		if _, err := options.Run(); err != nil {
			errs = append(errs, fmt.Errorf("role %s: restore: %w", role.GetName(), err))
		}
	}
	binding := func(binding reconciliation.RoleBinding, modifier reconciliation.RoleBindingModifier) {
		if ctx.Err() != nil {
			return
		}
		options := reconciliation.ReconcileRoleBindingOptions{RoleBinding: binding, Client: modifier, Confirm: true}
		if _, err := options.Run(); err != nil {
			errs = append(errs, fmt.Errorf("role binding %s: restore: %w", binding.GetName(), err))
		}
	}
	clusterRoles := listedClusterRoles{reconciliation.ClusterRoleModifier{Client: api.ClusterRoles()}, lists.ClusterRoles().Lister()}
	for _, r := range bootstrappolicy.ClusterRoles() {
		role(reconciliation.ClusterRoleRuleOwner{ClusterRole: &r}, clusterRoles)
	}
	clusterBindings := listedClusterRoleBindings{reconciliation.ClusterRoleBindingClientAdapter{Client: api.ClusterRoleBindings()}, lists.ClusterRoleBindings().Lister()}
	for _, b := range bootstrappolicy.ClusterRoleBindings() {
		binding(reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: &b}, clusterBindings)
	}
	roles := listedRoles{reconciliation.RoleModifier{Client: api, NamespaceClient: client.CoreV1().Namespaces()}, lists.Roles().Lister()}
	for _, in := range bootstrappolicy.NamespaceRoles() {
		for _, r := range in {
			role(reconciliation.RoleRuleOwner{Role: &r}, roles)
		}
	}
	bindings := listedRoleBindings{reconciliation.RoleBindingClientAdapter{Client: api, NamespaceClient: client.CoreV1().Namespaces()}, lists.RoleBindings().Lister()}
	for _, in := range bootstrappolicy.NamespaceRoleBindings() {
		for _, b := range in {
			binding(reconciliation.RoleBindingAdapter{RoleBinding: &b}, bindings)
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// The following look a role or binding up in a list instead of asking the API.

type listedClusterRoles struct {
	reconciliation.ClusterRoleModifier
	list rbaclisters.ClusterRoleLister
}

func (l listedClusterRoles) Get(_, name string) (reconciliation.RuleOwner, error) {
	found, err := l.list.Get(name)
	return reconciliation.ClusterRoleRuleOwner{ClusterRole: found}, err
}

type listedRoles struct {
	reconciliation.RoleModifier
	list rbaclisters.RoleLister
}

func (l listedRoles) Get(namespace, name string) (reconciliation.RuleOwner, error) {
	found, err := l.list.Roles(namespace).Get(name)
	return reconciliation.RoleRuleOwner{Role: found}, err
}

type listedClusterRoleBindings struct {
	reconciliation.ClusterRoleBindingClientAdapter
	list rbaclisters.ClusterRoleBindingLister
}

func (l listedClusterRoleBindings) Get(_, name string) (reconciliation.RoleBinding, error) {
	found, err := l.list.Get(name)
	return reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: found}, err
}

type listedRoleBindings struct {
	reconciliation.RoleBindingClientAdapter
	list rbaclisters.RoleBindingLister
}

func (l listedRoleBindings) Get(namespace, name string) (reconciliation.RoleBinding, error) {
	found, err := l.list.RoleBindings(namespace).Get(name)
	return reconciliation.RoleBindingAdapter{RoleBinding: found}, err
}
