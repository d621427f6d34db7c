package healthport

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
)

// Consumer is the name under which a Server follows the store and reports its status.
const Consumer = "health-ports"

// How long to wait.
const (
	// retry is the time between two attempts to open a port that is taken.
	retry = time.Second
	// kernelLimit bounds the wait for the kernel's rules. Past it the answers tell what the API says: that the rules do not follow is told
	// by Healthy, and must not keep a backend that has gone in the count.
	kernelLimit = time.Second
)

// Config says for which node a Server answers.
type Config struct {
	// Node and NodePortCIDRs are those of the data plane: they say where to listen and what is local.
	Node          string
	NodePortCIDRs []netip.Prefix
	// After is the consumer that must have a backend in force before it is counted; "" waits for nobody.
	After string
	// Healthy tells whether the rules follow the API; it is called for each request. nil is always healthy.
	Healthy func() bool
	// Logger gets ports that are taken; nil discards.
	Logger *slog.Logger
}

// Server keeps the ports. Use New.
type Server struct {
	store *store.Store
	cfg   Config
	log   *slog.Logger
	view  plan.View
	ports map[model.Name]*port
}

// New gives a Server that has not started.
func New(st *store.Store, cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Healthy == nil {
		cfg.Healthy = func() bool { return true }
	}
	return &Server{store: st, cfg: cfg, log: cfg.Logger.With("consumer", Consumer), ports: map[model.Name]*port{}}
}

// Run follows the store until ctx ends, and then returns its error. It must be called on a thread inside the network namespace to serve. It
// may be called once.
func (s *Server) Run(ctx context.Context) error {
	cur := s.store.Follow(Consumer)
	defer cur.Close()
	defer func() {
		for _, p := range s.ports {
			p.close()
		}
	}()
	var snap *store.Snapshot
	todo, all := map[model.Name]struct{}{}, false
	for {
		next, delta, err := s.next(ctx, cur)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			snap = next
			all = all || delta.All || delta.Synced
			for n := range delta.Services {
				todo[n] = struct{}{}
			}
			if v := plan.Look(snap, s.cfg.Node, s.cfg.NodePortCIDRs...); !v.Equal(s.view) {
				s.view, all = v, true
			}
		}
		if snap == nil || !snap.Synced {
			continue
		}
		if all {
			for n := range s.ports {
				todo[n] = struct{}{}
			}
			for svc := range snap.Services.All() {
				todo[svc.Name] = struct{}{}
			}
			all = false
		}
		for n, p := range s.ports {
			if p.err != nil {
				todo[n] = struct{}{}
			}
		}
		s.bring(ctx, snap, todo)
		clear(todo)
		cur.Report(snap.Revision, nil, s.failures())
	}
}

// next waits for news; with a port that could not be opened, only until it is time to try again.
func (s *Server) next(ctx context.Context, cur *store.Cursor) (*store.Snapshot, store.Delta, error) {
	if s.failures() != nil {
		tick, cancel := context.WithTimeout(ctx, retry)
		defer cancel()
		ctx = tick
	}
	return cur.Next(ctx)
}

// bring makes the ports of some Services what the snapshot says: first whatever goes, so that a port may pass from one Service to
// another, then what comes.
func (s *Server) bring(ctx context.Context, snap *store.Snapshot, names map[model.Name]struct{}) {
	wanted := map[model.Name]plan.Health{}
	for n := range names {
		p := s.ports[n]
		svc := snap.Services.Get(n)
		if p == nil && (svc == nil || svc.HealthCheckNodePort == 0) {
			continue
		}
		h := s.view.Service(snap, n).Health
		if p != nil && (h.Port != p.number || !slices.Equal(h.Addrs, p.addrs)) {
			p.close()
			delete(s.ports, n)
			p = nil
		}
		if p != nil {
			p.keepOnly(h.Ready)
		}
		if h.Port != 0 {
			wanted[n] = h
		}
	}
	if len(wanted) == 0 {
		return
	}
	if s.cfg.After != "" {
		limited, cancel := context.WithTimeout(ctx, kernelLimit)
		_ = s.store.Applied(limited, snap.Revision, s.cfg.After)
		cancel()
	}
	for n, h := range wanted {
		p := s.ports[n]
		if p == nil {
			p = &port{service: n, number: h.Port, addrs: h.Addrs, healthy: s.cfg.Healthy}
			s.ports[n] = p
		}
		p.ready.Store(&h.Ready)
		was := p.err
		if p.err = p.open(ctx); p.err != nil && (was == nil || was.Error() != p.err.Error()) {
			s.log.Warn("health check node port is not open", "service", n, "error", p.err)
		}
	}
}

func (s *Server) failures() map[string]error {
	var out map[string]error
	for n, p := range s.ports {
		if p.err != nil {
			if out == nil {
				out = map[string]error{}
			}
			out["service "+n.String()] = fmt.Errorf("health check node port: %w", p.err)
		}
	}
	return out
}
