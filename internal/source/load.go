package source

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"fairway.dev/fairway/internal/store"
)

// Load puts objects into a store as a source would that had watched them, for who looks at objects and runs nothing. Secrets and ConfigMaps have
// rows whether somebody names them or not. Objects of other kinds are an error.
func Load(st *store.Store, objects ...runtime.Object) error {
	_, err := st.Update(func(t *store.Txn) error {
		for _, o := range objects {
			if err := load(t, o); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

func load(t *store.Txn, o runtime.Object) error {
	switch o := o.(type) {
	case *corev1.Service:
		put(t, o, service, (*store.Txn).PutService)
	case *discoveryv1.EndpointSlice:
		put(t, o, endpointSlice, (*store.Txn).PutSlice)
	case *networkingv1.Ingress:
		put(t, o, ingress, (*store.Txn).PutIngress)
	case *networkingv1.IngressClass:
		put(t, o, ingressClass, (*store.Txn).PutClass)
	case *corev1.Secret:
		put(t, o, certificate, (*store.Txn).PutCertificate)
		t.PutSecret(secretRow(o))
	case *corev1.ConfigMap:
		t.PutConfigMap(configMapRow(o))
	default:
		return fmt.Errorf("source: load: %T has no rows", o)
	}
	return nil
}

func put[O, R any](t *store.Txn, o O, conv func(O) (*R, bool), to func(*store.Txn, *R)) {
	if row, ok := conv(o); ok {
		to(t, row)
	}
}
