package metrics

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// reading is what is looked up when somebody asks.
type reading Line

var (
	servicePending  = prometheus.NewDesc("kubeproxy_sync_proxy_rules_service_changes_pending", "Changes of Services that are not in force.", nil, nil)
	endpointPending = prometheus.NewDesc("kubeproxy_sync_proxy_rules_endpoint_changes_pending", "Changes of EndpointSlices that are not in force.", nil, nil)
	noLocal         = prometheus.NewDesc("kubeproxy_sync_proxy_rules_no_local_endpoints_total",
		"Service ports with a Local traffic policy, endpoints, and none of them here.", []string{"ip_family", "traffic_policy"}, nil)
	revision         = prometheus.NewDesc("fairway_revision", "Newest revision of what the API says.", nil, nil)
	consumerRevision = prometheus.NewDesc("fairway_consumer_revision", "Revision that a consumer has in force.", []string{"consumer"}, nil)
	consumerUp       = prometheus.NewDesc("fairway_consumer_up", "1 unless the consumer's newest attempt failed as a whole.", []string{"consumer"}, nil)
	consumerFailed   = prometheus.NewDesc("fairway_consumer_failed_objects", "Objects that a consumer could not put in force.", []string{"consumer"}, nil)
	waiting          = prometheus.NewDesc("fairway_sources_waiting", "Kinds of which the API has not delivered a first list.", nil, nil)
	services         = prometheus.NewDesc("fairway_services", "Services known.", nil, nil)
	slicesKnown      = prometheus.NewDesc("fairway_endpointslices", "EndpointSlices known.", nil, nil)
	build            = prometheus.NewDesc("fairway_build_info", "1, with the program's version.", []string{"version", "goversion"}, nil)
)

// Describe makes it a prometheus.Collector.
func (r *reading) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		servicePending, endpointPending, noLocal, revision, consumerRevision, consumerUp, consumerFailed, waiting, services, slicesKnown, build,
	} {
		ch <- d
	}
}

// Collect makes it a prometheus.Collector.
func (r *reading) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	var svcs, eps int
	r.mu.Lock()
	for _, c := range r.pending {
		svcs, eps = svcs+c.services, eps+c.slices
	}
	r.mu.Unlock()
	gauge(servicePending, float64(svcs))
	gauge(endpointPending, float64(eps))
	snap := r.cfg.Store.Snapshot()
	gauge(revision, float64(snap.Revision))
	for _, s := range r.cfg.Store.Statuses() {
		up := 1.0
		if s.Err != nil {
			up = 0
		}
		gauge(consumerRevision, float64(s.Revision), s.Consumer)
		gauge(consumerUp, up, s.Consumer)
		gauge(consumerFailed, float64(len(s.Failed)), s.Consumer)
	}
	gauge(waiting, float64(len(r.cfg.Store.Unsynced())))
	gauge(services, float64(snap.Services.Len()))
	gauge(slicesKnown, float64(snap.SliceCount()))
	gauge(build, 1, r.cfg.Version, runtime.Version())

	// Only Services with a policy Local are planned.
	var counts [2][2]int // by family and policy
	view := plan.Look(snap, r.cfg.Node, r.cfg.NodePortCIDRs...)
	for svc := range snap.Services.All() {
		if svc.InternalPolicy != model.PolicyLocal && svc.ExternalPolicy != model.PolicyLocal {
			continue
		}
		count(view.Service(snap, svc.Name), &counts)
	}
	for f, family := range families {
		for p, policy := range []string{"internal", "external"} {
			gauge(noLocal, float64(counts[f][p]), family, policy)
		}
	}
}

// count adds the ports of a Service that drop what comes in; an external one counts once, however many addresses it has.
func count(p plan.Service, counts *[2][2]int) {
	seen := map[plan.Key]bool{}
	for i := range p.Frontends {
		f := &p.Frontends[i]
		family := 0
		if f.Addr.Is6() {
			family = 1
		}
		switch {
		case f.Scope == plan.ClusterIP && f.Inside.Verdict == plan.Drop:
			counts[family][0]++
		case f.Scope != plan.ClusterIP && f.Outside.Verdict == plan.Drop && !seen[f.Sticky]:
			seen[f.Sticky] = true
			counts[family][1]++
		}
	}
}
