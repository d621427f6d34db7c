package dns

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"fairway.dev/fairway/internal/dns/cache"
	"fairway.dev/fairway/internal/dns/forward"
	"fairway.dev/fairway/internal/dns/wire"
)

// questionTimeout is how long one question may take over all. A client's own patience is 5 s by default (resolv.conf(5)).
const questionTimeout = 4800 * time.Millisecond

// forwarder runs what takes longer than the loops of the sockets may wait: questions to other servers, a bounded number at a time, and
// each question once however many clients wait for it.
type forwarder struct {
	metrics *metrics
	limit   atomic.Int64
	running atomic.Int64
	tasks   sync.WaitGroup
	// base is what questions to other servers live by: they outlive the client who asked first.
	base context.Context

	mu      sync.Mutex
	flights map[string]*flight
}

// flight is a question under way to other servers. entry and err are set before done is closed.
type flight struct {
	done  chan struct{}
	entry *cache.Entry
	err   error
}

// start runs a task beside the caller, unless too many run already.
func (f *forwarder) start(ctx context.Context, task func(context.Context)) bool {
	if f.running.Add(1) > f.limit.Load() {
		f.running.Add(-1)
		return false
	}
	f.tasks.Go(func() {
		defer f.running.Add(-1)
		ctx, cancel := context.WithTimeout(ctx, questionTimeout)
		defer cancel()
		task(ctx)
	})
	return true
}

func (f *forwarder) wait() { f.tasks.Wait() }

// fetch asks other servers, or joins whoever asks them the same already. plan and group say where the answer is kept and who is asked.
func (f *forwarder) fetch(p *plan, g *forward.Group, q *wire.Query, key []byte) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.flights[string(key)]; fl != nil {
		return fl
	}
	fl := &flight{done: make(chan struct{})}
	f.flights[string(key)] = fl
	query, name, key := q.AppendRelay(nil, 0), append([]byte(nil), q.Lower()...), append([]byte(nil), key...)
	f.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(f.base, questionTimeout)
		defer cancel()
		fl.entry, fl.err = f.ask(ctx, p, g, query, name, key)
		f.mu.Lock()
		delete(f.flights, string(key))
		f.mu.Unlock()
		close(fl.done)
	})
	return fl
}

func (f *forwarder) ask(ctx context.Context, p *plan, g *forward.Group, query, name, key []byte) (*cache.Entry, error) {
	f.metrics.asked.Add(1)
	reply, err := g.Ask(ctx, query)
	if err == nil {
		var m *wire.Message
		if m, err = wire.ParseMessage(reply); err == nil {
			return p.keep(key, name, m, time.Now()), nil
		}
	}
	f.metrics.failed.Add(1)
	return nil, err
}

// noCache makes entries that nobody keeps.
var noCache = cache.New(cache.Config{MaxTTL: maxTTL})

const maxTTL = (1<<31 - 1) * time.Second

func (p *plan) keep(key, name []byte, m *wire.Message, now time.Time) *cache.Entry {
	if p.cache == nil {
		return noCache.Put(key, name, m, now)
	}
	return p.cache.Put(key, name, m, now)
}
