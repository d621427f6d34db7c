package service

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/networking"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"

	"fairway.dev/fairway/internal/apiserver/joint"
)

// How long an IPAddress object may say that it belongs to a Service that is not there, or does not have the address: upstream's
// times. Fairway itself never makes such an object.
const (
	orphanGrace  = 60 * time.Second
	strangeGrace = 5 * time.Second
)

// repairHeld sees to it that the address of a Service has its object. object is nil if there is none.
func (s *Storage) repairHeld(ctx context.Context, addr netip.Addr, h holder, object *networking.IPAddress, told *reporter) error {
	svc := &api.Service{}
	like := &api.Service{ObjectMeta: metav1.ObjectMeta{Namespace: h.service.Namespace, Name: h.service.Name}}
	err := s.read(ctx, s.Store, like, svc)
	if apierrors.IsNotFound(err) || err == nil && (svc.UID != h.uid || !slices.Contains(heldAddresses(svc), addr)) {
		s.repairs.askAll(time.Now().Add(repairRetry)) // a deletion is under way, or was missed
		return nil
	}
	if err != nil {
		return fmt.Errorf("service %s: read: %w", h.service, err)
	}
	family := familyOf(addr)
	switch {
	case object == nil:
		told.event(ctx, svc, "ClusterIPNotAllocated", "ClusterIPAllocation", fmt.Sprintf("Cluster IP [%v]: %s is not allocated; repairing", family, addr))
	case !belongsTo(object, svc):
		told.event(ctx, svc, "ClusterIPNotAllocated", "ClusterIPAllocation", fmt.Sprintf("the ClusterIP [%v]: %s for Service %s has a wrong reference; repairing", family, addr, h.service))
	case rightLabels(object, addr):
		return nil
	}
	if object != nil {
		if err := s.remove(ctx, object); err != nil {
			return err
		}
	}
	return s.makeObject(ctx, addr, svc)
}

// makeObject makes the IPAddress object of a Service, on condition that the Service is as it was read.
func (s *Storage) makeObject(ctx context.Context, addr netip.Addr, svc *api.Service) error {
	key, err := keyOf(ctx, s.Store, svc)
	if err != nil {
		return err
	}
	revision, err := strconv.ParseInt(svc.ResourceVersion, 10, 64)
	if err != nil {
		return fmt.Errorf("service %s/%s: resource version: %w", svc.Namespace, svc.Name, err)
	}
	entry, err := s.addresses.entry(addr, holderOf(svc).service)
	if err != nil {
		return err
	}
	made, err := joint.CreateIf(ctx, s.client, s.prefix+key, revision, entry)
	if err != nil {
		return fmt.Errorf("ipaddress %s: make: %w", addr, err)
	}
	if !made { // one of the two has changed: look again
		s.repairs.ask(addr, time.Now().Add(repairRetry))
	}
	return nil
}

// repairLoose removes an object that says it was made for a Service although no Service has that address.
func (s *Storage) repairLoose(ctx context.Context, addr netip.Addr, object *networking.IPAddress, told *reporter) error {
	if !managed(object) {
		return nil
	}
	reason, note := "IPAddressNotAllocated", ""
	age := time.Since(object.CreationTimestamp.Time)
	parent := object.Spec.ParentRef
	if parent == nil || parent.Group != "" || parent.Resource != "services" {
		note = fmt.Sprintf("IPAddress %s appears to have been modified, not referencing a Service %v: cleaning up", addr, parent)
	} else {
		svc := &api.Service{}
		err := s.read(ctx, s.Store, &api.Service{ObjectMeta: metav1.ObjectMeta{Namespace: parent.Namespace, Name: parent.Name}}, svc)
		grace := time.Duration(0)
		switch {
		case apierrors.IsNotFound(err):
			grace = orphanGrace
			note = fmt.Sprintf("IPAddress: %s for Service %s/%s appears to have leaked: cleaning up", addr, parent.Namespace, parent.Name)
		case err != nil:
			return fmt.Errorf("service %s/%s: read: %w", parent.Namespace, parent.Name, err)
		default:
			reason, note = "IPAddressWrongReference", fmt.Sprintf("IPAddress: %s for Service %s/%s has a wrong reference; cleaning up", addr, parent.Namespace, parent.Name)
			if svc.Spec.Type == api.ServiceTypeExternalName {
				grace = orphanGrace
			} else if object.CreationTimestamp.After(svc.CreationTimestamp.Time) {
				grace = strangeGrace
			}
		}
		if age < grace {
			s.repairs.ask(addr, time.Now().Add(grace-age))
			return nil
		}
	}
	told.event(ctx, object, reason, "IPAddressAllocation", note)
	return s.remove(ctx, object)
}

// remove deletes an IPAddress object, on condition that it is as it was read.
func (s *Storage) remove(ctx context.Context, object *networking.IPAddress) error {
	ctx = genericapirequest.WithNamespace(ctx, metav1.NamespaceNone)
	_, _, err := s.objects.Delete(ctx, object.Name, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &object.UID, ResourceVersion: &object.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("ipaddress %s: remove: %w", object.Name, err)
	}
	return nil
}

// keyOf is the key of an object in its storage.
func keyOf(ctx context.Context, store *genericregistry.Store, obj runtime.Object) (string, error) {
	switch o := obj.(type) {
	case *api.Service:
		return store.KeyFunc(genericapirequest.WithNamespace(ctx, o.Namespace), o.Name)
	case *networking.IPAddress:
		return store.KeyFunc(ctx, o.Name)
	}
	return "", fmt.Errorf("%T: has no key here", obj)
}

// managed tells whether an object says that it was made with a Service.
func managed(object *networking.IPAddress) bool {
	return object.Labels[networkingv1.LabelManagedBy] == ipallocator.ControllerName
}

func rightLabels(object *networking.IPAddress, addr netip.Addr) bool {
	for key, value := range addressLabels(addr) {
		if object.Labels[key] != value {
			return false
		}
	}
	return true
}

func belongsTo(object *networking.IPAddress, svc *api.Service) bool {
	parent := object.Spec.ParentRef
	return parent != nil && *parent == networking.ParentReference{Resource: "services", Namespace: svc.Namespace, Name: svc.Name}
}
