package dns

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"

	"fairway.dev/fairway/internal/dns/cache"
	"fairway.dev/fairway/internal/dns/forward"
	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/dns/zone"
)

// atOnce answers what needs nobody else: fixed names, the cluster's, zones from files, and what is in the cache. It reports whether the
// reply, which lies in buf unless that is too small, is complete; if not, w.r is started anew by whoever goes on.
func (s *Server) atOnce(w *scratch, p *plan, buf []byte, limit int) (reply []byte, done bool) {
	if p.rewrites.any() {
		if _, ok := p.rewrites.find(w.q.Lower()); ok {
			return nil, false
		}
	}
	if p.hosts != nil && p.hosts.Answer(&w.q, &w.r) {
		w.origin = fromElsewhere
		return w.r.Finish(), true
	}
	switch out, key := s.zone.Answer(&w.q, &w.r); out {
	case zone.Answered, zone.Unknown, zone.Pending:
		w.origin = fromZone
		if out == zone.Pending || out == zone.Unknown && s.mayAsk(key) {
			return nil, false
		}
		if out == zone.Unknown && s.asker != nil {
			w.start(s, p, buf, limit)
			s.zone.Doubt(&w.q, &w.r)
		}
		// Where the search path is walked here, "no such name" may not be the last word.
		return w.r.Finish(), !(p.file.Cluster.SearchCompletion && w.r.Rcode == wire.NameError && s.completable(w))
	case zone.Chase:
		return nil, false
	}
	w.origin = fromElsewhere
	if z := p.zone(w.q.Lower()); z != nil {
		if z.Answer(&w.q, &w.r) != nil {
			return nil, false
		}
		return w.r.Finish(), true
	}
	if w.q.Type == wire.TypeHINFO && s.echo(p, w.q.Lower()) || !p.routed(w.q.Lower()) {
		w.r.Rcode = wire.Refused
		return w.r.Finish(), true
	}
	if p.cache == nil {
		return nil, false
	}
	now := time.Now()
	w.key = cache.AppendKey(w.key[:0], &w.q)
	e, state := p.cache.Look(w.key, now)
	switch state {
	case cache.Refresh:
		s.refresh(p, w)
	case cache.Fresh:
	default:
		return nil, false
	}
	return w.q.Replay(buf, limit, &e.Body, fresh(e, now)), true
}

func (r *rewrites) any() bool { return len(r.exact) > 0 || len(r.suffixes) > 0 }

// routed tells whether a name is forwarded at all, where the configuration makes exceptions.
func (p *plan) routed(name []byte) bool { return len(p.except) == 0 || p.route(name) != nil }

// echo tells whether a question is one of ours that has come back.
func (s *Server) echo(p *plan, name []byte) bool {
	for _, r := range p.routes {
		if r.group.Echo(name) {
			return true
		}
	}
	return false
}

func fresh(e *cache.Entry, now time.Time) wire.Aged {
	return wire.Aged{Rcode: e.Rcode, Authenticated: e.Authenticated, Truncated: e.Truncated, Age: e.Age(now), Turn: e.Turn()}
}

// refresh fetches an answer anew while the old one is still good. Where there is no room for that, it is left to the next client.
func (s *Server) refresh(p *plan, w *scratch) {
	if g := p.route(w.q.Lower()); g != nil && s.forward.running.Load() < s.forward.limit.Load() {
		s.forward.fetch(p, g, &w.q, w.key)
	}
}

// respond gives the reply to w.q, however long that takes within ctx. depth counts how often one question has led to another.
func (s *Server) respond(ctx context.Context, w *scratch, p *plan, client netip.Addr, limit, depth int) []byte {
	if depth > maxDepth {
		return s.fail(w, limit)
	}
	if rw, ok := p.rewrites.find(w.q.Lower()); ok && depth == 0 {
		return s.rewritten(ctx, w, p, rw, client, limit)
	}
	w.start(s, p, nil, limit)
	if p.hosts != nil && p.hosts.Answer(&w.q, &w.r) {
		w.origin = fromElsewhere
		return w.r.Finish()
	}
	switch out, target := s.settle(ctx, w, p, limit); out {
	case zone.Answered:
		w.origin = fromZone
		if depth == 0 && w.r.Rcode == wire.NameError && p.file.Cluster.SearchCompletion {
			if reply := s.complete(ctx, w, p, client, limit); reply != nil {
				return reply
			}
		}
		return w.r.Finish()
	case zone.Chase:
		w.origin = fromZone
		s.chase(ctx, w, p, target, depth)
		return w.r.Finish()
	}
	w.origin = fromElsewhere
	if z := p.zone(w.q.Lower()); z != nil {
		if target := z.Answer(&w.q, &w.r); target != nil {
			s.chase(ctx, w, p, target, depth)
		}
		return w.r.Finish()
	}
	if reply := s.forwarded(ctx, w, p, limit); reply != nil {
		return reply
	}
	return s.fail(w, limit)
}

// maxDepth is how many questions one question may lead to: aliases into our own names and out of them again.
const maxDepth = 8

func (s *Server) fail(w *scratch, limit int) []byte {
	w.start(s, s.plan.Load(), nil, limit)
	w.r.Rcode = wire.ServerFailure
	return w.r.Finish()
}

// forwarded answers from the cache or from other servers; nil if neither has an answer.
func (s *Server) forwarded(ctx context.Context, w *scratch, p *plan, limit int) []byte {
	g := p.route(w.q.Lower())
	if g == nil {
		w.r.Rcode = wire.Refused
		return w.r.Finish()
	}
	w.key = cache.AppendKey(w.key[:0], &w.q)
	var old *cache.Entry
	if p.cache != nil {
		switch e, state := p.cache.Get(w.key, time.Now()); state {
		case cache.Fresh, cache.Refresh:
			return w.q.Replay(nil, limit, &e.Body, fresh(e, time.Now()))
		case cache.Stale:
			old = e
		}
	}
	if old != nil && old.Hopeless(time.Now()) {
		return s.stale(w, p, g, old, limit)
	}
	fl := s.forward.fetch(p, g, &w.q, w.key)
	patience := ctx
	if old != nil {
		var cancel context.CancelFunc
		patience, cancel = context.WithTimeout(ctx, p.file.Cache.StaleWait.D())
		defer cancel()
	}
	select {
	case <-fl.done:
		// Whoever has an answer, even an old one, is better off than with a failure.
		if fl.err == nil && (old == nil || fl.entry.Rcode == wire.NoError || fl.entry.Rcode == wire.NameError) {
			return w.q.Replay(nil, limit, &fl.entry.Body, fresh(fl.entry, time.Now()))
		}
	case <-patience.Done():
	}
	if old == nil {
		return nil
	}
	old.Failed(time.Now())
	return s.stale(w, p, g, old, limit)
}

// stale gives an answer that has run out, and says so to who can read that (RFC 8767, RFC 8914).
func (s *Server) stale(w *scratch, p *plan, g *forward.Group, e *cache.Entry, limit int) []byte {
	now := time.Now()
	if p.cache.ServedStale(e, now) {
		s.forward.fetch(p, g, &w.q, w.key)
	}
	a := fresh(e, now)
	a.Fixed, a.EDE = seconds(p.file.Cache.StaleTTL.D()), wire.StaleAnswer
	if e.Rcode == wire.NameError {
		a.EDE = wire.StaleNXDomain
	}
	return w.q.Replay(nil, limit, &e.Body, a)
}

// chase adds the records of an alias's target to a reply that has the alias, and takes over the response code: what is
// wrong with the target is wrong with the alias.
func (s *Server) chase(ctx context.Context, w *scratch, p *plan, target []byte, depth int) {
	inner := &scratch{}
	if code, ok := inner.q.Parse(wire.AppendQuery(nil, uint16(rand.Uint32()), target, w.q.Type)); !ok || code != wire.NoError {
		w.r.Rcode = wire.ServerFailure
		return
	}
	reply := s.respond(ctx, inner, p, netip.Addr{}, wire.MaxMessage, depth+1)
	w.r.Rcode = wire.ResponseCode(reply)
	if wire.EachAnswer(reply, func(owner []byte, t wire.Type, ttl uint32, data []byte) bool {
		return w.r.Named(wire.Answer, owner, t, ttl, data)
	}) != nil {
		w.r.Rcode = wire.ServerFailure
	}
}

// rewritten answers for one name what another one has, under the name that was asked for.
func (s *Server) rewritten(ctx context.Context, w *scratch, p *plan, rw rewrite, client netip.Addr, limit int) []byte {
	inner := &scratch{}
	if code, ok := setName(&inner.q, &w.q, rw.apply(w.q.Lower())); !ok || code != wire.NoError {
		return s.fail(w, limit)
	}
	reply := s.respond(ctx, inner, p, client, wire.MaxMessage, 1)
	m, err := wire.ParseMessage(reply)
	if err != nil {
		return s.fail(w, limit)
	}
	back := func(name []byte) []byte { return rw.back(name, w.q.Name) }
	for i := range m.Sections {
		for k := range m.Sections[i] {
			r := &m.Sections[i][k]
			r.Owner = back(r.Owner)
			r.EachName(back)
		}
	}
	w.origin = inner.origin
	body := m.Pack(w.q.Name)
	return w.q.Replay(nil, limit, &body, wire.Aged{Rcode: m.Rcode, Authenticated: m.Authenticated, Truncated: m.Truncated})
}

// setName makes q the question of another query, for another name.
func setName(q, of *wire.Query, name []byte) (wire.Rcode, bool) {
	q.Raw, q.End = of.Raw, of.End
	return q.SetName(nil, name)
}
