package node

import (
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestServiceVariables holds every variable of a Service with several ports and one of IPv6, by the kubelet's rules.
func TestServiceVariables(t *testing.T) {
	t.Parallel()
	several := service("shop", "img-api", "10.96.0.7", 80)
	several.Spec.Ports = append(several.Spec.Ports, corev1.ServicePort{Name: "dns-udp", Port: 53, Protocol: corev1.ProtocolUDP})
	six := service("shop", "six", "fd66:96::7", 443)
	six.Spec.Ports[0].Name = ""
	pending := service("shop", "pending", "", 80)
	n := knowing(t, several, six, pending, service("default", "kubernetes", "10.96.0.1", 443))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	got, links, err := n.environment(t.Context(), pod, &corev1.Container{})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(links.environment(got))) {
		all = append(all, name+"="+got[name])
	}
	want := strings.Fields(`
		IMG_API_PORT=tcp://10.96.0.7:80 IMG_API_PORT_53_UDP=udp://10.96.0.7:53 IMG_API_PORT_53_UDP_ADDR=10.96.0.7 IMG_API_PORT_53_UDP_PORT=53 IMG_API_PORT_53_UDP_PROTO=udp
		IMG_API_PORT_80_TCP=tcp://10.96.0.7:80 IMG_API_PORT_80_TCP_ADDR=10.96.0.7 IMG_API_PORT_80_TCP_PORT=80 IMG_API_PORT_80_TCP_PROTO=tcp
		IMG_API_SERVICE_HOST=10.96.0.7 IMG_API_SERVICE_PORT=80 IMG_API_SERVICE_PORT_DNS_UDP=53 IMG_API_SERVICE_PORT_HTTP=80
		KUBERNETES_PORT=tcp://10.96.0.1:443 KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443 KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1 KUBERNETES_PORT_443_TCP_PORT=443
		KUBERNETES_PORT_443_TCP_PROTO=tcp KUBERNETES_SERVICE_HOST=10.96.0.1 KUBERNETES_SERVICE_PORT=443 KUBERNETES_SERVICE_PORT_HTTP=443
		SIX_PORT=tcp://[fd66:96::7]:443 SIX_PORT_443_TCP=tcp://[fd66:96::7]:443 SIX_PORT_443_TCP_ADDR=fd66:96::7 SIX_PORT_443_TCP_PORT=443 SIX_PORT_443_TCP_PROTO=tcp
		SIX_SERVICE_HOST=fd66:96::7 SIX_SERVICE_PORT=443`)
	if !slices.Equal(all, want) {
		t.Errorf("variables:\n%s\nwant:\n%s", strings.Join(all, "\n"), strings.Join(want, "\n"))
	}
	// A Service of the Pod's own namespace that is called as the API's is has the names.
	n = knowing(t, service("shop", "kubernetes", "10.96.0.9", 80), service("default", "kubernetes", "10.96.0.1", 443))
	no := false
	for _, test := range []struct {
		links *bool
		want  string
	}{{nil, "10.96.0.9"}, {&no, "10.96.0.1"}} {
		pod.Spec.EnableServiceLinks = test.links
		if got, _, err := n.environment(t.Context(), pod, &corev1.Container{}); err != nil || got["KUBERNETES_SERVICE_HOST"] != test.want {
			t.Errorf("the name of the API's Service taken, links %v: %s, %v, want %s", test.links, got["KUBERNETES_SERVICE_HOST"], err, test.want)
		}
	}
}

// TestServiceLinksLimit: in a namespace of 5,000 Services a program still starts, with the variables of the oldest; the others can be
// referred to all the same, and what the container says itself stays.
func TestServiceLinksLimit(t *testing.T) {
	t.Parallel()
	const count = 5000
	services := []*corev1.Service{service("default", "kubernetes", "10.96.0.1", 443)}
	start := time.Unix(1_700_000_000, 0)
	for i := range count {
		// The younger ones come first by name, so that age it is that counts.
		s := service("shop", fmt.Sprintf("a-service-of-the-shop-%04d", count-i), fmt.Sprintf("10.96.%d.%d", 1+i/250, 1+i%250), 8080)
		s.CreationTimestamp = metav1.NewTime(start.Add(time.Duration(i) * time.Second))
		services = append(services, s)
	}
	services[0].CreationTimestamp = metav1.NewTime(start.Add(time.Hour * 24))
	n := knowing(t, services...)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	youngest, oldest := "A_SERVICE_OF_THE_SHOP_0001_", "A_SERVICE_OF_THE_SHOP_5000_"
	values, links, err := n.environment(t.Context(), pod, &corev1.Container{Env: []corev1.EnvVar{
		{Name: "PEER", Value: "$(" + youngest + "SERVICE_HOST)"}, {Name: youngest + "PORT", Value: "own"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	env := links.environment(values)
	if env["PEER"] != "10.96.20.250" || env[youngest+"PORT"] != "own" || env["KUBERNETES_SERVICE_HOST"] != "10.96.0.1" || env[oldest+"SERVICE_HOST"] != "10.96.1.1" {
		t.Errorf("PEER %q, own %q, the API's %q, the oldest's %q", env["PEER"], env[youngest+"PORT"], env["KUBERNETES_SERVICE_HOST"], env[oldest+"SERVICE_HOST"])
	}
	if _, there := env[youngest+"SERVICE_HOST"]; there || links.left == 0 || links.left >= count || links.all != count+1 {
		t.Errorf("left out: %d of %d, the youngest: %v", links.left, links.all, !there)
	}
	whole := 0
	for i := 1; i <= count; i++ {
		if _, there := env[fmt.Sprintf("A_SERVICE_OF_THE_SHOP_%04d_SERVICE_HOST", i)]; there {
			whole++
		}
	}
	if whole != count+1-links.left-1 {
		t.Errorf("%d Services have variables, want %d", whole, count-links.left)
	}
	list := func(values map[string]string) []string {
		return variables([]string{"PATH=/usr/bin:/bin"}, "web", values)
	}
	run := func(env []string) error {
		c := exec.Command("/bin/sh", "-c", "exec /bin/sh -c :") // a program, and what it starts
		c.Env = env
		return c.Run()
	}
	if err := run(list(env)); err != nil {
		t.Errorf("a program with that environment: %v", err)
	}
	if err := run(list(values)); err == nil {
		t.Error("a program starts with all the variables: the limit is for nothing")
	}
}
