package dns

import (
	"sync/atomic"
	"time"

	"fairway.dev/fairway/internal/dns/forward"
	"fairway.dev/fairway/internal/dns/wire"
)

// metrics are counters that cost one addition each; Collect reads them.
type metrics struct {
	zone string
	// requests are by transport (UDP, TCP), by family (IPv4, IPv6), by origin (the zone, elsewhere) and by type.
	requests [2][2][2][len(typeNames)]atomic.Uint64
	// responses are by origin and response code.
	responses [2][len(rcodes)]atomic.Uint64
	// took is from reading a question, or the batch that it came in, to having its answer, by origin.
	took [2]forward.Histogram
	// dropped packets were no queries; rejected queries and connections were over a limit; unsent replies failed in the kernel.
	dropped, rejected, unsent atomic.Uint64
	// asked, failed are questions put to upstreams and those that got no answer.
	asked, failed atomic.Uint64
	// reloaded and reloadFailed are changes of the configuration.
	reloaded, reloadFailed atomic.Uint64
	// unlogged are lines of the query log that were dropped.
	unlogged atomic.Uint64
	// remembered is when the names that are answered were written down, in Unix seconds; 0 when they come from the store.
	remembered atomic.Int64
}

var (
	typeNames = [...]string{"A", "AAAA", "PTR", "SRV", "CNAME", "TXT", "SOA", "NS", "MX", "other"}
	rcodes    = [...]wire.Rcode{wire.NoError, wire.FormatError, wire.ServerFailure, wire.NameError, wire.NotImplemented, wire.Refused, wire.BadVersion, 0xffff}
	transport = [...]string{"udp", "tcp"}
	families  = [...]string{"1", "2"}
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

// answered counts a reply, and writes it down if somebody wants that.
func (s *Server) answered(w *scratch, p *plan, reply []byte, tcp bool) {
	code := wire.ResponseCode(reply)
	if w.r.Rcode == wire.BadVersion {
		code = wire.BadVersion
	}
	m, proto, family := &s.metrics, 0, 0
	if tcp {
		proto = 1
	}
	if w.v6 {
		family = 1
	}
	m.requests[proto][family][w.origin][typeIndex(w.q.Type)].Add(1)
	m.responses[w.origin][rcodeIndex(code)].Add(1)
	w.done[w.origin]++
	if p.log != nil && p.log.wants(code, wire.AnswerCount(reply)) {
		p.log.put(line{
			at: time.Now(), client: w.client, name: wire.NameString(w.q.Name), qtype: w.q.Type, rcode: code, tcp: tcp, truncated: wire.IsTruncated(reply),
			zone: []string{m.zone, "."}[w.origin], answers: wire.AnswerCount(reply), size: len(reply),
		})
	}
}

// timed notes how long it took to answer all that was done since the last call.
func (s *Server) timed(w *scratch, took time.Duration) {
	for o, n := range w.done {
		if n > 0 {
			s.metrics.took[o].ObserveN(took, n)
			w.done[o] = 0
		}
	}
}
