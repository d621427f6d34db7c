package service

import (
	"context"
	"fmt"
	"path"

	etcd "go.etcd.io/etcd/client/v3/kubernetes"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/networking"
	"k8s.io/kubernetes/pkg/printers"
	printersinternal "k8s.io/kubernetes/pkg/printers/internalversion"
	printerstorage "k8s.io/kubernetes/pkg/printers/storage"
	upstream "k8s.io/kubernetes/pkg/registry/core/service"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Storage serves the resource services.
//
// Unlike upstream's it needs no repair of objects on their way out: that is for Services stored by releases older than the
// fields that are filled in, and no such release of Fairway exists.
type Storage struct {
	*genericregistry.Store
	allocators *Allocators
	repairs    repairs

	client    *etcd.Client
	prefix    string // of every key
	addresses addressObjects
	// The storages beside, which IPAddresses and ServiceCIDRs set.
	objects *genericregistry.Store
	cidrs   *ServiceCIDRs
}

var (
	_ rest.ShortNamesProvider = (*Storage)(nil)
	_ rest.CategoriesProvider = (*Storage)(nil)
)

// NewStorage makes the storage of services and that of services/status, in the database of that client. IPAddresses, ServiceCIDRs and
// then Load must have been called before the first write, and Run must run.
func NewStorage(options generic.RESTOptionsGetter, allocators *Allocators, client *etcd.Client) (*Storage, *StatusStorage, error) {
	store := &genericregistry.Store{
		NewFunc:                   func() runtime.Object { return &api.Service{} },
		NewListFunc:               func() runtime.Object { return &api.ServiceList{} },
		PredicateFunc:             upstream.Matcher,
		DefaultQualifiedResource:  api.Resource("services"),
		SingularQualifiedResource: api.Resource("service"),
		ReturnDeletedObject:       true,

		CreateStrategy:      upstream.Strategy,
		UpdateStrategy:      upstream.Strategy,
		DeleteStrategy:      upstream.Strategy,
		ResetFieldsStrategy: upstream.Strategy,

		TableConvertor: printerstorage.TableConvertor{TableGenerator: printers.NewTableGenerator().With(printersinternal.AddHandlers)},
	}
	if err := store.CompleteWithOptions(&generic.StoreOptions{RESTOptions: options, AttrFunc: upstream.GetAttrs}); err != nil {
		return nil, nil, fmt.Errorf("services: make storage: %w", err)
	}
	addresses, err := newAddressObjects(options)
	if err != nil {
		return nil, nil, err
	}
	of, err := options.GetRESTOptions(store.DefaultQualifiedResource, &api.Service{})
	if err != nil {
		return nil, nil, fmt.Errorf("services: where they are stored: %w", err)
	}
	store.Storage.Storage = &joinedStorage{store.Storage.Storage, allocators, addresses}
	s := &Storage{Store: store, allocators: allocators, repairs: newRepairs(), client: client, prefix: path.Join("/", of.StorageConfig.Prefix), addresses: addresses}
	store.BeginCreate = s.beginCreate
	store.BeginUpdate = s.beginUpdate
	store.AfterDelete = s.afterDelete

	status := *store
	status.UpdateStrategy = upstream.StatusStrategy
	status.ResetFieldsStrategy = upstream.StatusStrategy
	status.BeginCreate, status.BeginUpdate = nil, nil // the status has nothing to allocate; AfterDelete stays: it may remove the last finalizer
	return s, &StatusStorage{&status}, nil
}

// Load reads the stored ServiceCIDRs, Services and IPAddress objects, and marks what they hold as used. What is wrong with that, Run
// tells and repairs.
func (s *Storage) Load(ctx context.Context) error {
	if _, err := s.cidrs.refresh(ctx); err != nil {
		return err
	}
	services, objects := &api.ServiceList{}, &networking.IPAddressList{}
	if err := listAll(ctx, s.Store, services); err != nil {
		return fmt.Errorf("services: load: %w", err)
	}
	if err := listAll(ctx, s.objects, objects); err != nil {
		return fmt.Errorf("ipaddresses: load: %w", err)
	}
	for i := range services.Items {
		s.allocators.adopt(&services.Items[i])
	}
	for i := range objects.Items {
		if addr, ok := addressOf(&objects.Items[i]); ok {
			s.allocators.holdAddress(addr, byObject, false)
		}
	}
	return nil
}

func (s *Storage) beginCreate(ctx context.Context, obj runtime.Object, options *metav1.CreateOptions) (genericregistry.FinishFunc, error) {
	svc := obj.(*api.Service)
	linkClusterIPs(svc, nil)
	return s.begin(ctx, svc, nil, dryrun.IsDryRun(options.DryRun))
}

func (s *Storage) beginUpdate(ctx context.Context, obj, oldObj runtime.Object, options *metav1.UpdateOptions) (genericregistry.FinishFunc, error) {
	svc, old := obj.(*api.Service), oldObj.(*api.Service)
	keepAllocated(svc, old)
	linkClusterIPs(svc, old)
	return s.begin(ctx, svc, old, dryrun.IsDryRun(options.DryRun))
}

func (s *Storage) begin(ctx context.Context, svc, old *api.Service, dryRun bool) (genericregistry.FinishFunc, error) {
	if svc.Spec.Type == api.ServiceTypeExternalName {
		svc.Spec.InternalTrafficPolicy = nil // has no meaning there; a change of type may have left it
	}
	if err := s.allocators.settleFamilies(svc, old); err != nil {
		return nil, err
	}
	write, ok := ctx.Value(writeKey{}).(*write)
	if !ok { // nobody writes Services past Create and Update in write.go
		return nil, fmt.Errorf("service %s: allocate: not within a write", svc.Name)
	}
	write.next()
	r, err := s.allocators.reserve(svc, old, dryRun)
	if err != nil {
		return nil, err
	}
	return write.attempt(r), nil
}

func (s *Storage) afterDelete(obj runtime.Object, options *metav1.DeleteOptions) {
	if !dryrun.IsDryRun(options.DryRun) {
		s.allocators.release(obj.(*api.Service))
	}
}

// ShortNames implements rest.ShortNamesProvider.
func (*Storage) ShortNames() []string { return []string{"svc"} }

// Categories implements rest.CategoriesProvider.
func (*Storage) Categories() []string { return []string{"all"} }

// StatusStorage serves the subresource services/status.
type StatusStorage struct {
	store *genericregistry.Store
}

var (
	_ rest.Patcher             = (*StatusStorage)(nil)
	_ rest.ResetFieldsStrategy = (*StatusStorage)(nil)
	_ rest.TableConvertor      = (*StatusStorage)(nil)
)

// New implements rest.Storage.
func (s *StatusStorage) New() runtime.Object { return s.store.New() }

// Destroy implements rest.Storage. The store is that of the Services, which destroys it.
func (*StatusStorage) Destroy() {}

// Get implements rest.Getter.
func (s *StatusStorage) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	return s.store.Get(ctx, name, options)
}

// Update implements rest.Updater. It never creates.
func (s *StatusStorage) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, createValidation rest.ValidateObjectFunc, updateValidation rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return s.store.Update(ctx, name, info, createValidation, updateValidation, false, options)
}

// GetResetFields implements rest.ResetFieldsStrategy.
func (s *StatusStorage) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.store.GetResetFields()
}

// ConvertToTable implements rest.TableConvertor.
func (s *StatusStorage) ConvertToTable(ctx context.Context, object, options runtime.Object) (*metav1.Table, error) {
	return s.store.ConvertToTable(ctx, object, options)
}
