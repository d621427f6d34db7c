package dns

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"fairway.dev/fairway/internal/dns/config"
	"fairway.dev/fairway/internal/dns/wire"
)

// queryLog writes some of the questions and their answers down, beside those who answer: where it cannot follow, lines are dropped and counted.
type queryLog struct {
	cfg     config.QueryLog
	log     *slog.Logger // where trouble goes
	seen    atomic.Uint64
	dropped *atomic.Uint64
	lines   chan line
}

// line is one question and its answer.
type line struct {
	at             time.Time
	client         netip.Addr
	name           string
	qtype          wire.Type
	rcode          wire.Rcode
	tcp, truncated bool
	zone           string
	answers, size  int
}

func newQueryLog(cfg config.QueryLog, log *slog.Logger, dropped *atomic.Uint64) *queryLog {
	return &queryLog{cfg: cfg, log: log, dropped: dropped, lines: make(chan line, 1024)}
}

// wants tells whether a response of that code and number of answers is to be written.
func (l *queryLog) wants(code wire.Rcode, answers int) bool {
	kind := "error"
	switch {
	case code == wire.NoError && answers > 0:
		kind = "success"
	case code == wire.NoError || code == wire.NameError:
		kind = "denial"
	}
	if !slices.Contains(l.cfg.Only, "all") && !slices.Contains(l.cfg.Only, kind) {
		return false
	}
	return (l.seen.Add(1)-1)%uint64(l.cfg.Sample) == 0
}

func (l *queryLog) put(ln line) {
	select {
	case l.lines <- ln:
	default:
		l.dropped.Add(1)
	}
}

// Run writes until ctx ends, and then what is left.
func (l *queryLog) Run(ctx context.Context) {
	var out io.Writer = os.Stderr
	if l.cfg.File != "stderr" {
		f, err := os.OpenFile(l.cfg.File, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			l.log.Error("dns: queries are not written down", "err", err)
			out = io.Discard
		} else {
			defer f.Close()
			out = f
		}
	}
	h := slog.NewJSONHandler(out, nil)
	for {
		select {
		case ln := <-l.lines:
			l.write(h, ln)
		case <-ctx.Done():
			for {
				select {
				case ln := <-l.lines:
					l.write(h, ln)
				default:
					return
				}
			}
		}
	}
}

func (l *queryLog) write(h slog.Handler, ln line) {
	proto := "udp"
	if ln.tcp {
		proto = "tcp"
	}
	r := slog.NewRecord(ln.at, slog.LevelInfo, "query", 0)
	r.AddAttrs(slog.String("client", ln.client.String()), slog.String("proto", proto), slog.String("name", ln.name), slog.String("type", ln.qtype.String()),
		slog.String("rcode", ln.rcode.String()), slog.Int("answers", ln.answers), slog.Int("size", ln.size), slog.Bool("truncated", ln.truncated), slog.String("zone", ln.zone))
	if err := h.Handle(context.Background(), r); err != nil {
		l.dropped.Add(1)
	}
}
