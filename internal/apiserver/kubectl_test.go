package apiserver

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: web:1, ports: [{containerPort: 8080}]}
`

// An afternoon with kubectl: each command, and what its output must hold.
func TestKubectl(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	for _, test := range []struct {
		command string
		stdin   string
		want    []string
		fails   bool
	}{
		{"version", "", []string{"Server Version: v1.37.2"}, false},
		{"apply -f -", deployment, []string{"deployment.apps/web created"}, false},
		{"apply -f -", deployment, []string{"deployment.apps/web unchanged"}, false},
		{"get deploy web", "", []string{"READY", "UP-TO-DATE", "0/2"}, false},
		{"get deploy web -o wide", "", []string{"CONTAINERS", "web:1", "app=web"}, false},
		{"scale deploy web --replicas=3", "", []string{"scaled"}, false},
		{"get deploy web -o jsonpath={.spec.replicas}/{.spec.strategy.type}", "", []string{"3/RollingUpdate"}, false},
		{"set image deploy/web web=web:2", "", []string{"image updated"}, false},
		{"apply --server-side --field-manager other -f -", deployment, []string{"conflict", ".spec.replicas"}, true},
		{"apply --server-side --field-manager other --force-conflicts -f -", deployment, []string{"serverside-applied"}, false},
		{"get deploy web -o jsonpath={.spec.replicas}/{..image}", "", []string{"2/web:1"}, false},
		{"expose deploy web --port 80 --target-port 8080", "", []string{"service/web exposed"}, false},
		{"get svc", "", []string{"CLUSTER-IP", "EXTERNAL-IP", "80/TCP"}, false},
		{"get services --field-selector spec.type=ClusterIP", "", []string{"web"}, false},
		{"get services --field-selector spec.type=NodePort", "", []string{"No resources found"}, false},
		{"describe svc web", "", []string{"Session Affinity", "IP Families", "SingleStack"}, false},
		{"patch svc web --subresource=status -p {\"status\":{\"loadBalancer\":{\"ingress\":[{\"ip\":\"192.0.2.9\"}]}}}", "", []string{"may only be used"}, true},
		{"create ingress web --rule=photos.example.test/=web:80", "", []string{"created"}, false},
		{"get all", "", []string{"service/web", "deployment.apps/web"}, false},
		{"explain service.spec.ipFamilyPolicy", "", []string{"RequireDualStack", "ENUM"}, false},
		{"explain deployment.spec.strategy --recursive", "", []string{"maxSurge"}, false},
		{"api-resources --api-group=discovery.k8s.io", "", []string{"endpointslices"}, false},
		{"apply -f -", strings.Replace(deployment, "replicas: 2", "replicas: -1", 1), []string{"spec.replicas", "greater than or equal to 0"}, true},
		{"apply -f -", strings.Replace(deployment, "replicas", "replicsa", 1), []string{"unknown field \"spec.replicsa\""}, true},
		{"get horizontalpodautoscalers", "", []string{"the server doesn't have a resource type \"horizontalpodautoscalers\""}, true},
		{"create configmap c --from-literal=a=b", "", []string{"created"}, false},
		{"create secret generic s --from-literal=a=b", "", []string{"created"}, false},
		{"auth whoami", "", []string{"admin", "system:masters"}, false},
		{"auth can-i delete services", "", []string{"yes"}, false},
		{"create service clusterip late --tcp 80 -n missing", "", []string{"namespaces \"missing\" not found"}, true},
		{"delete ns default", "", []string{"this namespace may not be deleted"}, true},
		{"delete deploy,svc,ingress --all", "", []string{"\"web\" deleted"}, false},
		{"get --raw /readyz", "", []string{"ok"}, false},
		{"get --raw /openapi/v2", "", []string{"io.k8s.api.core.v1.Service"}, false},
	} {
		out, err := shared.kubectl(t, test.stdin, append([]string{"-n", ns}, strings.Fields(test.command)...)...)
		if (err != nil) != test.fails {
			t.Errorf("kubectl %s: failed: %v, want %v\n%s", test.command, err != nil, test.fails, out)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("kubectl %s: no %q in\n%.2000s", test.command, want, out)
			}
		}
	}
}

// What every cluster has is there, and comes back when it is removed or changed.
func TestSystemObjects(t *testing.T) {
	t.Parallel()
	r := startFor(t, dualStack(shortDir(t)))
	core := r.client.CoreV1()
	for _, name := range systemNamespaces {
		if _, err := core.Namespaces().Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	eventually(t, func() error { // its condition is set once the server is ready
		cidr, err := r.client.NetworkingV1().ServiceCIDRs().Get(t.Context(), "kubernetes", metav1.GetOptions{})
		if err != nil || fmt.Sprint(cidr.Spec.CIDRs) != "[10.96.0.0/12 fd00:96::/108]" || !apimeta.IsStatusConditionTrue(cidr.Status.Conditions, "Ready") {
			return fmt.Errorf("service CIDR: %+v, %w", cidr, err)
		}
		return nil
	})
	whole := func() error {
		svc, err := core.Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if svc.Spec.ClusterIP != "10.96.0.1" || len(svc.Spec.Ports) != 1 || svc.Spec.Ports[0].Port != 443 || svc.Spec.Ports[0].TargetPort.IntVal != 6443 {
			return fmt.Errorf("service: %+v", svc.Spec)
		}
		ep, err := core.Endpoints("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(ep.Subsets) != 1 || len(ep.Subsets[0].Addresses) != 1 || ep.Subsets[0].Addresses[0].IP != "192.0.2.1" || ep.Subsets[0].Ports[0].Port != 6443 {
			return fmt.Errorf("endpoints: %+v", ep.Subsets)
		}
		slice, err := r.client.DiscoveryV1().EndpointSlices("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(slice.Endpoints) != 1 || slice.Endpoints[0].Addresses[0] != "192.0.2.1" || *slice.Ports[0].Port != 6443 || slice.Labels["kubernetes.io/service-name"] != "kubernetes" {
			return fmt.Errorf("slice: %+v", slice)
		}
		return nil
	}
	eventually(t, whole)
	patch := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		eventually(t, func() error {
			if err := whole(); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			return nil
		})
	}
	patch("service deleted", core.Services("default").Delete(t.Context(), "kubernetes", metav1.DeleteOptions{}))
	patch("endpoints deleted", core.Endpoints("default").Delete(t.Context(), "kubernetes", metav1.DeleteOptions{}))
	patch("slice deleted", r.client.DiscoveryV1().EndpointSlices("default").Delete(t.Context(), "kubernetes", metav1.DeleteOptions{}))
	_, err := core.Services("default").Patch(t.Context(), "kubernetes", types.MergePatchType, []byte(`{"spec":{"type":"NodePort","ports":[{"port":1}]}}`), metav1.PatchOptions{})
	patch("service changed", err)
	_, err = core.Endpoints("default").Patch(t.Context(), "kubernetes", types.MergePatchType, []byte(`{"subsets":[{"addresses":[{"ip":"192.0.2.2"}]}]}`), metav1.PatchOptions{})
	patch("endpoints changed", err)
	_, err = r.client.DiscoveryV1().EndpointSlices("default").Patch(t.Context(), "kubernetes", types.MergePatchType, []byte(`{"endpoints":[]}`), metav1.PatchOptions{})
	patch("slice changed", err)
}

// The next start may advertise another address, of another family, and the slice follows.
func TestAdvertiseChanges(t *testing.T) {
	t.Parallel()
	config := dualStack(shortDir(t))
	for _, advertise := range []string{"192.0.2.1:6443", "[2001:db8::1]:7443", "192.0.2.3:6443"} {
		config.Advertise = netip.MustParseAddrPort(advertise)
		r := startFor(t, config)
		slice, err := r.client.DiscoveryV1().EndpointSlices("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
		if err != nil || slice.Endpoints[0].Addresses[0] != config.Advertise.Addr().String() || *slice.Ports[0].Port != int32(config.Advertise.Port()) {
			t.Errorf("advertised %s: %+v, %v", advertise, slice, err)
		}
		r.stopNow(t)
	}
}

// An Ingress without class gets the default class.
func TestDefaultIngressClass(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	class := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{GenerateName: "standard-", Annotations: map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"}}, Spec: networkingv1.IngressClassSpec{Controller: "example.test/c"}}
	class, err := shared.client.NetworkingV1().IngressClasses().Create(t.Context(), class, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // the plugin reads a cache
		ing, err := shared.client.NetworkingV1().Ingresses(ns).Create(t.Context(), &networkingv1.Ingress{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "i-"},
			Spec:       networkingv1.IngressSpec{DefaultBackend: &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "s", Port: networkingv1.ServiceBackendPort{Number: 80}}}},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if ing.Spec.IngressClassName == nil || *ing.Spec.IngressClassName != class.Name {
			return fmt.Errorf("class %v", ing.Spec.IngressClassName)
		}
		return nil
	})
}

// A watch tells of a write at once, and ends when it is asked to.
func TestWatch(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	watch, err := shared.client.CoreV1().Services(ns).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	if _, err := shared.client.CoreV1().Services(ns).Create(t.Context(), manifest(t, "seen", `{ports: [{port: 80}]}`), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case event := <-watch.ResultChan():
		if svc, ok := event.Object.(*corev1.Service); !ok || svc.Name != "seen" || svc.Spec.ClusterIP == "" {
			t.Errorf("got %v", event)
		}
	case <-time.After(patience):
		t.Error("no event")
	}
}

// `kubectl get -w` prints what is there, and then each change as it comes.
func TestKubectlWatch(t *testing.T) {
	t.Parallel()
	configMaps := shared.client.CoreV1().ConfigMaps(shared.namespace(t))
	make := func(name string) *corev1.ConfigMap {
		t.Helper()
		made, err := configMaps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	first := make("first")
	cmd := shared.kubectlCommand(t, "-n", first.Namespace, "get", "configmaps", "-w", "--output-watch-events", "-l", "!other")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // it was killed with the test's context
	lines := bufio.NewScanner(out)
	until := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.Join(strings.Fields(lines.Text())[:2], " ") == want {
				return
			}
		}
		t.Fatalf("kubectl get -w ended before %q: %v", want, lines.Err())
	}
	until("ADDED first")
	make("second")
	until("ADDED second")
	if _, err := configMaps.Patch(t.Context(), "first", types.MergePatchType, []byte(`{"data":{"a":"b"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	until("MODIFIED first")
	if err := configMaps.Delete(t.Context(), "second", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until("DELETED second")
}

// The API of Pods that the scheduler and the node use: binding, status and the final delete.
func TestPodSubresources(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	pods := shared.client.CoreV1().Pods(ns)
	pod, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if pod.Spec.RestartPolicy != corev1.RestartPolicyAlways || pod.Spec.Containers[0].ImagePullPolicy == "" {
		t.Errorf("no defaults: %+v", pod.Spec)
	}
	if err := pods.Bind(t.Context(), &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	status, _ := json.Marshal(map[string]any{"status": map[string]any{"podIPs": []map[string]string{{"ip": "10.244.0.9"}}, "phase": "Running"}})
	if pod, err = pods.Patch(t.Context(), "p", types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status"); err != nil || pod.Spec.NodeName != "n" || pod.Status.PodIP != "10.244.0.9" {
		t.Errorf("bound to %q at %q, %v", pod.Spec.NodeName, pod.Status.PodIP, err)
	}
	if err := pods.Delete(t.Context(), "p", *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(t.Context(), "p", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a Pod deleted without grace: %v", err)
	}
}
