package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"fairway.dev/fairway/internal/testkit/kubeapiserver"
)

// api is upstream's API server with the world in it.
type api struct {
	server     *kubeapiserver.Server
	dir        string
	kubeconfig string
	world      world
	client     kubernetes.Interface

	mu      sync.Mutex
	changed int // how many changes were made so far
}

func (b *bench) startAPI(ctx context.Context) (_ *api, err error) {
	if err := ip("", "link set lo up", "addr add "+apiAddr+"/32 dev lo", "route add unreachable "+serviceRange, "route add unreachable "+podRange); err != nil {
		return nil, err
	}
	a := &api{world: b.world}
	if a.dir, err = os.MkdirTemp("", "fwb-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.stop()
		}
	}()
	begin := time.Now()
	if a.server, err = kubeapiserver.Start(ctx, kubeapiserver.Config{
		APIServer: b.apiServer, Etcd: b.etcd, Dir: a.dir, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix(serviceRange)},
		NodePorts: utilnet.PortRange{Base: 30000, Size: 2768}, NoSync: true, Listen: netip.MustParseAddr(apiAddr), Seed: b.world.seed,
	}); err != nil {
		return nil, err
	}
	cfg := a.server.ClientConfig()
	cfg.ContentType = runtime.ContentTypeProtobuf
	if a.client, err = kubernetes.NewForConfig(cfg); err != nil {
		return nil, err
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}, Spec: corev1.NodeSpec{PodCIDR: "10.239.0.0/24", PodCIDRs: []string{"10.239.0.0/24"}}}
	if node, err = a.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: roomAddr}}
	if _, err = a.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return nil, err
	}
	a.kubeconfig = a.dir + "/kubeconfig"
	if err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:  map[string]*clientcmdapi.Cluster{"c": {Server: cfg.Host, CertificateAuthority: cfg.CAFile}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"u": {Token: cfg.BearerToken}},
		Contexts:  map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}}, CurrentContext: "x",
	}, a.kubeconfig); err != nil {
		return nil, err
	}
	fmt.Printf("upstream's API server with %d Services of %d endpoints: ready after %.1f s\n", b.world.services, b.world.endpoints, time.Since(begin).Seconds())
	return a, nil
}

func (a *api) stop() {
	if a.server != nil {
		a.server.Stop()
	}
	os.RemoveAll(a.dir)
}

// seed writes the world into etcd as the API server would have: through it, the larger worlds would take a quarter of an hour.
func (w world) seed(ctx context.Context, etcd string) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd}, DialTimeout: time.Minute, Context: ctx})
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer client.Close()
	encoder := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	var ops []clientv3.Op
	flush := func() error {
		if len(ops) == 0 {
			return nil
		}
		_, err := client.Txn(ctx).Then(ops...).Commit()
		ops = ops[:0]
		return err
	}
	for key, o := range w.stored {
		kinds, _, err := scheme.Scheme.ObjectKinds(o)
		if err != nil {
			return err
		}
		o.GetObjectKind().SetGroupVersionKind(kinds[0])
		var raw bytes.Buffer
		if err := encoder.Encode(o, &raw); err != nil {
			return fmt.Errorf("encode %s: %w", key, err)
		}
		if ops = append(ops, clientv3.OpPut("/registry/"+key, raw.String())); len(ops) == 120 { // etcd takes 128 in a transaction
			if err := flush(); err != nil {
				return fmt.Errorf("etcd: %w", err)
			}
		}
	}
	if err := flush(); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	return nil
}

// next says what the next change is: a Service's slice, and an address that was never used. It passes over the sentinels.
func (a *api) next() (slice *discoveryv1.EndpointSlice, fresh netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		i := a.changed * 7919 % a.world.services
		a.changed++
		if !a.world.sentinel(i) || a.world.services < 100 {
			return a.world.slice(i), freshAddr(a.changed)
		}
	}
}

// put replaces one endpoint of the slice by the fresh one, whatever was written to the slice before, and gives the time of the answer.
func (a *api) put(ctx context.Context, s *discoveryv1.EndpointSlice, fresh netip.Addr) (time.Time, error) {
	s.Endpoints[int(fresh.As4()[3])%len(s.Endpoints)].Addresses = []string{fresh.String()}
	s.ManagedFields = nil // the server's own
	_, err := a.client.DiscoveryV1().EndpointSlices(namespace).Update(ctx, s, metav1.UpdateOptions{})
	return time.Now(), err
}
