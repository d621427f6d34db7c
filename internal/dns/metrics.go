package dns

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/dns/wire"
)

// metrics are counters that cost one addition each; Collect reads them.
type metrics struct {
	zone string
	// requests are by transport (UDP, TCP), by origin (the zone, upstreams) and by type.
	requests [2][2][len(typeNames)]atomic.Uint64
	// responses are by origin and response code.
	responses [2][len(rcodes)]atomic.Uint64
	// dropped packets were no queries; rejected queries and connections were over a limit; unsent replies failed in the kernel.
	dropped, rejected, unsent atomic.Uint64
	// asked, failed are questions put to upstreams and those that got no answer.
	asked, failed atomic.Uint64
	// reloaded and reloadFailed are changes of the configuration.
	reloaded, reloadFailed atomic.Uint64
}

// The labels are those of CoreDNS's dashboards.
var (
	typeNames = [...]string{"A", "AAAA", "PTR", "SRV", "CNAME", "TXT", "SOA", "NS", "MX", "other"}
	rcodes    = [...]wire.Rcode{wire.NoError, wire.FormatError, wire.ServerFailure, wire.NameError, wire.NotImplemented, wire.Refused, wire.BadVersion, 0xffff}
	transport = [...]string{"udp", "tcp"}

	requestsDesc  = prometheus.NewDesc("coredns_dns_requests_total", "Questions answered.", []string{"zone", "proto", "type"}, nil)
	responsesDesc = prometheus.NewDesc("coredns_dns_responses_total", "Responses by code.", []string{"zone", "rcode"}, nil)
	forwardDesc   = prometheus.NewDesc("coredns_forward_requests_total", "Questions put to upstreams.", nil, nil)
	failedDesc    = prometheus.NewDesc("fairway_dns_forward_failures_total", "Questions put to upstreams that got no answer.", nil, nil)
	rejectedDesc  = prometheus.NewDesc("coredns_forward_max_concurrent_rejects_total", "Questions and connections over a limit.", nil, nil)
	droppedDesc   = prometheus.NewDesc("fairway_dns_dropped_packets_total", "Packets that were no queries.", nil, nil)
	unsentDesc    = prometheus.NewDesc("fairway_dns_unsent_replies_total", "Replies that could not be sent.", nil, nil)
)

func (m *metrics) init(zone string) { m.zone = zone }

func typeIndex(t wire.Type) int {
	switch t {
	case wire.TypeA:
		return 0
	case wire.TypeAAAA:
		return 1
	case wire.TypePTR:
		return 2
	case wire.TypeSRV:
		return 3
	case wire.TypeCNAME:
		return 4
	case wire.TypeTXT:
		return 5
	case wire.TypeSOA:
		return 6
	case wire.TypeNS:
		return 7
	case wire.TypeMX:
		return 8
	}
	return len(typeNames) - 1
}

func rcodeIndex(c wire.Rcode) int {
	switch {
	case c <= wire.Refused:
		return int(c)
	case c == wire.BadVersion:
		return len(rcodes) - 2
	}
	return len(rcodes) - 1
}

func (m *metrics) count(origin int, t wire.Type, c wire.Rcode, tcp bool) {
	proto := 0
	if tcp {
		proto = 1
	}
	m.requests[proto][origin][typeIndex(t)].Add(1)
	m.responses[origin][rcodeIndex(c)].Add(1)
}

func (m *metrics) answered(w *scratch, reply []byte, tcp bool) {
	code := wire.ResponseCode(reply)
	if w.r.Rcode == wire.BadVersion {
		code = wire.BadVersion
	}
	m.count(int(w.origin), w.q.Type, code, tcp)
}

// Describe makes Server a prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestsDesc, responsesDesc, forwardDesc, failedDesc, rejectedDesc, droppedDesc, unsentDesc} {
		ch <- d
	}
}

// Collect makes Server a prometheus.Collector. Counters that never moved are left out where they have labels.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	m := &s.metrics
	counter := func(d *prometheus.Desc, v *atomic.Uint64, labels ...string) {
		if n := v.Load(); n > 0 || len(labels) == 0 {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
		}
	}
	for origin, zone := range []string{m.zone, "."} {
		for p, proto := range transport {
			for t, name := range typeNames {
				counter(requestsDesc, &m.requests[p][origin][t], zone, proto, name)
			}
		}
		for i, c := range rcodes {
			counter(responsesDesc, &m.responses[origin][i], zone, c.String())
		}
	}
	counter(forwardDesc, &m.asked)
	counter(failedDesc, &m.failed)
	counter(rejectedDesc, &m.rejected)
	counter(droppedDesc, &m.dropped)
	counter(unsentDesc, &m.unsent)
}
