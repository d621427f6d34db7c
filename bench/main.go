// Command bench prints the numbers of the design's budgets: it runs the real binary in a network namespace of its own and measures
// from outside, as a user would. Each figure is one line at the end:
//
//	RESULT <figure> ours=<number> peer=<number> unit=<unit>
//
// A peer that is not at hand is written as "-". The data plane has a program of its own beside this one, bench/dataplane. Figures of single parts are Go
// benchmarks in their rooms.
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
	"syscall"

	"fairway.dev/fairway/bench/figures"
	"fairway.dev/fairway/bench/lab"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	b := &bench{}
	flag.StringVar(&b.fairway, "fairway", "bin/fairway", "the binary to measure")
	flag.IntVar(&b.starts, "starts", 3, "how many starts to measure")
	flag.IntVar(&b.stored, "stored", 10_000, "how many Services are in the directory of a start that is not from nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := lab.Run(ctx, b.run); err != nil {
		log.Fatal(err)
	}
}

type bench struct {
	fairway        string
	starts, stored int
	results        []figures.Result
}

func (b *bench) result(figure string, ours float64, unit string) {
	b.results = append(b.results, figures.Result{Figure: figure, Ours: ours, Peer: figures.None, Unit: unit})
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.fairway, err = filepath.Abs(b.fairway); err != nil {
		return err
	}
	if err := exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").Run(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	for _, measure := range []func(context.Context) error{b.size, b.start, b.startFull, b.firstAnswer} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	for _, r := range b.results {
		fmt.Println(r)
	}
	return nil
}

// size is the binary's, as `make build` makes it.
func (b *bench) size(context.Context) error {
	info, err := os.Stat(b.fairway)
	if err != nil {
		return err
	}
	b.result("binary-size", float64(info.Size())/1e6, "MB")
	return nil
}
