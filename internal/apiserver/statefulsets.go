package apiserver

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/generic"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsrest "k8s.io/kubernetes/pkg/registry/apps/rest"
	statefulsetstore "k8s.io/kubernetes/pkg/registry/apps/statefulset/storage"
)

// withoutClaims refuses new StatefulSets that want a volume for each Pod: nothing here makes volumes, and such a StatefulSet
// would wait for them for ever. (The field cannot be changed later.)
type withoutClaims struct{ creation }

// Validate implements rest.RESTCreateStrategy.
func (s withoutClaims) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	errs := s.creation.Validate(ctx, obj)
	if len(obj.(*apps.StatefulSet).Spec.VolumeClaimTemplates) > 0 {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "volumeClaimTemplates"),
			"PersistentVolumeClaims are not served here; use an emptyDir or hostPath volume in spec.template"))
	}
	return errs
}

// appsProvider is upstream's maker of the group apps, withoutClaims.
type appsProvider struct{ appsrest.StorageProvider }

// NewRESTStorage implements restProvider.
func (p appsProvider) NewRESTStorage(resources serverstorage.APIResourceConfigSource, options generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error) {
	info, err := p.StorageProvider.NewRESTStorage(resources, options)
	if err != nil {
		return info, err
	}
	sets, ok := info.VersionedResourcesStorageMap["v1"]["statefulsets"].(*statefulsetstore.REST)
	if !ok {
		return info, errors.New("upstream has no StatefulSets, or in another form")
	}
	upstreams, ok := sets.CreateStrategy.(creation)
	if !ok {
		return info, errors.New("upstream validates StatefulSets in another way")
	}
	sets.CreateStrategy = withoutClaims{upstreams}
	return info, nil
}
