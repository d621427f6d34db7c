package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fairway.dev/fairway/internal/dns/config"
)

// openHTTP opens the listeners of /metrics, /health and /ready. Two of them may be the same.
func (s *Server) openHTTP(f *config.File) error {
	muxes := map[string]*http.ServeMux{}
	add := func(field, address, path string, h http.Handler) error {
		if address == "" {
			return nil
		}
		mux := muxes[address]
		if mux == nil {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return fmt.Errorf("dns: %s: %w", field, err)
			}
			mux = http.NewServeMux()
			muxes[address] = mux
			s.http = append(s.http, httpListener{l, &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}})
		}
		mux.Handle("GET "+path, h)
		return nil
	}
	r := prometheus.NewRegistry()
	if err := r.Register(s); err != nil {
		return fmt.Errorf("dns: metrics: %w", err)
	}
	return errors.Join(
		add("metrics.listen", f.Metrics.Listen, "/metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{})),
		add("health.listen", f.Health.Listen, "/health", says(func() bool { return !s.lame.Load() })),
		add("ready.listen", f.Ready.Listen, "/ready", says(s.zone.Synced)),
	)
}

type httpListener struct {
	net.Listener
	server *http.Server
}

// says answers OK, or 503 while something is not so.
func says(ok func() bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !ok() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "OK")
	})
}

func (l httpListener) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { l.server.Close() })
	defer stop()
	if err := l.server.Serve(l.Listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("dns: serve HTTP on %s: %w", l.Addr(), err)
	}
	return nil
}
