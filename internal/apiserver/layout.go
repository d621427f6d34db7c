package apiserver

import (
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	extensionsserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

// registry is where in the database all objects are.
const registry = "/registry"

// layout says where in the database a resource lives and in which form: as protobuf, in the preferred version of its group,
// under /registry/GROUP/RESOURCE/. Custom resources are kept as JSON, in the same places.
type layout struct {
	base    storagebackend.Config
	options genericoptions.EtcdOptions
}

var _ serverstorage.StorageFactory = layout{}

func newLayout(endpoint string) layout {
	base := storagebackend.NewDefaultConfig(registry, nil)
	base.Transport.ServerList = []string{endpoint}
	return layout{*base, *genericoptions.NewEtcdOptions(base)}
}

// getter is the form in which upstream's storage wants it.
func (l layout) getter() generic.RESTOptionsGetter {
	return &genericoptions.StorageFactoryRestOptionsFactory{Options: l.options, StorageFactory: l}
}

// NewConfig implements serverstorage.StorageFactory.
func (l layout) NewConfig(resource schema.GroupResource, _ runtime.Object) (*storagebackend.ConfigForResource, error) {
	scheme, codecs := legacyscheme.Scheme, legacyscheme.Codecs
	if resource.Group == apiextensions.GroupName { // the one group that upstream keeps apart
		scheme, codecs = extensionsserver.Scheme, extensionsserver.Codecs
	}
	version := scheme.PrioritizedVersionsForGroup(resource.Group)[0]
	protobuf, _ := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	config := l.base
	config.Codec = codecs.CodecForVersions(protobuf.Serializer, codecs.UniversalDeserializer(), version, runtime.InternalGroupVersioner)
	config.EncodeVersioner = version
	return config.ForResource(resource), nil
}

// ResourcePrefix implements serverstorage.StorageFactory.
func (layout) ResourcePrefix(resource schema.GroupResource) string {
	return resource.Group + "/" + resource.Resource
}

// Configs implements serverstorage.StorageFactory.
func (l layout) Configs() []storagebackend.Config { return serverstorage.Configs(l.base) }

// Backends implements serverstorage.StorageFactory.
func (l layout) Backends() []serverstorage.Backend { return serverstorage.Backends(l.base) }
