package apiserver

import (
	"context"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	"k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core"
	coreinformersv1 "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/plugin/pkg/admission/defaulttolerationseconds"
	"k8s.io/kubernetes/plugin/pkg/admission/network/defaultingressclass"
	"k8s.io/kubernetes/plugin/pkg/admission/priority"
	"k8s.io/kubernetes/plugin/pkg/admission/security/podsecurity"
	"k8s.io/kubernetes/plugin/pkg/admission/serviceaccount"
)

// newAdmission chains those of upstream's default admission plugins whose subject is served here, in upstream's order: nothing is created in a namespace
// that is missing or going away; a Pod gets its ServiceAccount and that one's token, keeps to the Pod Security Standard that its namespace is
// labelled with, has the priority of its class and waits five minutes for a node that is gone; an Ingress without class gets the default class.
func newAdmission(ctx context.Context, config *genericapiserver.RecommendedConfig, client kubernetes.Interface) (admission.Interface, error) {
	plugins := admission.NewPlugins()
	for _, register := range []func(*admission.Plugins){
		lifecycle.Register, serviceaccount.Register, podsecurity.Register, priority.Register, defaulttolerationseconds.Register, defaultingressclass.Register,
	} {
		register(plugins)
	}
	order := []string{
		lifecycle.PluginName, serviceaccount.PluginName, podsecurity.PluginName, priority.PluginName, defaulttolerationseconds.PluginName,
		defaultingressclass.PluginName,
	}
	shared := informersWithoutPods{config.SharedInformerFactory, client}
	wants := initializer.New(client, nil, shared, config.Authorization.Authorizer, config.FeatureGate, config.EffectiveVersion, ctx.Done(), nil)
	chain, err := plugins.NewFromPlugins(order, noPluginConfig{}, wants, nil)
	if err != nil {
		return nil, fmt.Errorf("admission: %w", err)
	}
	return chain, nil
}

// noPluginConfig leaves every admission plugin at its defaults.
type noPluginConfig struct{}

// ConfigFor implements admission.ConfigProvider.
func (noPluginConfig) ConfigFor(string) (io.Reader, error) { return nil, nil }

// informersWithoutPods spares the server a copy of every Pod in memory. The one plugin that wants them, PodSecurity, lists those of one namespace
// when that one's labels change, to warn about what is there already; it may ask for them then.
type informersWithoutPods struct {
	informers.SharedInformerFactory
	client kubernetes.Interface
}

func (i informersWithoutPods) Core() coreinformers.Interface {
	return coreWithoutPods{i.SharedInformerFactory.Core(), i.client}
}

type coreWithoutPods struct {
	coreinformers.Interface
	client kubernetes.Interface
}

func (c coreWithoutPods) V1() coreinformersv1.Interface {
	return coreV1WithoutPods{c.Interface.V1(), c.client}
}

type coreV1WithoutPods struct {
	coreinformersv1.Interface
	client kubernetes.Interface
}

func (c coreV1WithoutPods) Pods() coreinformersv1.TypedPodInformer {
	return askedPods{client: c.client}
}

// askedPods lists Pods by asking the API. What it has no method for nobody asks it for.
type askedPods struct {
	coreinformersv1.TypedPodInformer
	corelisters.PodNamespaceLister
	client    kubernetes.Interface
	namespace string
}

func (p askedPods) Lister() corelisters.PodLister { return p }

func (p askedPods) Informer() cache.SharedIndexInformer {
	panic("admission: no plugin may watch Pods")
}

func (p askedPods) Pods(namespace string) corelisters.PodNamespaceLister {
	p.namespace = namespace
	return p
}

func (p askedPods) List(selector labels.Selector) ([]*corev1.Pod, error) {
	list, err := p.client.CoreV1().Pods(p.namespace).List(context.TODO(), metav1.ListOptions{LabelSelector: selector.String(), ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	pods := make([]*corev1.Pod, len(list.Items))
	for i := range list.Items {
		pods[i] = &list.Items[i]
	}
	return pods, nil
}
