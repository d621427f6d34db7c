package packets_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/apiserver"
	"fairway.dev/fairway/internal/testkit"
	"fairway.dev/fairway/internal/testkit/packets"
)

// api is an API server in this process with the objects of a world.
type api struct {
	kubernetes.Interface
	config     *rest.Config
	server     *apiserver.Server
	kubeconfig string
}

func startAPI(t *testing.T, w *packets.World) *api {
	dir := t.TempDir()
	s, err := apiserver.New(apiserver.Config{
		Dir: dir, Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, NoSync: true, ServiceCIDRs: packets.ServiceCIDRs[:2],
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	select {
	case <-s.Ready():
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("the API server is not ready after a minute")
	}
	a := &api{config: s.ClientConfig("test"), server: s, kubeconfig: dir + "/kubeconfig"}
	if a.Interface, err = kubernetes.NewForConfig(a.config); err != nil {
		t.Fatal(err)
	}
	if err := a.server.WriteKubeconfig(a.kubeconfig, -1, -1); err != nil {
		t.Fatal(err)
	}
	a.create(t, w)
	return a
}

// create writes the world; Services in their order, so that the first is the oldest.
func (a *api) create(t *testing.T, w *packets.World) {
	ctx, opts := t.Context(), metav1.CreateOptions{}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	second := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "second"}}
	for _, p := range packets.ServiceCIDRs[2:] {
		second.Spec.CIDRs = append(second.Spec.CIDRs, p.String())
	}
	_, err := a.NetworkingV1().ServiceCIDRs().Create(ctx, second, opts)
	must(err)
	for _, n := range w.Nodes {
		o := nodeObject(n)
		status := o.Status
		o, err := a.CoreV1().Nodes().Create(ctx, o, opts)
		must(err)
		o.Status = status
		_, err = a.CoreV1().Nodes().UpdateStatus(ctx, o, metav1.UpdateOptions{})
		must(err)
	}
	g := errgroup.Group{}
	g.SetLimit(8)
	for _, s := range w.Slices {
		g.Go(func() error {
			_, err := a.DiscoveryV1().EndpointSlices(s.Name.Namespace).Create(ctx, sliceObject(s), opts)
			return err
		})
	}
	for _, s := range w.Services {
		o := serviceObject(w, s)
		status := o.Status
		o, err := a.CoreV1().Services(o.Namespace).Create(ctx, o, opts)
		must(err)
		if len(status.LoadBalancer.Ingress) > 0 {
			o.Status = status
			_, err = a.CoreV1().Services(o.Namespace).UpdateStatus(ctx, o, metav1.UpdateOptions{})
			must(err)
		}
	}
	must(g.Wait())
}

// setZone changes a node's zone label, or takes it away.
func (a *api) setZone(ctx context.Context, node, zone string) error {
	o, err := a.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	delete(o.Labels, corev1.LabelTopologyZone)
	if zone != "" {
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels[corev1.LabelTopologyZone] = zone
	}
	_, err = a.CoreV1().Nodes().Update(ctx, o, metav1.UpdateOptions{})
	return err
}

// inside makes the API reachable in a namespace, at the address that the kubeconfig names.
func (a *api) inside(t *testing.T, ns *testkit.NetNS) {
	u, err := url.Parse(a.config.Host)
	if err != nil {
		t.Fatal(err)
	}
	l, err := ns.Listen("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				up, err := net.Dial("tcp", u.Host)
				if err != nil {
					return
				}
				defer up.Close()
				go func() { _, _ = io.Copy(up, c); up.Close() }()
				_, _ = io.Copy(c, up)
			}()
		}
	}()
}
