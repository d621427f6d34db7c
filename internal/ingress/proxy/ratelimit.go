package proxy

import (
	"hash/maphash"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"fairway.dev/fairway/internal/model"
)

// limiter counts what each client address asks of each Ingress that has limits. It is safe for concurrent use.
type limiter struct {
	seed   maphash.Seed
	shards [16]limitShard
}

type limitShard struct {
	mu     sync.Mutex
	counts map[limitKey]*limitCount
}

type limitKey struct {
	ingress model.Name
	client  netip.Addr
}

// limitCount is two leaky buckets and the open requests. A bucket's level falls with time, and rises by one with each request.
type limitCount struct {
	second, minute float64
	at             time.Time
	open           int
}

// maxCounts bounds the clients that one shard remembers.
const maxCounts = 16 << 10

func newLimiter() *limiter {
	l := &limiter{seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].counts = map[limitKey]*limitCount{}
	}
	return l
}

// rates are a route's limits as a limiter sees them.
type rates struct {
	second, minute, open int
	burst                int
}

// take counts a request. release, which is called when the request has ended, is nil when it is too much.
func (l *limiter) take(k limitKey, r rates, now time.Time) (release func()) {
	sh := &l.shards[maphash.Comparable(l.seed, k)%uint64(len(l.shards))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c := sh.counts[k]
	if c == nil {
		if len(sh.counts) >= maxCounts {
			sh.forget(now)
		}
		c = &limitCount{at: now, second: -1, minute: -1} // the first request is not in excess
		sh.counts[k] = c
	}
	passed := max(now.Sub(c.at).Seconds(), 0)
	c.at = now
	second, minute := max(c.second-passed*float64(r.second), -1), max(c.minute-passed*float64(r.minute)/60, -1)
	c.second, c.minute = second, minute
	if r.open > 0 && c.open >= r.open || r.second > 0 && second+1 > float64(r.second*r.burst) || r.minute > 0 && minute+1 > float64(r.minute*r.burst) {
		return nil
	}
	c.second, c.minute = second+1, minute+1
	c.open++
	return func() {
		sh.mu.Lock()
		c.open--
		sh.mu.Unlock()
	}
}

// forget makes room: first those that have been silent for a minute, and if that is nobody, whoever comes first and has nothing open.
func (sh *limitShard) forget(now time.Time) {
	for k, c := range sh.counts {
		if c.open == 0 && now.Sub(c.at) > time.Minute {
			delete(sh.counts, k)
		}
	}
	for k, c := range sh.counts {
		if len(sh.counts) < maxCounts*7/8 {
			return
		}
		if c.open == 0 {
			delete(sh.counts, k)
		}
	}
}

// withinLimits counts a request against its route's limits and answers it if it is too much. What it has counted is given back when the request's
// context ends, which net/http sees to.
func (s *Server) withinLimits(w http.ResponseWriter, r *http.Request, p *passage) bool {
	l := p.policy.Limit
	if l == nil || l.PerSecond+l.PerMinute+l.Connections == 0 || contains(l.Except, p.client) {
		return true
	}
	release := s.limiter.take(limitKey{p.route.Ingress, p.client}, rates{l.PerSecond, l.PerMinute, l.Connections, l.Burst}, time.Now())
	if release == nil {
		p.refuse(w, r, http.StatusServiceUnavailable, "this client asks too much at once")
		return false
	}
	p.release = release
	return true
}
