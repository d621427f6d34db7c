package apiserver

import (
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// Who may write slices must not make the server send requests wherever they like. That a Pod is reached is tried with real ones, in test/e2e.
func TestServiceProxyReachesPodsOnly(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	services := shared.client.CoreV1().Services(ns)
	for _, name := range []string{"empty", "elsewhere"} {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
		if _, err := services.Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// A Pod that has another address than the slice says of it, one of another namespace, and no Pod at all.
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod"}, Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Image: "c"}}}}
	pod, err := shared.client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod.Status.PodIPs = []corev1.PodIP{{IP: "192.0.2.8"}}
	pod.Status.PodIP = "192.0.2.8"
	if _, err := shared.client.CoreV1().Pods(ns).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "elsewhere", Labels: map[string]string{discoveryv1.LabelServiceName: "elsewhere"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"192.0.2.9"}},
			{Addresses: []string{"192.0.2.9"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: "pod"}},
			{Addresses: []string{"192.0.2.8"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "kube-system", Name: "pod"}},
			{Addresses: []string{"192.0.2.8"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: "absent"}},
		},
		Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(80))}},
	}
	if _, err := shared.client.DiscoveryV1().EndpointSlices(ns).Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ id, want string }{
		{"empty:http", `no endpoints available for service "empty"`},
		{"empty:80", `no endpoints available for service "empty"`},
		{"empty:81", `no service port 81 found for service "empty"`},
		{"absent:http", `no endpoints available for service "absent"`},
		{"absent:80", `services "absent" not found`},
		{"ftp:empty:http", `invalid service request "ftp:empty:http"`},
		{"elsewhere:http", `no endpoints available for service "elsewhere"`},
		{"https:elsewhere:80", `no endpoints available for service "elsewhere"`},
	} {
		err := shared.client.CoreV1().RESTClient().Get().Namespace(ns).Resource("services").Name(test.id).SubResource("proxy").Do(t.Context()).Error()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.id, err, test.want)
		}
	}
}

// A stream must not be cut off when other requests would be.
func TestStreamsHaveNoTimeLimit(t *testing.T) {
	t.Parallel()
	resolver := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	const pod = "/api/v1/namespaces/default/pods/web"
	for path, want := range map[string]bool{
		pod + "/log?follow=true": true, pod + "/exec": true, pod + "/attach": true, pod + "/portforward": true, pod + "/proxy/events": true,
		"/api/v1/namespaces/default/services/web/proxy/": true, "/api/v1/nodes/n/proxy/pods": true, "/api/v1/pods?watch=true": true,
		pod: false, pod + "/status": false, "/api/v1/pods": false,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		info, err := resolver.NewRequestInfo(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := longRunning(r, info); got != want {
			t.Errorf("%s: long-running is %v", path, got)
		}
	}
}
