package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"fairway.dev/fairway/internal/controller/endpointslice"
	"fairway.dev/fairway/internal/controller/ingressstatus"
	"fairway.dev/fairway/internal/controller/mirroring"
	"fairway.dev/fairway/internal/ingress/compile"
	"fairway.dev/fairway/internal/ingress/proxy"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/source"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/upstreamlog"
)

// The controllers of a cluster, by the names that --controllers takes.
const (
	EndpointSliceController = "endpointslice"
	MirroringController     = "endpointslicemirroring"
	IngressStatusController = "ingressstatus"
)

// Controllers are all that there are.
var Controllers = []string{EndpointSliceController, MirroringController, IngressStatusController}

// ControllerConfig says which controllers to run against any Kubernetes API server.
type ControllerConfig struct {
	// Kubeconfig is the file with the credentials; "" takes those of the Pod that this runs in.
	Kubeconfig string
	// Controllers are some of Controllers.
	Controllers []string
	// IngressAddresses are where clients reach the Ingress listeners: what IngressStatusController writes.
	IngressAddresses []netip.Addr
	// LeaderElect runs the controllers on one instance at a time only: the holder of a Lease.
	LeaderElect bool
	// LeaseNamespace is where the Lease fairway-controller is.
	LeaseNamespace string
	// LeaseDuration is how long others wait for a holder that does not renew; RenewDeadline is when a holder gives up; RetryPeriod is the time
	// between two tries. The first must be the longest.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration
	// Health is where /healthz, /livez and /readyz listen, Metrics where /metrics does; the zero value is nowhere.
	Health, Metrics netip.AddrPort
	Logger          *slog.Logger
	Progress        *Progress
}

// leaseName is the Lease that instances of the controller compete for.
const leaseName = "fairway-controller"

// Controller runs until ctx ends, a controller fails, or the Lease is lost. An instance that ends in order gives the Lease back after its controllers
// have stopped, so that another takes over at once.
func Controller(ctx context.Context, c ControllerConfig) error {
	upstreamlog.Route(c.Logger)
	cfg, err := clusterConfig(c.Kubeconfig, "fairway-controller")
	if err != nil {
		return err
	}
	requests := countRequests(cfg)
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	leader := prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairway_controller_leader", Help: "1 while the controllers run in this instance."})
	e := &election{watchdog: leaderelection.NewLeaderHealthzAdaptor(20 * time.Second)}
	p := newParts(ctx)
	if c.Health.IsValid() {
		p.add("health", listenAndServe("--healthz-bind-address", c.Health, e.health(), c.Logger))
	}
	if c.Metrics.IsValid() {
		p.add("metrics-listener", listenAndServe("--metrics-bind-address", c.Metrics, metricsMux(leader, requests), c.Logger))
	}
	p.add("controllers", func(ctx context.Context) error {
		if c.LeaderElect {
			stop, err := e.win(ctx, client, c)
			if err != nil {
				return err
			}
			defer stop()
		}
		inner := newParts(ctx)
		if c.LeaderElect {
			inner.add("leader election", e.keep)
		}
		if err := c.run(inner, cfg, client); err != nil {
			return err
		}
		leader.Set(1)
		c.Progress.Step("running %v", c.Controllers)
		return inner.wait()
	})
	return p.wait()
}

// run starts the controllers.
func (c *ControllerConfig) run(p *parts, cfg *rest.Config, client kubernetes.Interface) error {
	log := func(part string) *slog.Logger { return c.Logger.With("part", part) }
	if slices.Contains(c.Controllers, EndpointSliceController) {
		p.add(EndpointSliceController, endpointslice.New(cfg, endpointslice.Options{Logger: log(EndpointSliceController)}).Run)
	}
	if slices.Contains(c.Controllers, MirroringController) {
		p.add(MirroringController, mirroring.New(cfg, mirroring.Options{Logger: log(MirroringController)}).Run)
	}
	if slices.Contains(c.Controllers, IngressStatusController) {
		st := store.New()
		src, err := source.New(cfg, st, source.Options{Kinds: []string{"ingresses", "ingressclasses"}, Logger: log("source")})
		if err != nil {
			return err
		}
		p.add("source", src.Run)
		p.add(IngressStatusController, func(ctx context.Context) error {
			return ingressstatus.Run(ctx, st, ingressstatus.Config{
				Client: client, Addresses: c.IngressAddresses, Proxy: proxy.Consumer, Logger: log(IngressStatusController),
				Owns: func(snap *store.Snapshot, ing *model.Ingress) bool { return compile.Owns(snap, compile.Options{}, ing) },
			})
		})
	}
	return nil
}

// election is this instance's part in the competition for the Lease.
type election struct {
	watchdog *leaderelection.HealthzAdaptor
	ended    chan struct{} // closed when the Lease is not held any more, and nobody tries to
}

// win waits until the Lease is held; stop gives it back.
func (e *election) win(ctx context.Context, client kubernetes.Interface, c ControllerConfig) (stop func(), err error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	won := make(chan struct{})
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: c.LeaseNamespace, Name: leaseName},
		Client:     client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: leaseName, WatchDog: e.watchdog, ReleaseOnCancel: true,
		LeaseDuration: c.LeaseDuration, RenewDeadline: c.RenewDeadline, RetryPeriod: c.RetryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { close(won) },
			OnStoppedLeading: func() {},
			OnNewLeader: func(identity string) {
				c.Logger.Info("leader", "identity", identity, "this", identity == lock.Identity())
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	// The Lease is held for longer than the controllers run: they must have stopped before another instance starts its own.
	held, release := context.WithCancel(context.WithoutCancel(ctx))
	e.ended = make(chan struct{})
	go func() { defer close(e.ended); elector.Run(held) }()
	stop = func() { release(); <-e.ended }
	select {
	case <-won:
		return stop, nil
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}

var errLeaseLost = errors.New("the Lease was lost: another instance may lead now; this one must be started again")

// keep returns when the Lease is lost.
func (e *election) keep(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-e.ended:
		return errLeaseLost
	}
}

// health serves /healthz, /livez and /readyz: an instance that waits for its turn is well, one that believes in a Lease that has run out is not.
func (e *election) health() http.Handler {
	mux := http.NewServeMux()
	check := func(w http.ResponseWriter, q *http.Request) {
		if err := e.watchdog.Check(q); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "ok")
	}
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		mux.HandleFunc("GET "+path, check)
	}
	return mux
}
