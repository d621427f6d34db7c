package service

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/networking"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"

	"fairway.dev/fairway/internal/apiserver/joint"
)

// joinedStorage stores Services, and in the same transaction the IPAddress objects of their cluster IPs: made with the address, removed
// with it. So there is no moment at which one is there without the other, for a crash or for a reader.
type joinedStorage struct {
	storage.Interface
	allocators *Allocators
	objects    addressObjects
}

// Create implements storage.Interface.
func (s *joinedStorage) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	writes, err := s.change(had{}, obj.(*api.Service))
	if err != nil {
		return err
	}
	return s.Interface.Create(joint.With(ctx, &writes), key, obj, out, ttl)
}

// GuaranteedUpdate implements storage.Interface.
func (s *joinedStorage) GuaranteedUpdate(ctx context.Context, key string, destination runtime.Object, ignoreNotFound bool, preconditions *storage.Preconditions, tryUpdate storage.UpdateFunc, cached runtime.Object) error {
	var writes joint.Writes
	attempt := func(input runtime.Object, response storage.ResponseMeta) (runtime.Object, *uint64, error) {
		before := whatHas(input) // the attempt may change it
		output, ttl, err := tryUpdate(input, response)
		if err != nil {
			return output, ttl, err
		}
		writes, err = s.change(before, output.(*api.Service))
		return output, ttl, err
	}
	return s.Interface.GuaranteedUpdate(joint.With(ctx, &writes), key, destination, ignoreNotFound, preconditions, attempt, cached)
}

// Delete implements storage.Interface.
func (s *joinedStorage) Delete(ctx context.Context, key string, out runtime.Object, preconditions *storage.Preconditions, validate storage.ValidateObjectFunc, cached runtime.Object, options storage.DeleteOptions) error {
	var writes joint.Writes
	look := func(ctx context.Context, obj runtime.Object) (err error) {
		if err := validate(ctx, obj); err != nil {
			return err
		}
		writes, err = s.change(whatHas(obj), nil)
		return err
	}
	return s.Interface.Delete(joint.With(ctx, &writes), key, out, preconditions, look, cached, options)
}

// had is what a stored Service has.
type had struct {
	uid       types.UID
	addresses []netip.Addr
}

func whatHas(obj runtime.Object) had {
	svc := obj.(*api.Service)
	return had{svc.UID, heldAddresses(svc)}
}

// change is what the step from one state of a Service to another, or to nothing, means for IPAddress objects.
func (s *joinedStorage) change(before had, after *api.Service) (writes joint.Writes, err error) {
	has := heldAddresses(after)
	for _, addr := range has {
		if slices.Contains(before.addresses, addr) {
			continue
		}
		entry, err := s.objects.entry(addr, types.NamespacedName{Namespace: after.Namespace, Name: after.Name})
		if err != nil {
			return writes, err
		}
		writes.Create = append(writes.Create, entry)
	}
	for _, addr := range before.addresses {
		// If two stored Services claim one address, the object belongs to the one that holds it.
		if h, held := s.allocators.holderOfAddress(addr); !slices.Contains(has, addr) && (!held || h.uid == before.uid) {
			writes.Delete = append(writes.Delete, s.objects.key(addr))
		}
	}
	return writes, nil
}

// addressObjects makes IPAddress objects as they are stored.
type addressObjects struct {
	prefix  string // of their keys in etcd
	encoder runtime.Encoder
}

func newAddressObjects(options generic.RESTOptionsGetter) (addressObjects, error) {
	of, err := options.GetRESTOptions(networking.Resource("ipaddresses"), &networking.IPAddress{})
	if err != nil {
		return addressObjects{}, fmt.Errorf("ipaddresses: where they are stored: %w", err)
	}
	return addressObjects{
		prefix:  path.Join("/", of.StorageConfig.Prefix, of.ResourcePrefix),
		encoder: protobuf.NewSerializer(legacyscheme.Scheme, legacyscheme.Scheme),
	}, nil
}

func (o addressObjects) key(addr netip.Addr) string { return o.prefix + "/" + addr.String() }

func (o addressObjects) entry(addr netip.Addr, svc types.NamespacedName) (joint.Entry, error) {
	value, err := runtime.Encode(o.encoder, &networkingv1.IPAddress{
		TypeMeta: metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "IPAddress"},
		ObjectMeta: metav1.ObjectMeta{
			Name: addr.String(), UID: uuid.NewUUID(), CreationTimestamp: metav1.NewTime(time.Now()),
			Labels: addressLabels(addr),
		},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: svc.Namespace, Name: svc.Name}},
	})
	if err != nil {
		return joint.Entry{}, fmt.Errorf("ipaddress %s: encode: %w", addr, err)
	}
	return joint.Entry{Key: o.key(addr), Value: value}, nil
}

// addressLabels are those of an IPAddress object that belongs to a Service.
func addressLabels(addr netip.Addr) map[string]string {
	return map[string]string{
		networkingv1.LabelIPAddressFamily: string(familyOf(addr)),
		networkingv1.LabelManagedBy:       ipallocator.ControllerName,
	}
}
