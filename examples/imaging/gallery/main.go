// Command gallery is the frontend of the imaging example: a page of photographs, each shown as thumbnail, turned and gray, that it gets
// from the Service imaging. All it knows of that Service is a URL, http://imaging/ unless IMAGING_URL or -imaging says otherwise.
// It has no library for discovery or balancing; it resolves a name, connects and asks.
//
//	GET /         the page; each picture says which Pod made it
//	GET /stats    JSON: what the gallery asked by itself since it started, see Stats
//	GET /healthz  200 while the process is alive
//
// Beside serving the page it keeps asking by itself, -rate times a second over at most -concurrency requests at a time, and
// counts. A rate of 0 switches that off.
//
// "gallery probe" is a second program in the same binary, for a one-shot Pod; see probe.go.
//
// SIGTERM drains (see package graceful) and ends with exit code 0.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"fairway.dev/fairway/examples/imaging/graceful"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "probe" {
		if !probe(ctx, os.Stdout, os.Args[2:]) {
			os.Exit(1)
		}
		return
	}
	o := options{}
	flag.StringVar(&o.listen, "listen", ":8080", "`address` to serve on")
	flag.StringVar(&o.imaging, "imaging", preset("IMAGING_URL", "http://imaging/"), "`URL` of the Service imaging")
	flag.Float64Var(&o.rate, "rate", 20, "requests per second that the gallery makes by itself; 0: none")
	flag.IntVar(&o.concurrency, "concurrency", 2, "most requests at a time that the gallery makes by itself")
	flag.DurationVar(&o.linger, "linger", 2*time.Second, "shortest time to go on serving after SIGTERM")
	flag.DurationVar(&o.limit, "limit", 5*time.Second, "longest time to wait for idle connections after SIGTERM")
	flag.Parse()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "gallery:", err)
		os.Exit(1)
	}
}

type options struct {
	listen, imaging string
	rate            float64
	concurrency     int
	linger, limit   time.Duration
}

func run(ctx context.Context, o options) error {
	client, err := newBackend(o.imaging)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	name := preset("POD_NAME", "gallery")
	asker := newAsker(client, o.rate, o.concurrency)
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", &page{backend: client, pod: name})
	mux.HandleFunc("GET /stats", asker.serveStats)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	server := &graceful.Server{Handler: mux, Linger: o.linger, Limit: o.limit}
	slog.Info("serving", "address", l.Addr().String(), "pod", name, "imaging", o.imaging, "rate", o.rate)

	// The asking ends with the order to stop, not with the last connection: a Pod that leaves needs no statistics.
	var asking sync.WaitGroup
	asking.Go(func() {
		asker.run(ctx)
		client.http.CloseIdleConnections() // so that no Pod of imaging that ends at the same time waits for us
	})
	defer asking.Wait()
	return server.Serve(ctx, l)
}

// preset is an environment variable, or what to do without it.
func preset(variable, otherwise string) string {
	if v := os.Getenv(variable); v != "" {
		return v
	}
	return otherwise
}
