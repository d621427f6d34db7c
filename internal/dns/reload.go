package dns

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// recheck is how often the files of the configuration are looked at.
const recheck = time.Second

// keepConfig answers by the newest good configuration until ctx ends: it looks at every file that the one in force was made from, and makes a
// new one when one of them has changed. A question is answered by the configuration that was in force when it came.
func (s *Server) keepConfig(ctx context.Context) {
	p := s.plan.Load()
	running := groups{s: s, ctx: ctx, stop: map[runner]context.CancelFunc{}}
	running.become(p)
	defer running.wg.Wait()
	seen, files := p.read, watch{}
	t := time.NewTicker(recheck)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !files.changed(seen, time.Now()) {
			continue
		}
		next, err := s.builder.build(p)
		seen = next.read
		if err != nil {
			s.metrics.reloadFailed.Add(1)
			s.log.Error("dns: the configuration was changed and cannot be used; the one before stays in force", "err", err)
			continue
		}
		s.restartNeeded(p, next)
		s.plan.Store(next)
		s.forward.limit.Store(int64(next.file.MaxConcurrent))
		running.become(next)
		s.metrics.reloaded.Add(1)
		if s.cfg.File != "" {
			s.log.Info("dns: the configuration is in force", "file", s.cfg.File)
		}
		p = next
	}
}

// watch remembers how files looked, so that large ones are read only when there is reason to.
type watch map[string]stamp

type stamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

// settled is how old a change must be for the file's times to tell it from the next one.
const settled = 2 * time.Second

// changed tells whether a file says something else than it did.
func (w watch) changed(read map[string]digest, now time.Time) bool {
	for path, before := range read {
		var st stamp
		if i, err := os.Stat(path); err == nil {
			st = stamp{modified: i.ModTime(), size: i.Size()}
			if sys, ok := i.Sys().(*syscall.Stat_t); ok {
				st.inode = sys.Ino
			}
		}
		if last, known := w[path]; known && last == st && now.Sub(st.modified) > settled {
			continue
		}
		w[path] = st
		text, _ := os.ReadFile(path)
		if sha256.Sum256(text) != before {
			return true
		}
	}
	return false
}

type runner interface{ Run(context.Context) }

// groups are what runs beside a plan: the watch over its groups of servers, and the query log.
type groups struct {
	s    *Server
	ctx  context.Context
	wg   sync.WaitGroup
	stop map[runner]context.CancelFunc
}

// become starts what the plan has and ends what it has not.
func (g *groups) become(p *plan) {
	has := map[runner]bool{}
	start := func(r runner) {
		has[r] = true
		if g.stop[r] == nil {
			ctx, cancel := context.WithCancel(g.ctx)
			g.stop[r] = cancel
			g.wg.Go(func() { r.Run(ctx) })
		}
	}
	for _, r := range p.routes {
		start(r.group)
	}
	if p.log != nil {
		start(p.log)
	}
	for r, stop := range g.stop {
		if !has[r] {
			stop()
			delete(g.stop, r)
		}
	}
}

// errRestart is for what cannot be changed while the server runs.
var errRestart = errors.New("takes effect with the next start")

func (s *Server) restartNeeded(old, next *plan) {
	warn := func(field string, differ bool) {
		if differ {
			s.log.Warn("dns: configuration", "field", field, "err", errRestart)
		}
	}
	warn("cluster.ttl", old.file.Cluster.TTL != next.file.Cluster.TTL)
	warn("cluster.pods", old.file.Cluster.Pods != next.file.Cluster.Pods)
	warn("metrics.listen", old.file.Metrics != next.file.Metrics)
	warn("health", old.file.Health != next.file.Health)
	warn("ready.listen", old.file.Ready != next.file.Ready)
}

// Check reads a configuration file as a server of this configuration would, and everything that it names.
func Check(cfg Config) error {
	s := &Server{cfg: cfg}
	if err := s.prepare(); err != nil {
		return err
	}
	defer s.ns.file.Close()
	if _, err := s.builder.build(nil); err != nil {
		return fmt.Errorf("%w", err)
	}
	return nil
}
