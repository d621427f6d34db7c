package workload

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// absentInformers has informers that find nothing, of the kinds that the API does not have and that upstream's code waits for all the same.
// Of other kinds it has informers that never start.
func absentInformers(client kubernetes.Interface) (factory informers.SharedInformerFactory, run []cache.SharedIndexInformer) {
	factory = informers.NewSharedInformerFactory(client, 0)
	for _, kind := range []runtime.Object{&resourcev1.DeviceClass{}, &resourcev1.ResourceClaim{}, &resourcev1.ResourceSlice{}, &storagev1.CSINode{}, &corev1.PersistentVolumeClaim{}} {
		run = append(run, factory.InformerFor(kind, func(kubernetes.Interface, time.Duration) cache.SharedIndexInformer {
			return cache.NewSharedIndexInformer(nothing, kind, 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
		}))
	}
	return factory, run
}

// nothing lists nothing, and then nothing happens.
var nothing = cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
	ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
		return &metav1.List{ListMeta: metav1.ListMeta{ResourceVersion: "1"}}, nil
	},
	WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) { return watch.NewFake(), nil },
}, listsOnly{})

// listsOnly tells client-go not to ask for a list in the form of a watch.
type listsOnly struct{}

func (listsOnly) IsWatchListSemanticsUnSupported() bool { return true }
