package apiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/generic"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	ipaddressstore "k8s.io/kubernetes/pkg/registry/networking/ipaddress/storage"
	networkingrest "k8s.io/kubernetes/pkg/registry/networking/rest"
	servicecidrstore "k8s.io/kubernetes/pkg/registry/networking/servicecidr/storage"

	"fairway.dev/fairway/internal/apiserver/service"
)

// networkingProvider is upstream's maker of the group networking.k8s.io, with the allocators of Services behind what addresses are made of.
type networkingProvider struct {
	networkingrest.RESTStorageProvider
	services *service.Storage
}

// NewRESTStorage implements restProvider.
func (p networkingProvider) NewRESTStorage(resources serverstorage.APIResourceConfigSource, options generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error) {
	info, err := p.RESTStorageProvider.NewRESTStorage(resources, options)
	if err != nil {
		return info, err
	}
	storage := info.VersionedResourcesStorageMap["v1"]
	addresses, ok1 := storage["ipaddresses"].(*ipaddressstore.REST)
	cidrs, ok2 := storage["servicecidrs"].(*servicecidrstore.REST)
	status, ok3 := storage["servicecidrs/status"].(*servicecidrstore.StatusREST)
	if !ok1 || !ok2 || !ok3 {
		return info, errors.New("upstream has no IPAddresses or ServiceCIDRs, or in another form")
	}
	storage["ipaddresses"] = p.services.IPAddresses(addresses)
	storage["servicecidrs"], storage["servicecidrs/status"] = p.services.ServiceCIDRs(cidrs, status)
	return info, nil
}

// serviceCIDR makes the default ServiceCIDR from the configuration, and adds the second family to one that has only the first. One that
// says something else than the configuration stays as it is, for Services have addresses of it; whoever runs the server is told, as
// upstream does. One that is being deleted stays until it is gone.
func (o systemObjects) serviceCIDR(ctx context.Context) error {
	cidrs := o.client.NetworkingV1().ServiceCIDRs()
	have, err := cidrs.Get(ctx, o.want.cidr.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = cidrs.Create(ctx, o.want.cidr, metav1.CreateOptions{})
		return err
	}
	want := o.want.cidr.Spec.CIDRs
	switch {
	case err != nil || slices.Equal(have.Spec.CIDRs, want):
		return err
	case len(want) == 2 && len(have.Spec.CIDRs) == 1 && have.Spec.CIDRs[0] == want[0]:
		have.Spec.CIDRs = want
		_, err = cidrs.Update(ctx, have, metav1.UpdateOptions{})
		return err
	}
	o.odds.Do(func() {
		o.log.Warn(fmt.Sprintf("the Service CIDRs of the configuration (%s) are not those of this data (%s); addresses are taken from the latter. "+
			"Start with those, or see to it that ServiceCIDR %s is replaced: make one with the new ranges, delete the Services that have addresses of the old, delete it",
			strings.Join(want, ", "), strings.Join(have.Spec.CIDRs, ", "), have.Name))
		if err := o.tellOdds(ctx, have); err != nil {
			o.log.Warn("event: write", "about", "service CIDR "+have.Name, "error", err)
		}
	})
	return nil
}

func (o systemObjects) tellOdds(ctx context.Context, have *networkingv1.ServiceCIDR) error {
	const reporter = "kubernetes-service-cidr-controller"
	_, err := o.client.EventsV1().Events(metav1.NamespaceDefault).Create(ctx, &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s.%x", have.Name, time.Now().UnixNano()), Namespace: metav1.NamespaceDefault},
		EventTime:  metav1.NowMicro(), Type: corev1.EventTypeWarning,
		ReportingController: reporter, ReportingInstance: reporter,
		Reason: "KubernetesDefaultServiceCIDRInconsistent", Action: "ServiceCIDRCheck",
		Note:      fmt.Sprintf("The default ServiceCIDR %v does not match the controller flag configurations %s", have.Spec.CIDRs, o.want.cidr.Spec.CIDRs),
		Regarding: corev1.ObjectReference{APIVersion: "networking.k8s.io/v1", Kind: "ServiceCIDR", Name: have.Name, UID: have.UID},
	}, metav1.CreateOptions{})
	return err
}
