package dns

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/dns/zone"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// How often the API is asked whether a Service exists that no watch has brought. A client's typing error must not become a load on the API:
// all questions together, those about one name, and those about one namespace that does not exist, as the search path of every Pod makes them
// ("example.com.svc.cluster.local"), each have their rate a second and the number that may come at once.
const (
	askRate, askBurst           = 50, 200
	askNameRate, askNameBurst   = 10, 10
	askSpaceRate, askSpaceBurst = 0.1, 10
	// maxAskNames is how many names and namespaces are kept apart.
	maxAskNames = 1024
	// askTimeout is how long the API may take. After a failure it is left alone for askPause, and then twice as long each time up to maxAskPause.
	askTimeout            = 500 * time.Millisecond
	askPause, maxAskPause = time.Second, 30 * time.Second
	// settleLimit is how long a question waits for what is known to come.
	settleLimit = holdLimit + 500*time.Millisecond
)

// asker asks the API whether Services exist.
type asker struct {
	exists func(context.Context, model.Name) (bool, error)
	log    *slog.Logger

	mu    sync.Mutex // guards what follows
	all   allowance
	names map[string]*allowance
	pause time.Duration
	until time.Time // the end of the pause
}

// allowance is a token bucket.
type allowance struct {
	left float64
	at   time.Time
}

func (a *allowance) refill(now time.Time, rate, burst float64) {
	if a.at.IsZero() {
		a.left = burst
	}
	a.left = min(burst, a.left+rate*now.Sub(a.at).Seconds())
	a.at = now
}

// may tells whether the API may be asked now about the Service with that key, and counts it as asked.
func (a *asker) may(now time.Time, key []byte, namespaceExists bool) bool {
	rate, burst := float64(askNameRate), float64(askNameBurst)
	if !namespaceExists {
		key, rate, burst = key[1+key[0]:], askSpaceRate, askSpaceBurst
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Before(a.until) {
		return false
	}
	one := a.names[string(key)]
	if one == nil {
		if len(a.names) >= maxAskNames {
			clear(a.names)
		}
		one = &allowance{}
		a.names[string(key)] = one
	}
	a.all.refill(now, askRate, askBurst)
	one.refill(now, rate, burst)
	if a.all.left < 1 || one.left < 1 {
		return false
	}
	a.all.left--
	one.left--
	return true
}

// ask asks, and leaves the API alone for a while if that fails.
func (a *asker) ask(ctx context.Context, key []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	name := key[1 : 1+key[0]]
	exists, err := a.exists(ctx, model.Name{Namespace: string(key[2+len(name):]), Name: string(name)})
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.pause = 0
		return exists, nil
	}
	if a.pause == 0 {
		a.log.Warn("dns: cannot ask the API whether a Service exists; until that works, a name that is not known is denied without being certain, and so that nobody remembers it", "err", err)
	}
	if now := time.Now(); now.After(a.until) {
		a.pause = min(max(2*a.pause, askPause), maxAskPause)
		a.until = now.Add(a.pause)
	}
	return false, err
}

// mayAsk decides about a name that the zone does not know: true says that it is worth the time to ask the API (settle).
func (s *Server) mayAsk(key []byte) bool {
	return s.asker != nil && s.asker.may(time.Now(), key, s.zone.HasNamespace(key[1+key[0]:]))
}

// settle answers a question about what is not known, or not yet to be answered: it finds out whether there is such a Service, and if so
// waits until its name may be told. The outcome is never Unknown or Pending.
func (s *Server) settle(ctx context.Context, w *scratch, p *plan, limit int) (zone.Outcome, []byte) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for asked := false; ; {
		change := *s.change.Load()
		w.start(s, p, nil, limit)
		out, target := s.zone.Answer(&w.q, &w.r)
		switch {
		case out == zone.Pending:
		case out != zone.Unknown:
			return out, target
		case s.asker == nil:
			return zone.Answered, nil
		case !asked:
			exists, err := s.asker.ask(ctx, target)
			if err != nil {
				w.start(s, p, nil, limit)
				s.zone.Doubt(&w.q, &w.r)
			}
			if !exists {
				return zone.Answered, nil
			}
			asked = true
			continue
		}
		select {
		case <-change:
		case <-ctx.Done():
			w.start(s, p, nil, limit)
			w.r.Rcode = wire.ServerFailure // there is such a name; it would be a lie to deny it
			return zone.Answered, nil
		}
	}
}

// changed wakes whoever waits for the zone to change.
func (s *Server) changed() {
	next := make(chan struct{})
	close(*s.change.Swap(&next))
}

// AwaitGone waits until nothing is answered any more that is not there at that revision: a name, an address of it, an endpoint. It returns
// the context's error if that ends first, as it does while Run is not called.
func (s *Server) AwaitGone(ctx context.Context, rev store.Revision) error {
	for {
		change := *s.change.Load()
		if s.gone.Load() >= uint64(rev) {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
