package nft

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/dataplane/conntrack"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
)

// Consumer is the name under which a Dataplane follows the store and reports its status.
const Consumer = "nft"

// DefaultTable is the name of the tables where the configuration gives none.
const DefaultTable = "fairway"

// Config says for which node a Dataplane works and what is around it.
type Config struct {
	// Node is the node's name: it tells local endpoints from others, and its row gives the NodePort addresses and the zone.
	Node string
	// Table is the name of both tables; "" is DefaultTable.
	Table string
	// ServiceCIDRs are where ClusterIPs come from, beside the store's ServiceCIDRs: new flows to an address that no Service has are dropped.
	ServiceCIDRs []netip.Prefix
	// PodCIDRs are where all Pods of the cluster have their addresses: their source is kept on the way to a ClusterIP, and they count
	// as inside. Without any, all clients are masqueraded.
	PodCIDRs []netip.Prefix
	// NodePortCIDRs say on which of the node's addresses NodePorts are served; see plan.Look. Empty is the primary ones.
	NodePortCIDRs []netip.Prefix
	// BeforeRemoval, if set, is called before a Service, a cluster address or a ready endpoint that is no more at that revision is taken out of the
	// kernel, on the goroutine of Run: those who tell clients of it can stop doing so first. Its context ends after removalWait.
	BeforeRemoval func(context.Context, store.Revision)
	// Observe, if set, is told of every attempt to put a snapshot in force, on the goroutine of Run: it must be quick.
	Observe func(Round)
	// Logger is where to log; nil discards.
	Logger *slog.Logger
}

// Round is one attempt to put a snapshot in force.
type Round struct {
	// Whole is true when everything was compared with the kernel, false when only what had changed was written.
	Whole    bool
	Duration time.Duration
	Err      error // why the attempt failed as a whole, or nil
}

// Dataplane keeps nftables equal to the store. Use New.
type Dataplane struct {
	store *store.Store
	cfg   Config
	log   *slog.Logger

	between func(socket) socket // nil, or what a test puts between this and the kernel
	layout  string              // "", or what a test wants in place of layout
	most    int                 // mostBackends, or what a test wants in its place
	kernel  *kernel
	view    plan.View
	ranges  []netip.Prefix     // of Services
	flows   *conntrack.Tracker // which flows are to be checked once what was written is in force
	todo    work
	// The Services that are not in force, and why: refused by the kernel, which are tried again, and those whose address another one has,
	// which get it when that one lets go.
	refused, contested map[model.Name]error
	// crowded are the Services that have more endpoints than slots, which are in force with some of them.
	crowded map[model.Name]error
}

// work is what has changed and is not in force yet.
type work struct {
	all   bool
	names map[model.Name]struct{}
}

func (w *work) empty() bool { return !w.all && len(w.names) == 0 }

func (w *work) add(names ...model.Name) {
	if w.names == nil {
		w.names = map[model.Name]struct{}{}
	}
	for _, n := range names {
		w.names[n] = struct{}{}
	}
}

// New gives a Dataplane that has not started.
func New(st *store.Store, cfg Config) *Dataplane {
	if cfg.Table == "" {
		cfg.Table = DefaultTable
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Dataplane{store: st, cfg: cfg, log: log.With("consumer", Consumer), flows: conntrack.NewTracker(), crowded: map[model.Name]error{}, most: mostBackends}
}

// How long to wait.
const (
	// lookEvery is how often to ask whether somebody else has changed nftables.
	lookEvery = time.Second
	// After everything was read back for that reason, nothing is for this many times as long as it took: it must not become what
	// this process does all day where somebody else writes all the time.
	restAfterReadBack = 20
	// The time before another attempt after a failure doubles from the first to the last.
	firstRetry, lastRetry = 10 * time.Millisecond, 5 * time.Second
)

// Run follows the store until ctx ends, and then returns its error; the ruleset stays and works on. It must be called on a
// thread inside the network namespace to serve, and opens its sockets there. It returns early only if it cannot open them.
func (d *Dataplane) Run(ctx context.Context) error {
	k, err := newKernel(d.cfg.Table, d.cfg.ServiceCIDRs, d.cfg.PodCIDRs)
	if err != nil {
		return err
	}
	defer k.close()
	if d.between != nil {
		k.conn.socket = d.between(k.conn.socket)
	}
	if d.layout != "" {
		for _, t := range k.tables {
			t.layout = d.layout
		}
	}
	d.kernel = k
	flows, err := conntrack.Open()
	if err != nil {
		return err
	}
	defer func() { _ = flows.Close() }()
	sweeper := conntrack.NewSweeper(flows, d.log)
	ctx, cancel := context.WithCancel(ctx)
	var swept sync.WaitGroup
	swept.Go(func() { _ = sweeper.Run(ctx) })
	defer swept.Wait()
	defer cancel()
	cur := d.store.Follow(Consumer)
	defer cur.Close()

	var snap *store.Snapshot // the newest that was taken from the cursor
	var look time.Time       // not before then
	wait, retry := lookEvery, firstRetry
	begun := false // something is in force
	for {
		tick, cancel := context.WithTimeout(ctx, wait)
		next, delta, err := cur.Next(tick)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		before := snap
		if err == nil {
			snap = next
			d.note(snap, &delta)
		} else if snap != nil {
			d.todo.add(slices.Collect(maps.Keys(d.refused))...)
		}
		if snap == nil || !snap.Synced {
			continue
		}
		if now := time.Now(); now.After(look) && k.mirror != nil {
			look = now.Add(lookEvery)
			if foreign, err := k.foreign(); err == nil && foreign {
				k.doubt(false)
				d.todo.all = true
			}
		}
		whole, start := k.mirror == nil, time.Now()
		if d.todo.empty() && err != nil {
			continue
		}
		if err == nil && d.cfg.BeforeRemoval != nil && takesAway(before, snap, &delta) {
			first, cancel := context.WithTimeout(ctx, removalWait)
			d.cfg.BeforeRemoval(first, snap.Revision)
			cancel()
		}
		err = d.bring(snap)
		if d.cfg.Observe != nil {
			d.cfg.Observe(Round{Whole: whole, Duration: time.Since(start), Err: err})
		}
		if whole {
			look = time.Now().Add(max(lookEvery, restAfterReadBack*time.Since(start)))
		}
		cur.Report(snap.Revision, err, d.failures())
		switch {
		case err != nil:
			d.log.Error("cannot write to nftables", "revision", snap.Revision, "error", err, "retry", retry)
			wait, retry = retry, min(2*retry, lastRetry)
		case len(d.refused) > 0:
			wait, retry = retry, min(2*retry, lastRetry)
		default:
			wait, retry = lookEvery, firstRetry
		}
		if err == nil {
			changed := d.flows.Take()
			if !begun {
				d.sweepOrphans(snap, changed)
				begun = true
			}
			if len(changed) > 0 {
				sweeper.Add(changed)
			}
		}
	}
}

// note adds a delta to what is to be done.
func (d *Dataplane) note(snap *store.Snapshot, delta *store.Delta) {
	if delta.All || delta.Synced {
		d.todo.all = true
	}
	d.todo.add(slices.Collect(maps.Keys(delta.Services))...)
	if delta.All || len(delta.ServiceCIDRs) > 0 {
		d.ranges = snap.ServiceRanges(d.cfg.ServiceCIDRs...)
	}
	if _, mine := delta.Nodes[d.cfg.Node]; mine || delta.All {
		if v := plan.Look(snap, d.cfg.Node, d.cfg.NodePortCIDRs...); !v.Equal(d.view) {
			d.view, d.todo.all = v, true
		}
	}
}

func (d *Dataplane) failures() map[string]error {
	if len(d.refused)+len(d.contested)+len(d.crowded) == 0 {
		return nil
	}
	out := map[string]error{}
	for _, m := range []map[model.Name]error{d.crowded, d.contested, d.refused} {
		for n, err := range m {
			out["service "+n.String()] = err
		}
	}
	return out
}

// bring puts the snapshot in force, but for the Services in d.refused and d.contested afterwards. On error nothing is known to be in force.
func (d *Dataplane) bring(snap *store.Snapshot) error {
	k := d.kernel
	out := map[model.Name]error{} // Services to leave out
	for attempt := 0; ; attempt++ {
		whole := k.mirror == nil
		if whole {
			d.todo.all = true
		}
		err := k.setServiceRanges(d.ranges)
		if err == nil {
			err = k.refresh()
		}
		if err == nil {
			err = d.attempt(snap, out, whole)
		}
		if err == nil {
			break
		}
		k.doubt(true)
		d.todo.all = true
		var b *blame
		// The first failure may come from a wrong idea of what the kernel holds, so only the second one is the Service's own.
		if attempt > 0 && !(errors.As(err, &b) && learn(out, b.services)) {
			return err
		}
	}
	for n, err := range out {
		if old := d.refused[n]; old == nil || old.Error() != err.Error() {
			d.log.Warn("service is not in force", "service", n, "error", err)
		}
	}
	for n, err := range d.refused {
		if _, tried := d.todo.names[n]; !tried && !d.todo.all {
			out[n] = err
		}
	}
	d.refused, d.contested, d.todo = out, k.contested(), work{}
	return nil
}

// learn adds to known and tells whether anything was new.
func learn(known, more map[model.Name]error) (fresh bool) {
	for n, err := range more {
		if known[n] == nil {
			known[n], fresh = err, true
		}
	}
	return fresh
}

// attempt writes what is to be done, without the Services in out.
func (d *Dataplane) attempt(snap *store.Snapshot, out map[model.Name]error, whole bool) error {
	k := d.kernel
	if err := k.apply(d.plans(snap, out)); err != nil {
		return err
	}
	if names := k.released(); len(names) > 0 {
		d.todo.add(names...)
		if err := k.apply(d.plansOf(snap, out, slices.Values(names))); err != nil {
			return err
		}
	}
	if whole {
		for key := range k.unclaimed() { // what went while nobody was looking, or before this process
			d.flows.Remove(key)
		}
		if err := k.prune(); err != nil {
			return err
		}
	}
	if err := k.openBase(); err != nil {
		return err
	}
	return k.finish()
}

// plans yields the plan of every Service to be done.
func (d *Dataplane) plans(snap *store.Snapshot, out map[model.Name]error) iter.Seq[*plan.Service] {
	if !d.todo.all {
		return d.plansOf(snap, out, maps.Keys(d.todo.names))
	}
	return d.plansOf(snap, out, func(yield func(model.Name) bool) {
		for n := range d.kernel.mirror.claims {
			if snap.Services.Get(n) == nil && !yield(n) {
				return
			}
		}
		for s := range snap.Services.All() {
			if !yield(s.Name) {
				return
			}
		}
	})
}

func (d *Dataplane) plansOf(snap *store.Snapshot, out map[model.Name]error, names iter.Seq[model.Name]) iter.Seq[*plan.Service] {
	return func(yield func(*plan.Service) bool) {
		for n := range names {
			p := d.view.Service(snap, n)
			d.limit(&p)
			if out[n] != nil {
				d.kernel.keep(&p)
				continue
			}
			d.track(&p)
			if !yield(&p) {
				return
			}
		}
	}
}

// track notes for which frontends the serving backends change with this plan.
func (d *Dataplane) track(p *plan.Service) {
	if c := d.kernel.mirror.claims[p.Name]; c != nil {
		for _, key := range c.frontends {
			if !slices.ContainsFunc(p.Frontends, func(f plan.Frontend) bool { return f.Key == key }) {
				d.flows.Remove(key)
			}
		}
	}
	for i := range p.Frontends {
		if f := &p.Frontends[i]; d.kernel.mirror.has(p, f.Key) {
			d.flows.Put(f)
		}
	}
}

// sweepOrphans deletes the flows that an earlier process has left behind. known are all frontends that are in force for the first time. It is done
// before anything else is put in force, or a new Service's flows could be taken for orphans.
func (d *Dataplane) sweepOrphans(snap *store.Snapshot, known conntrack.Serving) {
	o := conntrack.Orphans{Ranges: d.ranges, Known: known, Others: map[netip.Addr]struct{}{}}
	for s := range snap.Services.All() {
		if d.kernel.mirror.claims[s.Name] == nil || d.refused[s.Name] != nil {
			for _, a := range s.ClusterIPs {
				o.Others[a.Unmap()] = struct{}{}
			}
		}
	}
	table, err := conntrack.Open() // the Sweeper has one of its own
	if err == nil {
		var n int
		if n, err = table.SweepOrphans(o); n > 0 {
			d.log.Info("deleted flows to Services that went while nobody was looking", "flows", n)
		}
		_ = table.Close()
	}
	if err != nil {
		d.log.Error("cannot check for flows to Services that went while nobody was looking", "error", err)
	}
}

// Cleanup deletes all that a Dataplane with that table name ("" is DefaultTable) has written in the network namespace of the calling
// thread. It is no error if nothing is there. Flows that exist end with it, unless there are NAT chains of somebody else: without any the
// kernel translates nothing.
func Cleanup(table string) error {
	if table == "" {
		table = DefaultTable
	}
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	for _, f := range families {
		was, err := c.layoutOf(f, table)
		if err != nil {
			return err
		}
		if was == "" {
			continue
		}
		var b batch
		(&ruleset{family: f, table: table}).remove(&b)
		if err := c.commit(&b); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("table %s %s: delete: %w", f.name(), table, err)
		}
	}
	return nil
}
