package dns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"fairway.dev/fairway/internal/dns/checkpoint"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

const (
	// saveEvery is how often the names are written down at most.
	saveEvery = 10 * time.Second
	// rememberedTTL is the highest TTL, in seconds, of what was read from there: something else may be right soon.
	rememberedTTL = 5
)

// recall fills the zone with what was written down last, if that can be read. What is not in there may exist: until
// the store is synced it is no answer but SERVFAIL.
func (s *Server) recall() {
	if s.cfg.Checkpoint == "" {
		return
	}
	f, err := os.Open(s.cfg.Checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var names *checkpoint.Names
	if err == nil {
		names, err = checkpoint.Read(f, s.cfg.Cluster)
		f.Close()
	}
	if errors.Is(err, checkpoint.ErrOther) {
		s.log.Info("dns: the names of the last run are not used", "file", s.cfg.Checkpoint, "err", err)
		return
	}
	if err != nil {
		s.log.Warn("dns: the names of the last run cannot be used; they come with the API", "file", s.cfg.Checkpoint, "err", err)
		return
	}
	for _, n := range names.Namespaces {
		s.zone.PutNamespace(n)
	}
	for _, svc := range names.Services {
		s.zone.PutServiceTTL(svc.Service, slices.Values(svc.Slices), rememberedTTL)
	}
	s.zone.LimitTTL(rememberedTTL)
	s.zone.Touch(uint32(names.Saved.Unix()))
	s.metrics.remembered.Store(names.Saved.Unix())
	s.log.Info("dns: the names of the last run are answered until the API has told the present ones", "services", len(names.Services), "saved", names.Saved)
}

// remember writes the names down when they have changed, but not too often, until ctx ends, and then once more.
func (s *Server) remember(ctx context.Context) {
	if s.cfg.Checkpoint == "" {
		return
	}
	cursor := s.st.Follow("")
	defer cursor.Close()
	var (
		last         time.Time
		snap         *store.Snapshot
		dirty, fails bool
	)
	save := func() {
		err := s.save(snap)
		if err != nil && !fails {
			s.log.Warn("dns: the names cannot be written down for the next start", "file", s.cfg.Checkpoint, "err", err)
		}
		fails, dirty, last = err != nil, err != nil, time.Now()
	}
	for {
		wait, cancel := ctx, context.CancelFunc(func() {})
		if dirty {
			wait, cancel = context.WithDeadline(ctx, last.Add(saveEvery))
		}
		next, d, err := cursor.Next(wait)
		cancel()
		switch {
		case err == nil:
			first := snap == nil || !snap.Synced
			dirty = dirty || next.Synced && (first || d.All || len(d.Services) > 0 || len(d.Namespaces) > 0)
			snap = next
		case ctx.Err() != nil:
			if dirty {
				save()
			}
			return
		default: // it is time
			save()
		}
	}
}

// save writes a snapshot's names in the place of those before, as a whole or not at all.
func (s *Server) save(snap *store.Snapshot) (err error) {
	dir := filepath.Dir(s.cfg.Checkpoint)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// One name, so that what a crash leaves half-written is written over.
	f, err := os.OpenFile(s.cfg.Checkpoint+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	namespaces := func(yield func(string) bool) {
		for n := range snap.Namespaces.All() {
			if !yield(n.Name) {
				return
			}
		}
	}
	services := func(yield func(*model.Service, iter.Seq[*model.EndpointSlice]) bool) {
		for svc := range snap.Services.All() {
			if !yield(svc, snap.Slices(svc.Name)) {
				return
			}
		}
	}
	if err := errors.Join(checkpoint.Write(f, s.cfg.Cluster, time.Now(), namespaces, services), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return os.Rename(f.Name(), s.cfg.Checkpoint)
}
