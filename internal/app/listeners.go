package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serve answers on l until ctx ends. Who asks slowly is not waited for.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 32 << 10,
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("listener %s: %w", l.Addr(), err)
	}
	return ctx.Err()
}

// listenAndServe gives the part that answers on an address. One that is taken is waited for, as kube-proxy does: where the agent is started beside
// kube-proxy, it takes over the ports when that ends.
func listenAndServe(flag string, addr netip.AddrPort, h http.Handler, log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		for told := false; ; {
			l, err := net.Listen("tcp", addr.String())
			if err == nil {
				return serve(ctx, l, h)
			}
			if !errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf("%s: %w", flag, err)
			}
			if !told {
				log.Warn("the address is taken: waiting until it is free, everything else goes on", "flag", flag, "address", addr)
				told = true
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
		}
	}
}

// metrics gives the handler of the metrics listener: /metrics, and /proxyMode as kube-proxy has it.
func (d *dataline) metrics(r *reporter, local bool) http.Handler {
	cs := d.meter.Collectors()
	if d.server != nil {
		cs = append(cs, d.server)
	}
	mux := metricsMux(cs...)
	mux.HandleFunc("GET /proxyMode", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "nftables") })
	if local {
		mux.HandleFunc("GET /status", r.serveStatus)
		mux.HandleFunc("GET "+explainPath, r.explain)
	}
	return mux
}

// metricsMux serves /metrics with these collectors, and those of the process.
func metricsMux(cs ...prometheus.Collector) *http.ServeMux {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(cs...)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 20 * time.Second}))
	return mux
}
