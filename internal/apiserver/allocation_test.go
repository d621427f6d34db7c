package apiserver

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// narrow is a server with six addresses of one family and eight node ports.
func narrow(t *testing.T) Config {
	config := dualStack(shortDir(t))
	config.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/29")}
	config.NodePorts = utilnet.PortRange{Base: 30000, Size: 8}
	return config
}

func (r *running) make(t *testing.T, name, spec string) (*corev1.Service, error) {
	t.Helper()
	return r.client.CoreV1().Services("default").Create(t.Context(), manifest(t, name, spec), metav1.CreateOptions{})
}

func (r *running) mustMake(t *testing.T, name, spec string) *corev1.Service {
	t.Helper()
	svc, err := r.make(t, name, spec)
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return svc
}

func (r *running) mustDelete(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := r.client.CoreV1().Services("default").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *running) addCIDR(t *testing.T, name string, cidrs ...string) {
	t.Helper()
	object := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
	if _, err := r.client.NetworkingV1().ServiceCIDRs().Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// cidrIs waits for the condition Ready of a ServiceCIDR with its finalizer: "True", "False" with its reason, or "gone".
func (r *running) cidrIs(t *testing.T, name, want string) {
	t.Helper()
	eventually(t, func() error {
		object, err := r.client.NetworkingV1().ServiceCIDRs().Get(t.Context(), name, metav1.GetOptions{})
		got := "gone"
		if err == nil {
			got = "unknown"
			if ready := apimeta.FindStatusCondition(object.Status.Conditions, "Ready"); ready != nil {
				got = strings.TrimSpace(string(ready.Status) + " " + ready.Reason)
			}
			if !slices.Contains(object.Finalizers, "networking.k8s.io/service-cidr-finalizer") {
				got += " without finalizer"
			}
		} else if !apierrors.IsNotFound(err) {
			return err
		}
		if got != want {
			return fmt.Errorf("service CIDR %s is %s, want %s", name, got, want)
		}
		return nil
	})
}

// objects are the names of all IPAddress objects with their parent.
func (r *running) objects(t *testing.T) map[string]string {
	t.Helper()
	list, err := r.client.NetworkingV1().IPAddresses().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, object := range list.Items {
		all[object.Name] = object.Spec.ParentRef.Namespace + "/" + object.Spec.ParentRef.Name
	}
	return all
}

func (r *running) eventIs(t *testing.T, reason, name string) {
	t.Helper()
	eventually(t, func() error {
		list, err := r.client.EventsV1().Events("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool { return e.Reason == reason && e.Regarding.Name == name }) {
			return fmt.Errorf("no event %s about %s among %d", reason, name, len(list.Items))
		}
		return nil
	})
}

// Ranges come and go as ServiceCIDR objects.
func TestServiceCIDRs(t *testing.T) {
	t.Parallel()
	r := startFor(t, narrow(t))
	cidrs := r.client.NetworkingV1().ServiceCIDRs()
	for i := range 5 {
		r.mustMake(t, fmt.Sprint("full", i), `{ports: [{port: 80}]}`)
	}
	if _, err := r.make(t, "toomany", `{ports: [{port: 80}]}`); err == nil {
		t.Fatal("there are more than six addresses")
	}
	if _, err := r.make(t, "static", `{clusterIP: 10.97.0.1, ports: [{port: 80}]}`); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "does not match the current range") {
		t.Errorf("an address of no range: %v", err)
	}

	// Whoever makes one may use it at once, for dynamic and for chosen addresses.
	r.addCIDR(t, "second", "10.97.0.0/29")
	if svc := r.mustMake(t, "dynamic", `{ports: [{port: 80}]}`); !strings.HasPrefix(svc.Spec.ClusterIP, "10.97.0.") {
		t.Errorf("the first range is full, and the address is %s", svc.Spec.ClusterIP)
	}
	r.mustDelete(t, "dynamic")
	r.mustMake(t, "static", `{clusterIP: 10.97.0.6, ports: [{port: 80}]}`)
	r.cidrIs(t, "second", "True")

	// One that overlaps knows what is in use, and a bigger one has addresses that the smaller does not count.
	r.addCIDR(t, "around", "10.97.0.0/28")
	if _, err := r.make(t, "same", `{clusterIP: 10.97.0.6, ports: [{port: 80}]}`); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "already allocated") {
		t.Errorf("an address was given out of two ranges: %v", err)
	}
	r.mustMake(t, "edge", `{clusterIP: 10.97.0.7, ports: [{port: 80}]}`)
	r.cidrIs(t, "around", "True")

	// A contained one goes at once, although a Service has an address of it.
	deleteCIDR := func(name string) {
		t.Helper()
		if err := cidrs.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	deleteCIDR("second")
	r.cidrIs(t, "second", "gone")
	// The last one stays until the last address is free, and gives out nothing new.
	deleteCIDR("around")
	r.cidrIs(t, "around", "False Terminating")
	if _, err := r.make(t, "late", `{clusterIP: 10.97.0.9, ports: [{port: 80}]}`); !apierrors.IsInvalid(err) {
		t.Errorf("a ServiceCIDR that is being deleted gave an address: %v", err)
	}
	if _, err := r.make(t, "late", `{ports: [{port: 80}]}`); err == nil || !strings.Contains(err.Error(), "range is full") {
		t.Errorf("a ServiceCIDR that is being deleted gave an address: %v", err)
	}
	r.mustDelete(t, "static")
	r.cidrIs(t, "around", "False Terminating")
	r.mustDelete(t, "edge")
	r.cidrIs(t, "around", "gone")

	// An unused one goes as well, and one that is marked as not ready gives nothing.
	r.addCIDR(t, "shut", "10.98.0.0/29")
	r.cidrIs(t, "shut", "True")
	deleteCIDR("shut")
	r.cidrIs(t, "shut", "gone")
	r.cidrIs(t, "kubernetes", "True")
}

// The configuration may change between two runs. The second family is added; anything else is told, and the data stays in force.
func TestChangedServiceCIDRs(t *testing.T) {
	t.Parallel()
	config := narrow(t)
	first := startFor(t, config)
	first.mustMake(t, "before", `{ports: [{port: 80}]}`)
	first.stopNow(t)

	config.ServiceCIDRs = append(config.ServiceCIDRs, netip.MustParsePrefix("fd00:96::/112"))
	second := startFor(t, config)
	if svc := second.mustMake(t, "both", `{ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}`); len(svc.Spec.ClusterIPs) != 2 {
		t.Errorf("the server became dual-stack, and the Service has %v", svc.Spec.ClusterIPs)
	}
	second.stopNow(t)

	config.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.99.0.0/24")}
	third := startFor(t, config)
	third.eventIs(t, "KubernetesDefaultServiceCIDRInconsistent", "kubernetes")
	if svc := third.mustMake(t, "after", `{ports: [{port: 80}]}`); !strings.HasPrefix(svc.Spec.ClusterIP, "10.96.0.") {
		t.Errorf("the stored range is in force, and the address is %s", svc.Spec.ClusterIP)
	}
}

// Every cluster IP has an IPAddress object, from the moment it is seen until the Service has it no more.
func TestIPAddressObjects(t *testing.T) {
	t.Parallel()
	r := startFor(t, dualStack(shortDir(t)))
	objects := r.client.NetworkingV1().IPAddresses()
	svc := r.mustMake(t, "web", `{ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}`)
	for i, ip := range svc.Spec.ClusterIPs {
		object, err := objects.Get(t.Context(), ip, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"ipaddress.kubernetes.io/ip-family": string(svc.Spec.IPFamilies[i]), "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
		if fmt.Sprint(object.Labels) != fmt.Sprint(want) || *object.Spec.ParentRef != (networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "web"}) {
			t.Errorf("object of %s: labels %v, parent %v", ip, object.Labels, object.Spec.ParentRef)
		}
		if object.UID == "" || object.CreationTimestamp.IsZero() || object.ResourceVersion != svc.ResourceVersion {
			t.Errorf("object of %s: %+v, stored with service at %s", ip, object.ObjectMeta, svc.ResourceVersion)
		}
	}
	step := func(patch string, want int) {
		t.Helper()
		if _, err := r.client.CoreV1().Services("default").Patch(t.Context(), "web", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, parent := range r.objects(t) {
			if parent == "default/web" {
				n++
			}
		}
		if n != want {
			t.Errorf("after %s the Service has %d objects, want %d", patch, n, want)
		}
	}
	step(`{"spec":{"ipFamilyPolicy":"SingleStack"}}`, 1)
	step(`{"spec":{"ipFamilyPolicy":"PreferDualStack"}}`, 2)
	step(`{"metadata":{"labels":{"a":"b"}}}`, 2)
	step(`{"spec":{"type":"ExternalName","externalName":"example.test"}}`, 0)
	step(`{"spec":{"type":"ClusterIP","externalName":null}}`, 1)
	step(`{"metadata":{"finalizers":["example.test/held"]}}`, 1)
	r.mustDelete(t, "web")
	if all := r.objects(t); len(all) != 2 { // its own, and that of default/kubernetes
		t.Errorf("a Service with a finalizer is still there, and the objects are %v", all)
	}
	step(`{"metadata":{"finalizers":null}}`, 0)
}

// An IPAddress object that somebody makes reserves the address, inside the ranges and outside.
func TestReservedAddress(t *testing.T) {
	t.Parallel()
	r := startFor(t, narrow(t))
	objects := r.client.NetworkingV1().IPAddresses()
	reserve := func(name string) error {
		_, err := objects.Create(t.Context(), &networkingv1.IPAddress{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Group: "example.test", Resource: "gateways", Name: "g"}},
		}, metav1.CreateOptions{})
		return err
	}
	for _, name := range []string{"10.96.0.2", "10.96.0.3", "255.255.255.255"} {
		if err := reserve(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := reserve("10.96.0.2"); !apierrors.IsAlreadyExists(err) {
		t.Errorf("the same again: %v", err)
	}
	if err := reserve("10.96.0.02"); !apierrors.IsInvalid(err) {
		t.Errorf("no canonical name: %v", err)
	}
	if _, err := r.make(t, "thief", `{clusterIP: 10.96.0.2, ports: [{port: 80}]}`); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "already allocated") {
		t.Errorf("a reserved address: %v", err)
	}
	var last *corev1.Service
	for i := range 3 {
		if last = r.mustMake(t, fmt.Sprint("s", i), `{ports: [{port: 80}]}`); last.Spec.ClusterIP == "10.96.0.2" || last.Spec.ClusterIP == "10.96.0.3" {
			t.Errorf("a reserved address was given to a Service: %s", last.Spec.ClusterIP)
		}
	}
	if _, err := r.make(t, "toomany", `{ports: [{port: 80}]}`); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("all is in use or reserved: %v", err)
	}
	if err := reserve(last.Spec.ClusterIP); !apierrors.IsAlreadyExists(err) {
		t.Errorf("the address of a Service was reserved: %v", err)
	}
	// Given up, it can be taken; reservations outlive a restart.
	if err := objects.Delete(t.Context(), "10.96.0.2", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.mustMake(t, "freed", `{clusterIP: 10.96.0.2, ports: [{port: 80}]}`)
	config := r.config
	r.stopNow(t)
	r = startFor(t, config)
	if _, err := r.make(t, "thief", `{clusterIP: 10.96.0.3, ports: [{port: 80}]}`); !apierrors.IsInvalid(err) {
		t.Errorf("a restart forgot a reservation: %v", err)
	}
}

// Objects that somebody removed, changed or made in the name of the allocator are put right.
func TestRepairOfIPAddresses(t *testing.T) {
	t.Parallel()
	r := startFor(t, dualStack(shortDir(t)))
	objects := r.client.NetworkingV1().IPAddresses()
	svc := r.mustMake(t, "web", `{ports: [{port: 80}]}`)
	ip := svc.Spec.ClusterIP
	good := func() error {
		object, err := objects.Get(t.Context(), ip, metav1.GetOptions{})
		if err == nil && (object.Spec.ParentRef.Name != "web" || object.Labels["ipaddress.kubernetes.io/managed-by"] != "ipallocator.k8s.io") {
			err = fmt.Errorf("%+v", object)
		}
		return err
	}
	if err := objects.Delete(t.Context(), ip, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.make(t, "thief", fmt.Sprintf(`{clusterIP: %s, ports: [{port: 80}]}`, ip)); !apierrors.IsInvalid(err) {
		t.Errorf("the address of a Service whose object was removed: %v", err)
	}
	eventually(t, good)
	r.eventIs(t, "ClusterIPNotAllocated", "web")
	if _, err := objects.Patch(t.Context(), ip, types.MergePatchType, []byte(`{"metadata":{"labels":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, good)

	stray := func(name string, parent networkingv1.ParentReference) {
		t.Helper()
		_, err := objects.Create(t.Context(), &networkingv1.IPAddress{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io", "ipaddress.kubernetes.io/ip-family": "IPv4"}},
			Spec:       networkingv1.IPAddressSpec{ParentRef: &parent},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	stray("10.96.0.50", networkingv1.ParentReference{Group: "example.test", Resource: "gateways", Name: "g"})
	stray("10.96.0.51", networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "web"})
	r.eventIs(t, "IPAddressNotAllocated", "10.96.0.50")
	r.eventIs(t, "IPAddressWrongReference", "10.96.0.51")
	eventually(t, func() error {
		if all := r.objects(t); all["10.96.0.50"] != "" || all["10.96.0.51"] != "" {
			return fmt.Errorf("still there: %v", all)
		}
		return nil
	})
	r.mustMake(t, "next", `{clusterIP: 10.96.0.51, ports: [{port: 80}]}`)
}

// Data written behind the server's back, by a restore or by hand: objects that are missing are made, and what two Services claim is told.
func TestRepairAtStart(t *testing.T) {
	t.Parallel()
	r := startFor(t, narrow(t))
	a := r.mustMake(t, "a", `{type: NodePort, ports: [{port: 80}]}`)
	r.mustMake(t, "b", `{type: NodePort, ports: [{port: 80}]}`)
	database := r.database.client()
	defer func() { _ = database.Close() }()
	ctx := context.Background()
	value, err := database.Client.Get(ctx, "/registry/services/default/a")
	if err != nil || len(value.Kvs) != 1 {
		t.Fatal(value, err)
	}
	// A copy of a under another name with another identity, and a's object gone.
	copied := strings.ReplaceAll(string(value.Kvs[0].Value), string(a.UID), strings.Repeat("0", len(a.UID)))
	copied = strings.Replace(copied, "\n\x01a\x12\x00", "\n\x01c\x12\x00", 1)
	if copied == string(value.Kvs[0].Value) {
		t.Fatal("the form of stored Services is another one than this test knows")
	}
	if _, err := database.Put(ctx, "/registry/services/default/c", copied); err != nil {
		t.Fatal(err)
	}
	if _, err := database.Client.Delete(ctx, "/registry/networking.k8s.io/ipaddresses/"+a.Spec.ClusterIP); err != nil {
		t.Fatal(err)
	}
	config := r.config
	r.stopNow(t)

	r = startFor(t, config)
	eventually(t, func() error {
		if parent := r.objects(t)[a.Spec.ClusterIP]; parent != "default/a" {
			return fmt.Errorf("parent of %s: %q", a.Spec.ClusterIP, parent)
		}
		return nil
	})
	r.eventIs(t, "ClusterIPAlreadyAllocated", "c")
	r.eventIs(t, "PortAlreadyAllocated", "c")
	r.mustDelete(t, "c") // takes nothing away from a
	if _, err := r.make(t, "thief", fmt.Sprintf(`{clusterIP: %s, ports: [{port: 80}]}`, a.Spec.ClusterIP)); !apierrors.IsInvalid(err) {
		t.Errorf("the deletion of the second freed the address of the first: %v", err)
	}
	if parent := r.objects(t)[a.Spec.ClusterIP]; parent != "default/a" {
		t.Errorf("parent of %s: %q", a.Spec.ClusterIP, parent)
	}
}
