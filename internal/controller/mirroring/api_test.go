package mirroring_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/apiserver"
	"fairway.dev/fairway/internal/controller/mirroring"
)

const patience = 30 * time.Second

// The life of Endpoints that somebody writes, on a real API.
func TestMirroring(t *testing.T) {
	t.Parallel()
	server, err := apiserver.New(apiserver.Config{
		Dir: t.TempDir(), Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, NoSync: true,
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "API", server.Run)
	select {
	case <-server.Ready():
	case <-time.After(patience):
		t.Fatal("the API is not ready")
	}
	client, err := kubernetes.NewForConfig(server.ClientConfig("test", "system:masters"))
	if err != nil {
		t.Fatal(err)
	}
	controller := func() func(context.Context) error {
		return mirroring.New(server.ClientConfig("controller", "system:masters"), mirroring.Options{}).Run
	}
	stop := run(t, "controller", controller())
	ctx := t.Context()
	services, endpoints := client.CoreV1().Services("default"), client.CoreV1().Endpoints("default")
	slicesNow := func() []discoveryv1.EndpointSlice {
		list, err := client.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=db"})
		if err != nil {
			t.Fatal(err)
		}
		return list.Items
	}
	await := func(what string, want ...string) {
		t.Helper()
		var got []string
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			got = nil
			for _, sl := range slicesNow() {
				for _, e := range sl.Endpoints {
					got = append(got, fmt.Sprintf("%s %t", e.Addresses[0], *e.Conditions.Ready))
				}
			}
			slices.Sort(got)
			if slices.Equal(got, want) {
				return
			}
		}
		t.Fatalf("%s: %q, want %q", what, got, want)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	patch := func(body string) {
		t.Helper()
		_, err := endpoints.Patch(ctx, "db", types.MergePatchType, []byte(body), metav1.PatchOptions{})
		must(err)
	}
	hand := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}, Ports: []corev1.EndpointPort{{Name: "sql", Port: 5432}},
	}}}
	_, err = endpoints.Create(ctx, hand, metav1.CreateOptions{})
	must(err)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "sql", Port: 5432}}}}
	_, err = services.Create(ctx, svc, metav1.CreateOptions{})
	must(err)
	await("the Service came after its Endpoints", "192.0.2.1 true")
	name := slicesNow()[0].Name

	patch(`{"subsets":[{"addresses":[{"ip":"192.0.2.2"}],"notReadyAddresses":[{"ip":"192.0.2.1"}],"ports":[{"name":"sql","port":5432}]}]}`)
	await("an update", "192.0.2.1 false", "192.0.2.2 true")
	if now := slicesNow(); len(now) != 1 || now[0].Name != name {
		t.Errorf("an update made another slice: %s, then %d with %s", name, len(now), now[0].Name)
	}
	must(client.DiscoveryV1().EndpointSlices("default").Delete(ctx, name, metav1.DeleteOptions{}))
	await("somebody deletes the slice", "192.0.2.1 false", "192.0.2.2 true")

	// What happens while there is no controller is made good by the next one, which takes over the slices.
	name = slicesNow()[0].Name
	stop()
	patch(`{"subsets":[{"addresses":[{"ip":"192.0.2.3"}],"ports":[{"name":"sql","port":5432}]}]}`)
	run(t, "next controller", controller())
	await("a new controller", "192.0.2.3 true")
	if got := slicesNow()[0].Name; got != name {
		t.Errorf("the new controller made slice %s beside %s", got, name)
	}

	patch(`{"metadata":{"labels":{"` + discoveryv1.LabelSkipMirror + `":"true"}}}`)
	await("not to be mirrored")
	patch(`{"metadata":{"labels":{"` + discoveryv1.LabelSkipMirror + `":null}}}`)
	await("to be mirrored again", "192.0.2.3 true")
	patch(`{"metadata":{"annotations":{"control-plane.alpha.kubernetes.io/leader":"{}"}}}`)
	await("a lock")
	patch(`{"metadata":{"annotations":{"control-plane.alpha.kubernetes.io/leader":null}}}`)
	await("no lock any more", "192.0.2.3 true")
	_, err = services.Patch(ctx, "db", types.MergePatchType, []byte(`{"spec":{"selector":{"app":"db"}}}`), metav1.PatchOptions{})
	must(err)
	await("a selector")
	_, err = services.Patch(ctx, "db", types.MergePatchType, []byte(`{"spec":{"selector":null}}`), metav1.PatchOptions{})
	must(err)
	await("no selector", "192.0.2.3 true")

	var many []string
	for i := range 1001 {
		many = append(many, fmt.Sprintf(`{"ip":"10.0.%d.%d"}`, i/250, i%250+1))
	}
	patch(`{"subsets":[{"addresses":[` + strings.Join(many, ",") + `],"ports":[{"name":"sql","port":5432}]}]}`)
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		events, err := client.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "reason=TooManyAddressesToMirror"})
		must(err)
		if len(events.Items) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody was told of too many addresses")
		}
	}
	if now := slicesNow(); len(now) != 1 || len(now[0].Endpoints) != 1000 {
		t.Errorf("%d slices", len(now))
	}
	must(endpoints.Delete(ctx, "db", metav1.DeleteOptions{}))
	await("Endpoints deleted")
}

// run runs a part until stop is called or the test ends; the parts end in the reverse order.
func run(t *testing.T, name string, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx); close(done) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Cleanup(stop)
	return stop
}
