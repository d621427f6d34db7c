package service

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/pkg/apis/networking"
	"k8s.io/kubernetes/pkg/controller/servicecidrs"
	upstream "k8s.io/kubernetes/pkg/registry/networking/servicecidr/storage"
)

// cidrRetry is how soon a ServiceCIDR is looked at again whose finalizer or condition could not be written.
const cidrRetry = time.Second

// What the condition Ready says, in upstream's words.
const (
	cidrReady       = "Kubernetes Service CIDR is ready"
	cidrTerminating = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
)

// ServiceCIDRs serves the resource servicecidrs (KEP-1880): upstream's storage, of which the allocators know every change before the
// client that made it has its answer. Run gives each object its finalizer and condition, and lets one that is deleted go once no
// Service depends on it. There is no grace period as upstream has it for allocators in other processes: here are none.
type ServiceCIDRs struct {
	*upstream.REST
	allocators *Allocators

	mu   sync.Mutex    // held while the ranges are read and set, so that they never go back in time
	wake chan struct{} // something may be to do for Run
}

// ServiceCIDRStatus serves the subresource servicecidrs/status.
type ServiceCIDRStatus struct {
	*upstream.StatusREST
	cidrs *ServiceCIDRs
}

// ServiceCIDRs puts the allocators behind upstream's storage. It is called once, before Load.
func (s *Storage) ServiceCIDRs(plain *upstream.REST, status *upstream.StatusREST) (*ServiceCIDRs, *ServiceCIDRStatus) {
	s.cidrs = &ServiceCIDRs{REST: plain, allocators: s.allocators, wake: make(chan struct{}, 1)}
	return s.cidrs, &ServiceCIDRStatus{status, s.cidrs}
}

// Create implements rest.Creater.
func (c *ServiceCIDRs) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	defer c.changed(ctx)
	return c.REST.Create(ctx, obj, validate, options)
}

// Update implements rest.Updater.
func (c *ServiceCIDRs) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, allowCreate bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	defer c.changed(ctx)
	return c.REST.Update(ctx, name, info, create, update, allowCreate, options)
}

// Delete implements rest.GracefulDeleter.
func (c *ServiceCIDRs) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	defer c.changed(ctx)
	return c.REST.Delete(ctx, name, validate, options)
}

// DeleteCollection implements rest.CollectionDeleter.
func (c *ServiceCIDRs) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions, list *metainternalversion.ListOptions) (runtime.Object, error) {
	defer c.changed(ctx)
	return c.REST.DeleteCollection(ctx, validate, options, list)
}

// Update implements rest.Updater.
func (s *ServiceCIDRStatus) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, allowCreate bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	defer s.cidrs.changed(ctx)
	return s.StatusREST.Update(ctx, name, info, create, update, allowCreate, options)
}

// changed brings the allocators up to date after a write, whatever became of it. If that fails, Run does it.
func (c *ServiceCIDRs) changed(ctx context.Context) {
	_, _ = c.refresh(context.WithoutCancel(ctx)) // the client may be gone, its write is not
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// refresh reads the stored objects, oldest first, and makes their CIDRs the ranges of the allocators.
func (c *ServiceCIDRs) refresh(ctx context.Context) ([]networking.ServiceCIDR, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := &networking.ServiceCIDRList{}
	if err := listAll(ctx, c.Store, list); err != nil {
		return nil, fmt.Errorf("service CIDRs: list: %w", err)
	}
	slices.SortFunc(list.Items, func(a, b networking.ServiceCIDR) int {
		if older := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); older != 0 {
			return older
		}
		return strings.Compare(a.Name, b.Name)
	})
	var ranges []Range
	for i := range list.Items {
		for _, prefix := range prefixesOf(&list.Items[i]) {
			if prefix.Addr().BitLen()-prefix.Bits() <= 64 { // as upstream, which tells of others only in its log
				ranges = append(ranges, Range{prefix, mayAllocate(&list.Items[i])})
			}
		}
	}
	return list.Items, c.allocators.SetRanges(ranges)
}

func prefixesOf(cidr *networking.ServiceCIDR) (prefixes []netip.Prefix) {
	for _, text := range cidr.Spec.CIDRs {
		if prefix, err := netip.ParsePrefix(text); err == nil { // validation has seen it
			prefixes = append(prefixes, prefix.Masked())
		}
	}
	return prefixes
}

// mayAllocate tells whether something new may come from an object's CIDRs. One whose condition nobody has set yet counts as ready.
func mayAllocate(cidr *networking.ServiceCIDR) bool {
	ready := meta.FindStatusCondition(cidr.Status.Conditions, networkingv1.ServiceCIDRConditionReady)
	return cidr.DeletionTimestamp == nil && (ready == nil || ready.Status == metav1.ConditionTrue)
}

// run keeps finalizers and conditions until ctx ends. The client is one of this very server.
func (c *ServiceCIDRs) run(ctx context.Context, client kubernetes.Interface, log *slog.Logger) {
	for {
		retry := (<-chan time.Time)(nil)
		if err := c.keepAll(ctx, client); err != nil && ctx.Err() == nil {
			if !apierrors.IsConflict(err) { // somebody else wrote; their write has woken us
				log.Warn("service CIDRs: keep", "error", err)
			}
			retry = time.After(cidrRetry)
		}
		freed := c.allocators.freed
		if !c.anyDeleted() {
			freed = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-freed:
		case <-retry:
		}
	}
}

// anyDeleted tells whether an address that becomes free may let a ServiceCIDR go.
func (c *ServiceCIDRs) anyDeleted() bool {
	c.allocators.mu.Lock()
	defer c.allocators.mu.Unlock()
	return slices.ContainsFunc(c.allocators.ranges, func(r *addressRange) bool { return !r.ready })
}

func (c *ServiceCIDRs) keepAll(ctx context.Context, client kubernetes.Interface) error {
	items, err := c.refresh(ctx)
	if err != nil {
		return err
	}
	for i := range items {
		gone, err := c.keepOne(ctx, client, items, i)
		if err != nil {
			return fmt.Errorf("service CIDR %s: keep: %w", items[i].Name, err)
		}
		if gone { // what the others may rely on is different now
			return c.keepAll(ctx, client)
		}
	}
	return nil
}

// keepOne does for one object what is to be done, and reports whether that let it go.
func (c *ServiceCIDRs) keepOne(ctx context.Context, client kubernetes.Interface, all []networking.ServiceCIDR, i int) (gone bool, err error) {
	cidr := &all[i]
	protected := slices.Contains(cidr.Finalizers, servicecidrs.ServiceCIDRProtectionFinalizer)
	if cidr.DeletionTimestamp == nil {
		if !protected {
			if err := c.setFinalizers(ctx, client, cidr.Name, append([]string{servicecidrs.ServiceCIDRProtectionFinalizer}, cidr.Finalizers...)); err != nil {
				return false, err
			}
		}
		return false, c.setCondition(ctx, client, cidr, metav1.ConditionTrue, "", cidrReady)
	}
	if !protected {
		return false, nil
	}
	var others []netip.Prefix
	for j := range all {
		if j != i {
			others = append(others, prefixesOf(&all[j])...)
		}
	}
	if c.allocators.servicesWithin(prefixesOf(cidr), others) {
		return false, c.setCondition(ctx, client, cidr, metav1.ConditionFalse, networkingv1.ServiceCIDRReasonTerminating, cidrTerminating)
	}
	keep := slices.DeleteFunc(slices.Clone(cidr.Finalizers), func(f string) bool { return f == servicecidrs.ServiceCIDRProtectionFinalizer })
	return true, c.setFinalizers(ctx, client, cidr.Name, keep)
}

func (c *ServiceCIDRs) setFinalizers(ctx context.Context, client kubernetes.Interface, name string, finalizers []string) error {
	have, err := client.NetworkingV1().ServiceCIDRs().Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		have.Finalizers = finalizers
		_, err = client.NetworkingV1().ServiceCIDRs().Update(ctx, have, metav1.UpdateOptions{})
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *ServiceCIDRs) setCondition(ctx context.Context, client kubernetes.Interface, cidr *networking.ServiceCIDR, status metav1.ConditionStatus, reason, message string) error {
	is := meta.FindStatusCondition(cidr.Status.Conditions, networkingv1.ServiceCIDRConditionReady)
	if is != nil && is.Status == status && is.Reason == reason && is.Message == message {
		return nil
	}
	have, err := client.NetworkingV1().ServiceCIDRs().Get(ctx, cidr.Name, metav1.GetOptions{})
	if err == nil {
		meta.SetStatusCondition(&have.Status.Conditions, metav1.Condition{Type: networkingv1.ServiceCIDRConditionReady, Status: status, Reason: reason, Message: message})
		_, err = client.NetworkingV1().ServiceCIDRs().UpdateStatus(ctx, have, metav1.UpdateOptions{})
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
