package differential

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/servicecidrs"

	"fairway.dev/fairway/internal/apiserver"
	"fairway.dev/fairway/internal/testkit/kubeapiserver"
)

// patience is how long the servers may take to start and to answer.
const patience = 2 * time.Minute

// nodePorts is wide, so that hardly ever a port is picked twice by chance.
var nodePorts = utilnet.PortRange{Base: 20000, Size: 40000}

// server is one of the two that are compared.
type server struct {
	url    string
	client *http.Client
}

// pair is both, configured alike.
type pair struct {
	stack          string
	upstream, ours *server
}

// pairs are the servers that every case runs on. Those of ServiceCIDRs have one of their own: upstream picks addresses from any range
// that there is.
var (
	pairs    = []*pair{{stack: "dual"}, {stack: "single"}}
	cidrPair = &pair{stack: "more"}
	allPairs = append(slices.Clone(pairs), cidrPair)
)

var serviceCIDRs = map[string][]netip.Prefix{
	"more":   {netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:96::/108")},
	"dual":   {netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:96::/108")},
	"single": {netip.MustParsePrefix("10.96.0.0/12")},
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	upstream := kubeapiserver.Config{APIServer: os.Getenv("KUBE_APISERVER"), Etcd: os.Getenv("ETCD"), NodePorts: nodePorts, NoSync: true}
	if upstream.APIServer == "" || upstream.Etcd == "" {
		fmt.Println("skipped: $KUBE_APISERVER and $ETCD name no kube-apiserver to compare with; 'make test' does")
		return 0
	}
	// A request waits for a server most of the time: more cases at once than processors.
	if err := flag.Set("test.parallel", fmt.Sprint(slots)); err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(allPairs))
	for _, p := range allPairs {
		wg.Go(func() {
			stop, err := p.start(upstream)
			defer stop()
			errs <- err
			if err == nil {
				<-finished
			}
		})
	}
	code := 0
	for range allPairs {
		if err := <-errs; err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if code == 0 {
		code = m.Run()
	}
	close(finished)
	wg.Wait()
	return code
}

// finished is closed when the servers may end.
var finished = make(chan struct{})

// start runs both servers. stop must be called in any case.
func (p *pair) start(config kubeapiserver.Config) (stop func(), err error) {
	var stops []func()
	stop = func() {
		for i := range stops {
			stops[len(stops)-1-i]()
		}
	}
	dir, err := os.MkdirTemp("", "fwd-")
	if err != nil {
		return stop, err
	}
	stops = append(stops, func() { _ = os.RemoveAll(dir) })
	config.ServiceCIDRs = serviceCIDRs[p.stack]
	config.Dir = dir + "/upstream"
	if err := os.Mkdir(config.Dir, 0o700); err != nil {
		return stop, err
	}

	ours, err := apiserver.New(apiserver.Config{
		Dir: dir + "/ours", Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, ServiceCIDRs: config.ServiceCIDRs, NodePorts: nodePorts, NoSync: true,
	})
	if err != nil {
		return stop, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ours.Run(ctx) }()
	stops = append(stops, func() { cancel(); <-ended })

	upstream, err := kubeapiserver.Start(ctx, config)
	if err != nil {
		return stop, err
	}
	stops = append(stops, upstream.Stop)
	if p == cidrPair {
		stopController, err := keepServiceCIDRs(ctx, upstream.ClientConfig())
		if err != nil {
			return stop, err
		}
		stops = append(stops, stopController)
	}
	select {
	case <-ours.Ready():
	case err := <-ended:
		ended <- err
		return stop, fmt.Errorf("ours ended: %w", err)
	}
	if p.upstream, err = newServer(upstream.ClientConfig()); err != nil {
		return stop, err
	}
	p.ours, err = newServer(ours.ClientConfig("differential"))
	return stop, err
}

// keepServiceCIDRs runs upstream's controller that gives ServiceCIDRs their finalizer and condition; it is no part of kube-apiserver.
func keepServiceCIDRs(ctx context.Context, config *restclient.Config) (stop func(), err error) {
	config.UserAgent = "kube-controller-manager"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(klog.NewContext(ctx, logr.Discard()))
	factory := informers.NewSharedInformerFactory(client, 0)
	controller := servicecidrs.NewController(ctx, factory.Networking().V1().ServiceCIDRs(), factory.Networking().V1().IPAddresses(), client)
	factory.Start(ctx.Done())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		controller.Run(ctx, 1)
	}()
	return func() {
		cancel()
		<-ended
		factory.Shutdown()
	}, nil
}

func newServer(config *restclient.Config) (*server, error) {
	config.UserAgent = "differential"
	config.Timeout = patience
	client, err := restclient.HTTPClientFor(config)
	return &server{url: config.Host, client: client}, err
}
