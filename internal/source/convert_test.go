package source

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/model"
)

// same compares rows; an address prints as itself and nil is an empty list.
func same(t *testing.T, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("row (-want +got):\n%s", d)
	}
}

func ips(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func ptr[T any](v T) *T { return &v }

func TestService(t *testing.T) {
	t.Parallel()
	type (
		spec   = corev1.ServiceSpec
		status = corev1.LoadBalancerIngress
	)
	name := model.Name{Namespace: "ns", Name: "s"}
	for _, c := range []struct {
		name   string
		spec   spec
		status []status
		want   model.Service
	}{
		{name: "nothing said is a ClusterIP without addresses", want: model.Service{Type: model.ClusterIP}},
		{
			name: "dual stack with ports",
			spec: spec{
				Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7", "fd00::7"},
				Ports: []corev1.ServicePort{
					{Name: "http", Port: 80, NodePort: 30080, AppProtocol: ptr("kubernetes.io/h2c")},
					{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53},
					{Name: "odd", Protocol: "DCCP", Port: 1},
					{Name: "zero", Port: 0},
				},
			},
			want: model.Service{
				Type: model.NodePort, ClusterIPs: ips("10.96.0.7", "fd00::7"),
				Ports: []model.Port{
					{Name: "http", Protocol: model.TCP, Port: 80, NodePort: 30080, AppProtocol: "kubernetes.io/h2c"},
					{Name: "dns", Protocol: model.UDP, Port: 53},
				},
			},
		},
		{
			name: "an API before dual stack",
			spec: spec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.7"},
			want: model.Service{Type: model.ClusterIP, ClusterIPs: ips("10.96.0.7")},
		},
		{
			name: "headless",
			spec: spec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "None", ClusterIPs: []string{"None"}, PublishNotReadyAddresses: true},
			want: model.Service{Type: model.ClusterIP, Headless: true, PublishNotReady: true},
		},
		{
			name: "external name, with an address that the type forbids",
			spec: spec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example.test", ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7"}},
			want: model.Service{Type: model.ExternalName, ExternalName: "db.example.test"},
		},
		{
			name: "externalName left over from another type",
			spec: spec{Type: corev1.ServiceTypeClusterIP, ClusterIPs: []string{"10.96.0.7"}, ExternalName: "db.example.test"},
			want: model.Service{Type: model.ClusterIP, ClusterIPs: ips("10.96.0.7")},
		},
		{
			name: "load balancer: only VIP addresses, ranges trimmed",
			spec: spec{
				Type: corev1.ServiceTypeLoadBalancer, ExternalIPs: []string{"192.0.2.9", "010.0.0.1", "junk"},
				LoadBalancerSourceRanges: []string{" 203.0.113.0/24 ", "2001:db8::/32"},
				ExternalTrafficPolicy:    corev1.ServiceExternalTrafficPolicyLocal, InternalTrafficPolicy: ptr(corev1.ServiceInternalTrafficPolicyLocal),
				HealthCheckNodePort: 31000,
			},
			status: []status{
				{IP: "192.0.2.1"}, {IP: "192.0.2.2", IPMode: ptr(corev1.LoadBalancerIPModeVIP)},
				{IP: "192.0.2.3", IPMode: ptr(corev1.LoadBalancerIPModeProxy)}, {Hostname: "lb.example.test"},
			},
			want: model.Service{
				Type: model.LoadBalancer, ExternalIPs: ips("192.0.2.9", "10.0.0.1"), LoadBalancerIPs: ips("192.0.2.1", "192.0.2.2"),
				SourceRanges:   []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")},
				InternalPolicy: model.PolicyLocal, ExternalPolicy: model.PolicyLocal, HealthCheckNodePort: 31000,
			},
		},
		{
			name:   "ranges that cannot be read shut the load balancer",
			spec:   spec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerSourceRanges: []string{"everywhere"}},
			status: []status{{IP: "192.0.2.1"}},
			want:   model.Service{Type: model.LoadBalancer},
		},
		{
			name: "affinity with the API's default timeout",
			spec: spec{Type: corev1.ServiceTypeClusterIP, SessionAffinity: corev1.ServiceAffinityClientIP},
			want: model.Service{Type: model.ClusterIP, Affinity: 3 * time.Hour},
		},
		{
			name: "affinity with a timeout",
			spec: spec{
				Type: corev1.ServiceTypeClusterIP, SessionAffinity: corev1.ServiceAffinityClientIP,
				SessionAffinityConfig: &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(90))}},
			},
			want: model.Service{Type: model.ClusterIP, Affinity: 90 * time.Second},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &corev1.Service{ObjectMeta: meta("ns", "s"), Spec: c.spec}
			o.UID = "u-1"
			o.Status.LoadBalancer.Ingress = c.status
			got, ok := service(o)
			if !ok {
				t.Fatal("no row")
			}
			c.want.Name, c.want.UID = name, "u-1"
			same(t, *got, c.want)
		})
	}
}

func TestEndpointSlice(t *testing.T) {
	t.Parallel()
	label := func(more ...string) metav1.ObjectMeta {
		m := meta("ns", "s-abc")
		m.Labels = map[string]string{discoveryv1.LabelServiceName: "s"}
		for _, k := range more {
			m.Labels[k] = ""
		}
		return m
	}
	base := model.EndpointSlice{Name: model.Name{Namespace: "ns", Name: "s-abc"}, Service: model.Name{Namespace: "ns", Name: "s"}}
	with := func(f func(*model.EndpointSlice)) *model.EndpointSlice { s := base; f(&s); return &s }
	triggered := label()
	triggered.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-11-25T01:02:03.000000004Z"}
	v4 := discoveryv1.AddressTypeIPv4
	for _, c := range []struct {
		name string
		in   discoveryv1.EndpointSlice
		want *model.EndpointSlice // nil: no row
	}{
		{name: "names have no row", in: discoveryv1.EndpointSlice{ObjectMeta: label(), AddressType: discoveryv1.AddressTypeFQDN}},
		{name: "of no Service", in: discoveryv1.EndpointSlice{ObjectMeta: meta("ns", "s-abc"), AddressType: v4}},
		{
			name: "headless, triggered",
			in:   discoveryv1.EndpointSlice{ObjectMeta: func() metav1.ObjectMeta { m := triggered; m.Labels = label(corev1.IsHeadlessService).Labels; return m }(), AddressType: v4},
			want: with(func(s *model.EndpointSlice) {
				s.Headless, s.Triggered = true, time.Date(2026, 11, 25, 1, 2, 3, 4, time.UTC)
			}),
		},
		{
			name: "conditions: nil ready and serving are true, nil terminating is false",
			in: discoveryv1.EndpointSlice{ObjectMeta: label(), AddressType: v4, Endpoints: []discoveryv1.Endpoint{
				{Addresses: []string{"10.1.0.1", "10.1.0.9"}},
				{Addresses: []string{"10.1.0.2"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}},
				{Addresses: []string{"10.1.0.3"}, Conditions: discoveryv1.EndpointConditions{Serving: ptr(false)}},
			}},
			want: with(func(s *model.EndpointSlice) {
				s.Endpoints = []model.Endpoint{
					{Addr: ips("10.1.0.1")[0], Ready: true, Serving: true},
					{Addr: ips("10.1.0.2")[0], Serving: true, Terminating: true},
					{Addr: ips("10.1.0.3")[0], Ready: true},
				}
			}),
		},
		{
			name: "addresses that are none, or of the other family",
			in: discoveryv1.EndpointSlice{ObjectMeta: label(), AddressType: discoveryv1.AddressTypeIPv6, Endpoints: []discoveryv1.Endpoint{
				{}, {Addresses: []string{"junk"}}, {Addresses: []string{"10.1.0.1"}}, {Addresses: []string{"fd00::1"}},
			}},
			want: with(func(s *model.EndpointSlice) {
				s.IPv6, s.Endpoints = true, []model.Endpoint{{Addr: ips("fd00::1")[0], Ready: true, Serving: true}}
			}),
		},
		{
			name: "all fields",
			in: discoveryv1.EndpointSlice{ObjectMeta: label(), AddressType: v4, Endpoints: []discoveryv1.Endpoint{{
				Addresses: []string{"10.1.0.1"}, Hostname: ptr("db-0"), NodeName: ptr("n1"), Zone: ptr("z1"),
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "db-0"},
				Hints: &discoveryv1.EndpointHints{
					ForZones: []discoveryv1.ForZone{{Name: "z1"}, {Name: "z2"}}, ForNodes: []discoveryv1.ForNode{{Name: "n1"}},
				},
			}}},
			want: with(func(s *model.EndpointSlice) {
				s.Endpoints = []model.Endpoint{{
					Addr: ips("10.1.0.1")[0], Ready: true, Serving: true, Hostname: "db-0", Node: "n1", Zone: "z1",
					ForZones: []string{"z1", "z2"}, ForNodes: []string{"n1"}, Target: "Pod db-0",
				}}
			}),
		},
		{
			name: "ports: no name is the empty name, no protocol is TCP, no number is no port",
			in: discoveryv1.EndpointSlice{ObjectMeta: label(), AddressType: v4, Ports: []discoveryv1.EndpointPort{
				{Port: ptr(int32(8080))},
				{Name: ptr("all")},
				{Name: ptr("dns"), Protocol: ptr(corev1.ProtocolUDP), Port: ptr(int32(53)), AppProtocol: ptr("dns")},
			}},
			want: with(func(s *model.EndpointSlice) {
				s.Ports = []model.EndpointPort{{Protocol: model.TCP, Port: 8080}, {Name: "dns", Protocol: model.UDP, Port: 53, AppProtocol: "dns"}}
			}),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := endpointSlice(&c.in)
			if ok != (c.want != nil) {
				t.Fatalf("row: %v, want %v", ok, c.want != nil)
			}
			if ok {
				same(t, *got, *c.want)
			}
		})
	}
}

func TestNode(t *testing.T) {
	t.Parallel()
	o := &corev1.Node{ObjectMeta: meta("", "n1"), Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/24", PodCIDRs: []string{"10.1.0.0/24", "fd01::/64", "junk"}}}
	o.Labels = map[string]string{corev1.LabelTopologyZone: "z1"}
	o.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeExternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeHostName, Address: "10.9.9.9"},
		{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}, {Type: corev1.NodeInternalIP, Address: "fd02::1"},
		{Type: corev1.NodeExternalIP, Address: "10.0.0.1"},
	}
	got, _ := node(o)
	same(t, *got, model.Node{
		Name: "n1", Zone: "z1", Addresses: ips("10.0.0.1", "fd02::1", "192.0.2.1"),
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd01::/64")},
	})
	single, _ := node(&corev1.Node{ObjectMeta: meta("", "n2"), Spec: corev1.NodeSpec{PodCIDR: "10.1.1.0/24"}})
	same(t, *single, model.Node{Name: "n2", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.1.0/24")}})
}

func TestIngress(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 11, 25, 1, 0, 0, 0, time.UTC)
	to := func(name, port string, number int32) networkingv1.IngressBackend {
		return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: name, Port: networkingv1.ServiceBackendPort{Name: port, Number: number}}}
	}
	o := &networkingv1.Ingress{ObjectMeta: meta("ns", "i")}
	o.CreationTimestamp = metav1.NewTime(created)
	o.Annotations = map[string]string{classAnnotation: "old", "a": "b"}
	o.Spec = networkingv1.IngressSpec{
		DefaultBackend: ptr(to("fallback", "", 80)),
		TLS:            []networkingv1.IngressTLS{{Hosts: []string{"Photos.Example.Test"}, SecretName: "cert"}, {}},
		Rules: []networkingv1.IngressRule{
			{Host: "Photos.Example.Test", IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{
				{Path: "/api", PathType: ptr(networkingv1.PathTypePrefix), Backend: to("imaging", "http", 0)},
				{Path: "/x", Backend: networkingv1.IngressBackend{Resource: &corev1.TypedLocalObjectReference{APIGroup: ptr("g.example.test"), Kind: "Bucket", Name: "b"}}},
			}}}},
			{Host: "*.example.test"},
		},
	}
	want := model.Ingress{
		Name: model.Name{Namespace: "ns", Name: "i"}, Class: "old", Created: created, Annotations: o.Annotations,
		Default: &model.IngressBackend{Service: "fallback", PortNumber: 80},
		TLS:     []model.IngressTLS{{Hosts: []string{"photos.example.test"}, Secret: "cert"}, {}},
		Rules: []model.IngressRule{
			{Host: "photos.example.test", Paths: []model.IngressPath{
				{Path: "/api", Type: model.PathPrefix, Backend: model.IngressBackend{Service: "imaging", PortName: "http"}},
				{Path: "/x", Type: model.PathImplementationSpecific, Backend: model.IngressBackend{Resource: "g.example.test/Bucket/b"}},
			}},
			{Host: "*.example.test"},
		},
	}
	got, _ := ingress(o)
	same(t, *got, want)

	o.Spec.IngressClassName = ptr("fairway") // the field wins over the annotation
	got, _ = ingress(o)
	want.Class = "fairway"
	same(t, *got, want)

	bare, _ := ingress(&networkingv1.Ingress{ObjectMeta: meta("ns", "bare")})
	if bare.Annotations == nil {
		t.Error("annotations are nil")
	}
}

func TestIngressClassAndCertificate(t *testing.T) {
	t.Parallel()
	o := &networkingv1.IngressClass{ObjectMeta: meta("", "fairway"), Spec: networkingv1.IngressClassSpec{Controller: "fairway.dev/ingress"}}
	got, _ := ingressClass(o)
	same(t, *got, model.IngressClass{Name: "fairway", Controller: "fairway.dev/ingress"})
	o.Annotations = map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"}
	got, _ = ingressClass(o)
	same(t, *got, model.IngressClass{Name: "fairway", Controller: "fairway.dev/ingress", Default: true})

	secret := &corev1.Secret{ObjectMeta: meta("ns", "cert"), Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": []byte("C"), "tls.key": []byte("K")}}
	c, ok := certificate(secret)
	if !ok {
		t.Fatal("a TLS Secret has no row")
	}
	same(t, *c, model.Certificate{Name: model.Name{Namespace: "ns", Name: "cert"}, Cert: []byte("C"), Key: []byte("K")})
	secret.Type = corev1.SecretTypeOpaque
	if _, ok := certificate(secret); ok {
		t.Error("an opaque Secret has a row")
	}
}

func TestServiceCIDR(t *testing.T) {
	t.Parallel()
	o := &networkingv1.ServiceCIDR{ObjectMeta: meta("", "c"), Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.98.0.0/24", "fd00::/112", "junk"}}}
	got, ok := serviceCIDR(o)
	if !ok {
		t.Fatal("no row")
	}
	same(t, *got, model.ServiceCIDR{Name: "c", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.98.0.0/24"), netip.MustParsePrefix("fd00::/112")}})
}

func TestLeavingNode(t *testing.T) {
	t.Parallel()
	now := metav1.Now()
	for _, c := range []struct {
		name   string
		change func(*corev1.Node)
		want   bool
	}{
		{"neither", func(*corev1.Node) {}, false},
		{"another taint", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "node.kubernetes.io/unschedulable"}} }, false},
		{"marked by the autoscaler", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}} }, true},
		{"being deleted", func(n *corev1.Node) { n.DeletionTimestamp = &now }, true},
	} {
		o := &corev1.Node{ObjectMeta: meta("", "n1")}
		c.change(o)
		if got, _ := node(o); got.Leaving != c.want {
			t.Errorf("%s: leaving %v", c.name, got.Leaving)
		}
	}
}
