// Command imaging is a stateless image-processing backend: POST a JPEG or PNG, get it back resized, rotated or gray.
//
//	curl --data-binary @cat.png 'http://imaging/?op=thumbnail&w=160' > thumb.png
//
// It is an ordinary HTTP server that knows nothing about what is in front of it. Replicas are fungible: the answer depends
// on the request alone, so that any of them may serve any request, again if need be.
//
// # Requests
//
//	POST /     or  POST /api     (the second is how the Ingress passes it on)
//	    op       thumbnail (fit into w×h, never enlarged), resize (exactly w×h; one of them 0 or absent keeps the
//	             proportions), rotate (by angle degrees clockwise), gray
//	    w, h     pixels; thumbnail's default is 160×160
//	    angle    degrees, any number; multiples of 90 move pixels and change none
//	    format   jpeg or png; default: as it came
//	    quality  1..100 of a JPEG; default 85
//	GET /healthz   200 while the process is alive
//	GET /readyz    200 while requests are welcome, 503 once it was told to stop
//
// Every answer has X-Served-By, the name of the Pod (POD_NAME, else the host name), and X-Version. A refused request gets a
// 4xx and one line of text that says what is wrong. Samples are handled with 8 bits each; EXIF orientation is not applied.
//
// SIGTERM drains (see package graceful) and ends with exit code 0.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"fairway.dev/fairway/examples/imaging/graceful"
)

// version is set by the linker: -ldflags "-X main.version=v2".
var version = "v1"

func main() {
	var (
		listen = flag.String("listen", ":8080", "`address` to serve on")
		linger = flag.Duration("linger", 2*time.Second, "shortest time to go on serving after SIGTERM")
		limit  = flag.Duration("limit", 5*time.Second, "longest time to wait for idle connections after SIGTERM")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, *listen, *linger, *limit); err != nil {
		fmt.Fprintln(os.Stderr, "imaging:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen string, linger, limit time.Duration) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &graceful.Server{Linger: linger, Limit: limit}
	server.Handler = (&service{
		name:     podName(),
		version:  versionName(),
		slots:    make(chan struct{}, 2*runtime.GOMAXPROCS(0)),
		draining: server.Draining,
	}).handler()
	slog.Info("serving", "address", l.Addr().String(), "pod", podName(), "version", versionName())
	return server.Serve(ctx, l)
}

// podName is how this replica signs its answers.
func podName() string {
	if name := os.Getenv("POD_NAME"); name != "" {
		return name
	}
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

func versionName() string {
	if v := os.Getenv("VERSION"); v != "" {
		return v
	}
	return version
}
