// Package upstreamlog sends what the Kubernetes libraries in this process have to say to Fairway's own log, so that both look the same
// and neither hides the other.
//
// Contract. Those libraries log through klog, of which a process has one, so Route counts once per process: the first caller decides.
// Errors arrive as news, since upstream logs as errors what it is about to try again, and what fails for good comes back as an error or in
// an object's status; all the rest (start-up warnings for operators of upstream's own programs among it) arrives as debug. To
// debug, run with -v 4 and look for component=kubernetes. To test, log through klog and read what the logger got.
package upstreamlog

import (
	"context"
	"log/slog"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

var once sync.Once

// Route sends to log what the Kubernetes libraries log from now on, unless another log gets it already. It is safe for concurrent use.
func Route(log *slog.Logger) {
	once.Do(func() {
		klog.SetLogger(logr.FromSlogHandler(quiet{log.With("component", "kubernetes").Handler()}))
	})
}

// quiet lowers errors to the level of news, and every other record to debug.
type quiet struct{ slog.Handler }

func lower(level slog.Level) slog.Level {
	if level >= slog.LevelError {
		return slog.LevelInfo
	}
	return min(level, slog.LevelDebug)
}

// Enabled implements slog.Handler.
func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, lower(level))
}

// Handle implements slog.Handler.
func (q quiet) Handle(ctx context.Context, record slog.Record) error {
	record.Level = lower(record.Level)
	if !q.Handler.Enabled(ctx, record.Level) { // klog does not ask before it logs an error
		return nil
	}
	return q.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
