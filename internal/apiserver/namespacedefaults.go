package apiserver

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/kubernetes/pkg/controller/certificates/rootcacertpublisher"
)

// defaultAccount is the ServiceAccount of Pods that do not name one.
const defaultAccount = "default"

// namespaceDefaults gives every namespace what its Pods rely on, and gives it back when it is taken away: the ConfigMap with the authority's certificate,
// and the default ServiceAccount. The ConfigMap comes first: a Pod is admitted only when its ServiceAccount is there, and so finds both. (Upstream has
// one controller for each, and a Pod that comes between them waits for the next attempt.)
type namespaceDefaults struct {
	client    kubernetes.Interface
	authority map[string]string // the ConfigMap's data
	log       *slog.Logger

	namespaces corelisters.NamespaceLister
	accounts   corelisters.ServiceAccountLister
	configMaps corelisters.ConfigMapLister
	own        informers.SharedInformerFactory // of the one ConfigMap in each namespace
	queue      workqueue.TypedRateLimitingInterface[string]
}

// newNamespaceDefaults registers with the informers of shared, which others start.
func newNamespaceDefaults(client kubernetes.Interface, shared informers.SharedInformerFactory, authority []byte, log *slog.Logger) *namespaceDefaults {
	own := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(withoutManagedFields),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector("metadata.name", rootcacertpublisher.RootCACertConfigMapName).String()
		}))
	namespaces, accounts, configMaps := shared.Core().V1().Namespaces(), shared.Core().V1().ServiceAccounts(), own.Core().V1().ConfigMaps()
	d := &namespaceDefaults{
		client: client, authority: map[string]string{"ca.crt": string(authority)}, log: log, own: own,
		namespaces: namespaces.Lister(), accounts: accounts.Lister(), configMaps: configMaps.Lister(),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, systemCheck)),
	}
	namespaceOf := func(obj any) {
		if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = unknown.Obj
		}
		d.queue.Add(obj.(metav1.Object).GetNamespace())
	}
	// These fail only for an informer that has been stopped.
	_, _ = namespaces.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { d.queue.Add(obj.(*corev1.Namespace).Name) },
		UpdateFunc: func(_, obj any) { d.queue.Add(obj.(*corev1.Namespace).Name) },
	})
	_, _ = accounts.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: namespaceOf})
	_, _ = configMaps.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, obj any) { namespaceOf(obj) }, DeleteFunc: namespaceOf})
	return d
}

// run works until ctx ends.
func (d *namespaceDefaults) run(ctx context.Context) {
	d.own.Start(ctx.Done())
	defer d.own.Shutdown()
	for _, synced := range d.own.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return // ctx has ended
		}
	}
	stop := context.AfterFunc(ctx, d.queue.ShutDown)
	defer stop()
	for {
		namespace, ended := d.queue.Get()
		if ended {
			return
		}
		if err := d.restore(ctx, namespace); err != nil {
			if ctx.Err() == nil {
				d.log.Error("namespace defaults: restore", "namespace", namespace, "error", err)
			}
			d.queue.AddRateLimited(namespace)
		} else {
			d.queue.Forget(namespace)
		}
		d.queue.Done(namespace)
	}
}

func (d *namespaceDefaults) restore(ctx context.Context, name string) error {
	namespace, err := d.namespaces.Get(name)
	if err != nil || namespace.DeletionTimestamp != nil {
		return nil // it is gone, or going
	}
	if err := d.configMap(ctx, name); err != nil {
		return fmt.Errorf("ConfigMap %s/%s: %w", name, rootcacertpublisher.RootCACertConfigMapName, err)
	}
	if err := d.account(ctx, name); err != nil {
		return fmt.Errorf("ServiceAccount %s/%s: %w", name, defaultAccount, err)
	}
	return nil
}

func (d *namespaceDefaults) configMap(ctx context.Context, namespace string) error {
	have, err := d.configMaps.ConfigMaps(namespace).Get(rootcacertpublisher.RootCACertConfigMapName)
	if apierrors.IsNotFound(err) {
		want := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Name:        rootcacertpublisher.RootCACertConfigMapName,
				Annotations: map[string]string{rootcacertpublisher.DescriptionAnnotation: rootcacertpublisher.Description},
			},
			Data: d.authority,
		}
		_, err = d.client.CoreV1().ConfigMaps(namespace).Create(ctx, want, metav1.CreateOptions{})
		return made(err)
	}
	if err != nil || maps.Equal(have.Data, d.authority) {
		return err
	}
	have = have.DeepCopy()
	have.Data = d.authority
	_, err = d.client.CoreV1().ConfigMaps(namespace).Update(ctx, have, metav1.UpdateOptions{})
	return err
}

func (d *namespaceDefaults) account(ctx context.Context, namespace string) error {
	_, err := d.accounts.ServiceAccounts(namespace).Get(defaultAccount)
	if apierrors.IsNotFound(err) {
		want := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: defaultAccount}}
		_, err = d.client.CoreV1().ServiceAccounts(namespace).Create(ctx, want, metav1.CreateOptions{})
		return made(err)
	}
	return err
}

// made takes away what is no error of a create: that the object is there already, or that its namespace is going or gone.
func made(err error) error {
	if apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return err
}
