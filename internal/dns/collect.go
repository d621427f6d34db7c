package dns

import (
	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/dns/wire"
)

// The names and labels are those of CoreDNS, so that its dashboards and alerts work; server and view are there for them and never differ.
// What CoreDNS does not have begins with fairway_dns.
var (
	constant = prometheus.Labels{"server": "dns://:53", "view": ""}

	requestsDesc  = prometheus.NewDesc("coredns_dns_requests_total", "Questions answered.", []string{"zone", "proto", "family", "type"}, constant)
	responsesDesc = prometheus.NewDesc("coredns_dns_responses_total", "Responses by code.", []string{"zone", "rcode"}, constant)
	durationDesc  = prometheus.NewDesc("coredns_dns_request_duration_seconds", "Time to answer a question.", []string{"zone"}, constant)

	forwardDesc  = prometheus.NewDesc("coredns_forward_requests_total", "Questions put to an upstream server.", []string{"to"}, nil)
	forwardedD   = prometheus.NewDesc("coredns_forward_responses_total", "Responses of an upstream server.", []string{"to", "rcode"}, nil)
	proxyTook    = prometheus.NewDesc("coredns_proxy_request_duration_seconds", "Time an upstream server took.", []string{"proxy_name", "to"}, nil)
	checkFailed  = prometheus.NewDesc("coredns_proxy_healthcheck_failures_total", "Health checks that failed.", []string{"proxy_name", "to"}, nil)
	connHits     = prometheus.NewDesc("coredns_proxy_conn_cache_hits_total", "Questions on a connection that was there.", []string{"proxy_name", "to"}, nil)
	connMisses   = prometheus.NewDesc("coredns_proxy_conn_cache_misses_total", "Questions that needed a new connection.", []string{"proxy_name", "to"}, nil)
	brokenDesc   = prometheus.NewDesc("coredns_forward_healthcheck_broken_total", "Questions that met no upstream server that was well.", nil, nil)
	rejectedDesc = prometheus.NewDesc("coredns_forward_max_concurrent_rejects_total", "Questions and connections over a limit.", nil, nil)
	upDesc       = prometheus.NewDesc("fairway_dns_upstream_up", "1 for an upstream server that is asked first, 0 for one that is down, this server itself, or sends our questions back.", []string{"to"}, nil)
	forgedDesc   = prometheus.NewDesc("fairway_dns_upstream_mismatches_total", "Packets from an upstream server's address that were no response to the question.", []string{"to"}, nil)
	failedDesc   = prometheus.NewDesc("fairway_dns_forward_failures_total", "Questions put to upstreams that got no answer.", nil, nil)

	cacheEntries = prometheus.NewDesc("coredns_cache_entries", "Answers that are kept.", []string{"type", "zones"}, constant)
	cacheHits    = prometheus.NewDesc("coredns_cache_hits_total", "Questions answered with what was kept.", []string{"type", "zones"}, constant)
	cacheEvicted = prometheus.NewDesc("coredns_cache_evictions_total", "Answers that gave way.", []string{"type", "zones"}, constant)
	cacheMisses  = prometheus.NewDesc("coredns_cache_misses_total", "Questions for which nothing good was kept.", []string{"zones"}, constant)
	cacheAsked   = prometheus.NewDesc("coredns_cache_requests_total", "Questions put to the cache.", []string{"zones"}, constant)
	cachePre     = prometheus.NewDesc("coredns_cache_prefetch_total", "Answers fetched anew before their end.", []string{"zones"}, constant)
	cacheStale   = prometheus.NewDesc("coredns_cache_served_stale_total", "Answers given after their end.", []string{"zones"}, constant)
	cacheBytes   = prometheus.NewDesc("fairway_dns_cache_bytes", "Memory of the answers that are kept.", nil, nil)

	droppedDesc  = prometheus.NewDesc("fairway_dns_dropped_packets_total", "Packets that were no queries.", nil, nil)
	unsentDesc   = prometheus.NewDesc("fairway_dns_unsent_replies_total", "Replies that could not be sent.", nil, nil)
	unloggedDesc = prometheus.NewDesc("fairway_dns_query_log_dropped_total", "Lines of the query log that were dropped.", nil, nil)
	reloadedDesc = prometheus.NewDesc("fairway_dns_reloads_total", "Changes of the configuration that are in force.", nil, nil)
	reloadFailed = prometheus.NewDesc("coredns_reload_failed_total", "Changes of the configuration that could not be used.", nil, nil)

	staleDesc = prometheus.NewDesc("fairway_dns_names_stale", "1 while the names are those of an earlier run, because the API has not told the present ones.", nil, nil)
	savedDesc = prometheus.NewDesc("fairway_dns_names_saved_timestamp_seconds", "When those names were written down; 0 when they are the present ones.", nil, nil)

	allDescs = []*prometheus.Desc{
		requestsDesc, responsesDesc, durationDesc, forwardDesc, forwardedD, proxyTook, checkFailed, connHits, connMisses, brokenDesc, rejectedDesc, upDesc, forgedDesc, failedDesc,
		cacheEntries, cacheHits, cacheEvicted, cacheMisses, cacheAsked, cachePre, cacheStale, cacheBytes, droppedDesc, unsentDesc, unloggedDesc, reloadedDesc, reloadFailed,
		staleDesc, savedDesc,
	}
)

// Describe makes Server a prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range allDescs {
		ch <- d
	}
}

// Collect makes Server a prometheus.Collector. Counters that never moved are left out where they have labels.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	m := &s.metrics
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		if n > 0 || len(labels) == 0 {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
		}
	}
	for origin, zone := range []string{m.zone, "."} {
		for p, proto := range transport {
			for f, family := range families {
				for t, name := range typeNames {
					count(requestsDesc, m.requests[p][f][origin][t].Load(), zone, proto, family, name)
				}
			}
		}
		for i, c := range rcodes {
			count(responsesDesc, m.responses[origin][i].Load(), zone, c.String())
		}
		if n, sum, upTo := m.took[origin].Read(); n > 0 {
			ch <- prometheus.MustNewConstHistogram(durationDesc, n, sum, upTo, zone)
		}
	}
	count(failedDesc, m.failed.Load())
	count(rejectedDesc, m.rejected.Load())
	count(droppedDesc, m.dropped.Load())
	count(unsentDesc, m.unsent.Load())
	count(unloggedDesc, m.unlogged.Load())
	count(reloadedDesc, m.reloaded.Load())
	count(reloadFailed, m.reloadFailed.Load())
	saved := m.remembered.Load()
	ch <- prometheus.MustNewConstMetric(staleDesc, prometheus.GaugeValue, float64(min(saved, 1)))
	ch <- prometheus.MustNewConstMetric(savedDesc, prometheus.GaugeValue, float64(saved))
	if p := s.plan.Load(); p != nil {
		collectServers(ch, p, count)
		collectCache(ch, p, count)
	}
}

// collectServers reads what is known about upstream servers. A server of several groups counts once, with the sum.
func collectServers(ch chan<- prometheus.Metric, p *plan, count func(*prometheus.Desc, uint64, ...string)) {
	type sum struct {
		requests, checks, hits, misses, forged uint64
		up                                     float64
		rcodes                                 map[wire.Rcode]uint64
		n                                      uint64
		took                                   float64
		upTo                                   map[float64]uint64
	}
	sums, broken := map[string]*sum{}, uint64(0)
	for _, r := range p.routes {
		stats, b := r.group.Stats()
		broken += b
		for _, st := range stats {
			x := sums[st.Server]
			if x == nil {
				x = &sum{rcodes: map[wire.Rcode]uint64{}, upTo: map[float64]uint64{}, up: 1}
				sums[st.Server] = x
			}
			if st.Down || st.Self || st.Loops {
				x.up = 0
			}
			x.requests += st.Failures
			for c, n := range st.Rcodes {
				x.rcodes[c] += n
				x.requests += n
			}
			x.checks, x.hits, x.misses, x.forged = x.checks+st.CheckFailures, x.hits+st.ConnHits, x.misses+st.ConnMisses, x.forged+st.Forged
			n, took, upTo := st.Took.Read()
			x.n, x.took = x.n+n, x.took+took
			for bound, n := range upTo {
				x.upTo[bound] += n
			}
		}
	}
	count(brokenDesc, broken)
	for to, x := range sums {
		ch <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, x.up, to)
		count(forwardDesc, x.requests, to)
		for c, n := range x.rcodes {
			count(forwardedD, n, to, c.String())
		}
		count(checkFailed, x.checks, "forward", to)
		count(connHits, x.hits, "forward", to)
		count(connMisses, x.misses, "forward", to)
		count(forgedDesc, x.forged, to)
		if x.n > 0 {
			ch <- prometheus.MustNewConstHistogram(proxyTook, x.n, x.took, x.upTo, "forward", to)
		}
	}
}

func collectCache(ch chan<- prometheus.Metric, p *plan, count func(*prometheus.Desc, uint64, ...string)) {
	if p.cache == nil {
		return
	}
	kinds, misses := p.cache.Stats()
	asked, prefetch, stale := misses, uint64(0), uint64(0)
	for _, k := range kinds {
		ch <- prometheus.MustNewConstMetric(cacheEntries, prometheus.GaugeValue, float64(k.Entries), k.Kind, ".")
		count(cacheHits, k.Hits, k.Kind, ".")
		count(cacheEvicted, k.Evictions, k.Kind, ".")
		asked, prefetch, stale = asked+k.Hits, prefetch+k.Prefetch, stale+k.Stale
	}
	count(cacheMisses, misses, ".")
	count(cacheAsked, asked, ".")
	count(cachePre, prefetch, ".")
	count(cacheStale, stale, ".")
	ch <- prometheus.MustNewConstMetric(cacheBytes, prometheus.GaugeValue, float64(p.cache.Bytes()))
}
