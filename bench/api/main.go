// Command api measures our API server and upstream's kube-apiserver with etcd side by side: the same requests, one server at a time, in
// a network namespace of its own. Ours is the API part alone, in a process that does nothing else (serve.go). Each figure is one line
// at the end (see bench/figures).
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"fairway.dev/fairway/bench/figures"
	"fairway.dev/fairway/bench/lab"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench/api: ")
	b := &bench{}
	flag.StringVar(&b.fairway, "fairway", "bin/fairway", "the binary whose kubectl asks both")
	flag.StringVar(&b.apiServer, "kube-apiserver", "bin/kube-apiserver", "the peer")
	flag.StringVar(&b.etcd, "etcd", "bin/etcd", "the peer's database")
	flag.IntVar(&b.starts, "starts", 3, "how many starts to measure")
	flag.IntVar(&b.present, "present", 10_000, "how many Services are there when creates and reads are measured")
	flag.IntVar(&b.creates, "creates", 4000, "how many creates to measure")
	flag.IntVar(&b.clients, "clients", 16, "how many clients send at once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case os.Getenv(serveIn) != "":
		err = serve(ctx, os.Getenv(serveIn))
	default:
		err = lab.Run(ctx, b.run)
	}
	if err != nil {
		log.Fatal(err)
	}
}

type bench struct {
	fairway, apiServer, etcd          string
	starts, present, creates, clients int
}

// measured are the figures of one server, by name.
type measured map[string]float64

// order is in which order figures are told, with their units.
var order = []struct{ figure, unit string }{
	{"api-first-kubectl-get", "s"},
	{"api-idle-memory", "MiB"},
	{"api-creates-0-present", "1/s"},
	{"api-creates-full", "1/s"},
	{"api-create-cpu-full", "ms"},
	{"api-gets-full", "1/s"},
	{"api-get-cpu-full", "ms"},
	{"api-list-full", "ms"},
	{"api-watch-p50", "ms"},
	{"api-watch-p99", "ms"},
	{"api-memory-full", "MiB"},
}

func (b *bench) run(ctx context.Context) (err error) {
	for _, path := range []*string{&b.fairway, &b.apiServer, &b.etcd} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if err := exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").Run(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	debug.SetGCPercent(400) // of this process, the client
	var results []measured
	for _, s := range []subject{&ours{}, &upstream{bench: b}} {
		m, err := b.measure(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
		results = append(results, m)
	}
	for _, o := range order {
		fmt.Println(figures.Result{Figure: o.figure, Ours: results[0][o.figure], Peer: results[1][o.figure], Unit: o.unit})
	}
	return nil
}

// measure measures all of one server.
func (b *bench) measure(ctx context.Context, s subject) (measured, error) {
	m := make(measured)
	var firsts, idle []float64
	for i := range b.starts {
		last := i == b.starts-1
		if err := b.start(ctx, s, &firsts, &idle); err != nil {
			return nil, err
		}
		if last {
			break
		}
		s.stop()
	}
	defer s.stop()
	m["api-first-kubectl-get"], m["api-idle-memory"] = figures.Median(firsts), figures.Median(idle)
	fmt.Printf("%s: first kubectl get %.3f s, idle memory %.0f MiB\n", s.name(), firsts, idle)
	return m, b.load(ctx, s, m)
}
