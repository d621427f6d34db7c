package proxy

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"fairway.dev/fairway/internal/ingress/compile"
)

// backend is one Service port that routes lead to. Its endpoints are replaced as a whole while requests go on.
type backend struct {
	ref  compile.Ref
	set  atomic.Pointer[endpointSet]
	next atomic.Uint32
}

// endpointSet is immutable.
type endpointSet struct {
	endpoints []*endpoint
	problem   string // why there can be none, or ""
	advice    string
}

func (s *endpointSet) equal(e compile.Endpoints) bool {
	return s != nil && s.problem == e.Problem && s.advice == e.Advice &&
		slices.EqualFunc(s.endpoints, e.Addrs, func(a *endpoint, b netip.AddrPort) bool { return a.addr == b })
}

// maxAttempts bounds the endpoints that one request is tried on.
const maxAttempts = 4

// attempts remembers where a request has been.
type attempts struct {
	tried [maxAttempts]*endpoint
	n     int
}

func (a *attempts) add(e *endpoint) {
	a.tried[a.n] = e
	a.n++
}

// pick gives the next endpoint in turn that has not been tried, passing over those that failed just now as long as there are
// others. It gives nil when none is left.
func (b *backend) pick(set *endpointSet, a *attempts, now time.Time) *endpoint {
	n := uint32(len(set.endpoints))
	if n == 0 || a.n == maxAttempts {
		return nil
	}
	start, nano := b.next.Add(1), now.UnixNano()
	var second *endpoint
	for i := range n {
		e := set.endpoints[(start+i)%n]
		if a.n > 0 && slices.Contains(a.tried[:a.n], e) {
			continue
		}
		if !e.failing(nano) {
			return e
		}
		if second == nil {
			second = e
		}
	}
	return second
}
