// Command dataplane measures the data plane beside its peer: `fairway agent` and kube-proxy in nftables mode, one after the other, each in a
// network namespace of its own, on one machine in one run, against one API server with the same Services in it. The API server is upstream's:
// both are plain clients of it, and it does nothing else meanwhile, where `fairway up` would run a data plane of its own beside.
//
// All is observed from outside, alike for both, and nothing is known of how either writes its rules:
//
//   - "In the kernel" is the kernel's own word, its notification of a committed generation of rules. Which change a commit brings is told by the
//     new endpoint's address, which occurs nowhere else. During a cold start nobody listens, since the kernel would have to tell of each element:
//     the generation's number is asked for, which takes no lock.
//   - "The lists have arrived" is when the wire from the API has carried the last 64 KiB of what it carries up to the end of the cold start.
//   - Connections are opened from within the namespace, to Services whose endpoints are a server in it.
//
// Each figure is one line at the end: RESULT <figure> ours=<number> peer=<number> unit=<unit>.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"fairway.dev/fairway/bench/figures"
	"fairway.dev/fairway/bench/lab"
)

// The main thread stays in the namespace of the API, whose devices /proc/self/net/dev counts.
func init() { runtime.LockOSThread() }

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	b := &bench{}
	world := flag.String("world", "10000x10", "how many Services, and endpoints of each")
	flag.StringVar(&b.fairway, "fairway", "bin/fairway", "the binary to measure")
	flag.StringVar(&b.kubeProxy, "kube-proxy", "bin/kube-proxy", "the peer; empty: none")
	flag.StringVar(&b.apiServer, "kube-apiserver", "bin/kube-apiserver", "upstream's API server")
	flag.StringVar(&b.etcd, "etcd", "bin/etcd", "its etcd")
	flag.IntVar(&b.changes, "changes", 200, "how many changes to measure one at a time, for a minute at most")
	flag.IntVar(&b.quiet, "quiet-changes", 10, "how many changes to measure that come after a while without any")
	flag.IntVar(&b.rate, "rate", 100, "how many changes per second")
	flag.DurationVar(&b.during, "during", 10*time.Second, "for how long they come at that rate")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.world.parse(*world); err != nil {
		log.Fatalf("--world %s: %v", *world, err)
	}
	if err := lab.Run(ctx, b.run); err != nil {
		log.Fatal(err)
	}
}

type bench struct {
	fairway, kubeProxy, apiServer, etcd string
	world                               world
	changes, quiet, rate                int
	during                              time.Duration
}

// figure is one thing that is measured of both.
type figure struct{ name, unit string }

// measured holds one subject's figures.
type measured map[figure]float64

func (b *bench) run(ctx context.Context) error {
	for _, p := range []*string{&b.fairway, &b.kubeProxy, &b.apiServer, &b.etcd} {
		if *p == "" {
			continue
		}
		var err error
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
		if _, err := os.Stat(*p); err != nil {
			return fmt.Errorf("a program is missing: %w", err)
		}
	}
	api, err := b.startAPI(ctx)
	if err != nil {
		return err
	}
	defer api.stop()
	ours, order, err := b.measure(ctx, api, fairwayAgent(b.fairway))
	if err != nil {
		return err
	}
	peer := measured{}
	if b.kubeProxy != "" {
		if peer, _, err = b.measure(ctx, api, kubeProxy(b.kubeProxy)); err != nil {
			return err
		}
	}
	for _, f := range order {
		r := figures.Result{Figure: f.name, Ours: ours[f], Peer: figures.None, Unit: f.unit}
		if v, ok := peer[f]; ok {
			r.Peer = v
		}
		fmt.Println(r)
	}
	return nil
}

// measure takes one subject through all.
func (b *bench) measure(ctx context.Context, api *api, p program) (m measured, order []figure, err error) {
	m = measured{}
	note := func(name string, v float64, unit string) {
		f := figure{name, unit}
		m[f] = v
		order = append(order, f)
	}
	r, err := newRoom()
	if err != nil {
		return nil, nil, err
	}
	defer r.close()
	s := &subject{bench: b, api: api, room: r, program: p, note: note}
	defer s.stop()
	for _, step := range []func(context.Context) error{s.cold, s.oneAtATime, s.afterQuiet, s.atRate, s.connect} {
		if err := step(ctx); err != nil {
			return nil, nil, fmt.Errorf("%s: %w\n%s", p.name, err, s.said())
		}
	}
	return m, order, nil
}

// say tells what was found about one subject, before the results.
func (s *subject) say(format string, args ...any) {
	fmt.Printf("%-11s %s\n", s.name+":", fmt.Sprintf(format, args...))
}
