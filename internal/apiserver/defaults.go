package apiserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	schedulingv1 "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
)

// defaults is what every cluster has, and that nobody has to wait for at the start: roles and what is composed of them, system priority classes, what each
// namespace has, and the tokens in Secrets that ask for one.
type defaults struct {
	client     kubernetes.Interface
	shared     informers.SharedInformerFactory
	namespaces *namespaceDefaults
	aggregated *clusterroleaggregation.ClusterRoleAggregationController
	secrets    informers.SharedInformerFactory // those of type kubernetes.io/service-account-token
	tokens     *serviceaccount.TokensController
}

// newDefaults registers with the informers of shared, which others start.
func (s *Server) newDefaults(ctx context.Context, client kubernetes.Interface, shared informers.SharedInformerFactory) (*defaults, error) {
	secrets := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(withoutManagedFields),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector("type", string(corev1.SecretTypeServiceAccountToken)).String()
		}))
	tokens, err := serviceaccount.NewTokensController(klog.FromContext(ctx), shared.Core().V1().ServiceAccounts(), secrets.Core().V1().Secrets(), client,
		serviceaccount.TokensControllerOptions{TokenGenerator: s.accounts.legacy, RootCA: s.authority.CertPEM()})
	if err != nil {
		return nil, fmt.Errorf("controller of token Secrets: make: %w", err)
	}
	return &defaults{
		client: client, shared: shared,
		namespaces: newNamespaceDefaults(client, shared, s.authority.CertPEM(), s.log),
		aggregated: clusterroleaggregation.NewClusterRoleAggregation(shared.Rbac().V1().ClusterRoles(), client.RbacV1()),
		secrets:    secrets, tokens: tokens,
	}, nil
}

// run works until ctx ends. The informers of shared must have synced.
func (d *defaults) run(ctx context.Context, log *slog.Logger) {
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { d.namespaces.run(ctx) })
	parts.Go(func() {
		for d.restore(ctx, log) != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(systemCheck):
			}
		}
		// After the roles that it composes, so that each one is composed once.
		d.aggregated.Run(ctx, 1)
	})
	parts.Go(func() {
		d.secrets.Start(ctx.Done())
		defer d.secrets.Shutdown()
		d.tokens.Run(ctx, 1)
	})
}

// restore makes the roles and priority classes that are missing.
func (d *defaults) restore(ctx context.Context, log *slog.Logger) error {
	err := errors.Join(d.priorityClasses(ctx), restoreRoles(ctx, d.client, d.shared))
	if err != nil && ctx.Err() == nil {
		log.Error("default roles and priority classes: restore", "error", err)
	}
	return err
}

func (d *defaults) priorityClasses(ctx context.Context) error {
	list, api := d.shared.Scheduling().V1().PriorityClasses().Lister(), d.client.SchedulingV1().PriorityClasses()
	for _, class := range schedulingv1.SystemPriorityClasses() {
		if _, err := list.Get(class.Name); err == nil {
			continue
		}
		if _, err := api.Create(ctx, class, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("priority class %s: create: %w", class.Name, err)
		}
	}
	return nil
}
