package service

import (
	"context"
	"net/netip"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
	"k8s.io/kubernetes/pkg/apis/networking"
	upstream "k8s.io/kubernetes/pkg/registry/networking/ipaddress/storage"
)

// IPAddresses serves the resource ipaddresses: upstream's storage, and what clients do there is known to the allocators at once. An
// object that somebody makes reserves its address; one that somebody removes or changes although a Service has the address is
// put right.
type IPAddresses struct {
	*upstream.REST
	services *Storage
}

// IPAddresses puts the allocators behind upstream's storage. It is called once, before Load.
func (s *Storage) IPAddresses(plain *upstream.REST) *IPAddresses {
	s.objects = plain.Store
	plain.AfterUpdate = func(obj runtime.Object, _ *metav1.UpdateOptions) { s.lookAt(obj) }
	plain.AfterDelete = func(obj runtime.Object, options *metav1.DeleteOptions) {
		addr, ok := addressOf(obj)
		if ok && !dryrun.IsDryRun(options.DryRun) {
			s.allocators.forget(addr)
			s.lookAt(obj)
		}
	}
	return &IPAddresses{plain, s}
}

// lookAt has the repair look at an object that a client changed.
func (s *Storage) lookAt(obj runtime.Object) {
	if addr, ok := addressOf(obj); ok {
		s.repairs.ask(addr, time.Now())
	}
}

// addressOf is the address that an IPAddress object stands for; validation sees to it that every stored one has such a name.
func addressOf(obj runtime.Object) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(obj.(*networking.IPAddress).Name)
	return addr, err == nil && addr.String() == obj.(*networking.IPAddress).Name
}

// Create implements rest.Creater.
func (r *IPAddresses) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	addr, ok := addressOf(obj)
	if !ok || dryrun.IsDryRun(options.DryRun) {
		return r.REST.Create(ctx, obj, validate, options)
	}
	allocators := r.services.allocators
	holding := allocators.holdAddress(addr, byObject, true)
	if holding.holder != byObject { // its object is there, or will be with the Service
		return nil, apierrors.NewAlreadyExists(networking.Resource("ipaddresses"), addr.String())
	}
	created, err := r.REST.Create(ctx, obj, validate, options)
	switch {
	case err == nil:
		allocators.settle(byObject.uid, []netip.Addr{addr}, nil)
		r.services.lookAt(created)
	case apierrors.IsAlreadyExists(err):
		allocators.settle(byObject.uid, []netip.Addr{addr}, nil)
	case outcomeKnown(err):
		allocators.forget(addr)
	default:
		allocators.settle(byObject.uid, []netip.Addr{addr}, nil)
		r.services.doubt()
	}
	return created, err
}
