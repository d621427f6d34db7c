package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// families are kube-proxy's label values; one transaction of ours has both.
var families = []string{"IPv4", "IPv6"}

// vectors are the metrics that are counted when something happens. Names, labels and buckets of the first group are kube-proxy's.
type vectors struct {
	sync, syncFull, syncPartial, network *prometheus.HistogramVec
	lastSync, lastQueued                 *prometheus.GaugeVec
	syncFailures, healthz, livez         *prometheus.CounterVec
	serviceChanges, endpointChanges      prometheus.Counter
	programming                          prometheus.Histogram
}

func (v *vectors) init() {
	family := []string{"ip_family"}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kubeproxy_" + name, Help: help, Buckets: buckets}, family)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubeproxy_" + name, Help: help}, family)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubeproxy_" + name, Help: help}, labels)
	}
	doubling := prometheus.ExponentialBuckets(0.001, 2, 15)
	v.sync = histogram("sync_proxy_rules_duration_seconds", "Time of one round that put rules in force.", doubling)
	v.syncFull = histogram("sync_full_proxy_rules_duration_seconds", "Time of one round that compared all rules with the kernel.", doubling)
	v.syncPartial = histogram("sync_partial_proxy_rules_duration_seconds", "Time of one round that wrote what had changed.", doubling)
	v.network = histogram("network_programming_duration_seconds",
		"Time from the change of a Service or Pod, by the annotation of its EndpointSlice, to the rules in force.", networkBuckets())
	v.lastSync = gauge("sync_proxy_rules_last_timestamp_seconds", "When rules were last put in force.")
	v.lastQueued = gauge("sync_proxy_rules_last_queued_timestamp_seconds", "When the newest change was seen.")
	v.syncFailures = counter("sync_proxy_rules_nftables_sync_failures_total", "Rounds that failed as a whole.", "ip_family")
	v.healthz = counter("proxy_healthz_total", "Answers of /healthz.", "code")
	v.livez = counter("proxy_livez_total", "Answers of /livez.", "code")
	v.serviceChanges = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "kubeproxy_sync_proxy_rules_service_changes_total", Help: "Changes of Services seen.",
	})
	v.endpointChanges = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "kubeproxy_sync_proxy_rules_endpoint_changes_total", Help: "Changes of EndpointSlices seen.",
	})
	v.programming = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "fairway_programming_duration_seconds", Help: "Time from a change's arrival from the API to its commit in the kernel.",
		Buckets: prometheus.ExponentialBuckets(0.000125, 2, 18), // to 16 s
	})
	for _, f := range families { // a series that is not there looks like a scrape that failed
		v.syncFailures.WithLabelValues(f)
	}
}

// networkBuckets are kube-proxy's: of the SLI for clusters, whose bounds are seconds and minutes.
func networkBuckets() []float64 {
	b := prometheus.LinearBuckets(0.25, 0.25, 2)
	b = append(b, prometheus.LinearBuckets(1, 1, 59)...)
	b = append(b, prometheus.LinearBuckets(60, 5, 12)...)
	return append(b, prometheus.LinearBuckets(120, 30, 7)...)
}

func (v *vectors) all() []prometheus.Collector {
	return []prometheus.Collector{
		v.sync, v.syncFull, v.syncPartial, v.network, v.lastSync, v.lastQueued, v.syncFailures, v.healthz, v.livez,
		v.serviceChanges, v.endpointChanges, v.programming,
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
