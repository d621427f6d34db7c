// Command story runs the story of the imaging example against a fairway binary, prints what happened, and ends with status 0 only if no
// request failed (but for those that died with the process that the story kills) and nothing was left behind. It needs root.
//
//	go run ./examples/imaging/cmd/story --fairway bin/fairway
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"fairway.dev/fairway/examples/imaging/story"
)

func main() {
	var (
		o    = story.Options{Out: os.Stdout}
		json = flag.String("json", "", "also write the report, with every failed request, to `FILE`")
	)
	flag.StringVar(&o.Fairway, "fairway", "bin/fairway", "the fairway `binary`")
	flag.StringVar(&o.Source, "source", ".", "`directory` of this module, to build the programs of the example from")
	flag.StringVar(&o.Binaries, "binaries", "", "`directory` that holds imaging-v1, imaging-v2 and gallery already")
	flag.StringVar(&o.Name, "name", "demo", "name of the instance")
	flag.Float64Var(&o.Rate, "rate", 0, "requests per second of each client (default 20)")
	flag.DurationVar(&o.Phase, "phase", 0, "shortest length of each phase (default 4s)")
	flag.StringVar(&o.Screenshot, "screenshot", "", "look at the gallery's page in Chromium and leave a picture in `FILE`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if !run(ctx, o, *json) {
		stop()
		os.Exit(1)
	}
}

// run tells whether the story was a good one.
func run(ctx context.Context, o story.Options, file string) bool {
	report, err := story.Run(ctx, o)
	if printErr := report.Print(os.Stdout); printErr != nil {
		fmt.Fprintln(os.Stderr, "story: print:", printErr)
	}
	if file != "" {
		if writeErr := report.WriteJSON(file); writeErr != nil {
			fmt.Fprintln(os.Stderr, "story: write the report:", writeErr)
			return false
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nstory: it did not reach its end:", err)
		return false
	}
	if err := report.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "\nstory: it went wrong:")
		fmt.Fprintln(os.Stderr, err)
		return false
	}
	fmt.Println("\nstory: " + report.Summary())
	return true
}
