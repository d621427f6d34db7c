package workload

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"
)

// before is how the process was, with the API serving, when Run was called; and startup is how long Run then took until its informers had listed
// everything.
var (
	before  footprint
	startup time.Duration
)

type footprint struct {
	rss, heap  float64 // MB
	goroutines int
}

// BenchmarkCost prints what Run costs in a process that already serves the API: memory, of which a part is the API's for serving what Run watches, and
// the time until everything is listed.
func BenchmarkCost(b *testing.B) {
	for b.Loop() {
		now := measure()
		b.ReportMetric(now.rss-before.rss, "MB/rss")
		b.ReportMetric(now.heap-before.heap, "MB/heap")
		b.ReportMetric(float64(now.goroutines-before.goroutines), "goroutines")
		b.ReportMetric(float64(startup.Microseconds())/1000, "ms/start")
	}
}

func measure() footprint {
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		panic(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return footprint{float64(pages) * float64(os.Getpagesize()) / 1e6, float64(m.HeapAlloc) / 1e6, runtime.NumGoroutine()}
}

// onStart is a logger that calls back at the one line that Run logs.
type onStart func()

func (onStart) Enabled(context.Context, slog.Level) bool    { return true }
func (f onStart) Handle(context.Context, slog.Record) error { f(); return nil }
func (f onStart) WithAttrs([]slog.Attr) slog.Handler        { return f }
func (f onStart) WithGroup(string) slog.Handler             { return f }
