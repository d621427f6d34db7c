package dns

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"fairway.dev/fairway/internal/dns/zone"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// holdLimit is how long a name waits for its address to be in force.
const holdLimit = 2 * time.Second

// hold is a Service with cluster addresses that are not answered yet.
type hold struct {
	// rev brought the addresses; until is when waiting ends.
	rev   store.Revision
	until time.Time
	ips   []netip.Addr
}

// publisher brings the zone from one snapshot to the next and keeps the order rule: what is held waits, everything else does not.
// It knows no clock and no consumer: both are told to it.
type publisher struct {
	zone *zone.Zone
	wait bool // whether names are held at all
	snap *store.Snapshot
	held map[model.Name]hold
	// lingering are endpoints that vanished and may only be on their way from one slice to another.
	lingering map[model.Name][]linger
	// complete is true from the first synced snapshot on, whose revision is barrier.
	complete bool
	barrier  store.Revision
	// remembered is true as long as the zone has the names of an earlier run: nothing less than everything takes their place.
	remembered bool
}

func newPublisher(z *zone.Zone, wait bool) *publisher {
	return &publisher{zone: z, wait: wait, held: map[model.Name]hold{}, lingering: map[model.Name][]linger{}}
}

// follow keeps the zone at the store's newest snapshot until ctx ends.
func (s *Server) follow(ctx context.Context) {
	cursor := s.st.Follow("dns")
	defer cursor.Close()
	p := newPublisher(s.zone, s.cfg.AfterConsumer != "")
	p.remembered = s.metrics.remembered.Load() != 0
	for {
		snap, d, err := s.next(ctx, cursor, p)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		if err == nil {
			p.update(snap, &d, now)
		}
		if !p.remembered {
			s.metrics.remembered.Store(0)
		}
		waiting := len(p.held)
		moved := p.letGo(now)
		if late := p.release(s.inForce(), now); len(late) > 0 {
			s.log.Warn("dns: names are answered although their addresses may not be in force yet",
				"waited", holdLimit, "for", s.cfg.AfterConsumer, "services", len(late), "first", late[0].String())
		}
		if d.All || len(d.Services)+len(d.Namespaces)+len(d.Pods)+len(d.ServiceCIDRs)+len(d.Nodes) > 0 || len(p.held) < waiting || moved {
			s.zone.Touch(uint32(now.Unix()))
		}
		if p.snap != nil && !p.remembered {
			s.gone.Store(uint64(p.snap.Revision))
		}
		s.changed()
		cursor.Report(p.revision(), nil, nil)
	}
}

// next waits for a change of the store, for what is held to come in force, or for the end of somebody's waiting; in the
// last two cases it returns an error.
func (s *Server) next(ctx context.Context, cursor *store.Cursor, p *publisher) (*store.Snapshot, store.Delta, error) {
	rev, until, any := p.first()
	end, lingering := p.firstEnd()
	if !any && !lingering {
		return cursor.Next(ctx)
	}
	if !any || lingering && end.Before(until) {
		until = end
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if any && s.st.Applied(ctx, rev, s.cfg.AfterConsumer) == nil {
			cancel()
		}
	}()
	snap, d, err := cursor.Next(ctx)
	cancel()
	<-done
	return snap, d, err
}

// inForce is the revision that the consumer we wait for has reported; the highest there is if it does not exist.
func (s *Server) inForce() store.Revision {
	for _, row := range s.st.Statuses() {
		if row.Consumer == s.cfg.AfterConsumer {
			return row.Revision
		}
	}
	return ^store.Revision(0)
}

// update takes a snapshot in.
func (p *publisher) update(snap *store.Snapshot, d *store.Delta, now time.Time) {
	if p.remembered {
		if !snap.Synced {
			return
		}
		p.remembered, d.All = false, true
	}
	before := p.snap
	p.snap = snap
	if d.All || len(d.ServiceCIDRs)+len(d.Nodes) > 0 {
		p.ranges()
	}
	for n := range d.Namespaces {
		p.namespace(n)
	}
	for n := range d.Pods {
		p.pod(n)
	}
	for n := range d.Services {
		if before != nil && !d.All {
			p.vanished(n, before, now)
		}
		p.service(n, now)
	}
	if d.All {
		p.all(now)
		p.zone.UnlimitTTL() // now nothing is left of an earlier run
	}
	if snap.Synced && !p.complete {
		p.complete, p.barrier = true, snap.Revision
	}
}

// all takes everything in, and takes away what is no longer there.
func (p *publisher) all(now time.Time) {
	for row := range p.snap.Namespaces.All() {
		p.zone.PutNamespace(row.Name)
	}
	for _, n := range p.zone.Namespaces() {
		p.namespace(n)
	}
	for n := range p.zone.Names() {
		if p.snap.Services.Get(n) == nil {
			p.zone.DeleteService(n)
		}
	}
	for n := range p.held {
		if p.snap.Services.Get(n) == nil {
			delete(p.held, n)
		}
	}
	clear(p.lingering)
	for n := range p.zone.Pods() {
		p.pod(n)
	}
	for row := range p.snap.Pods.All() {
		p.pod(row.Name)
	}
	for row := range p.snap.Services.All() {
		p.service(row.Name, now)
	}
}

// ranges tells the zone which addresses are the cluster's: those of all ServiceCIDRs, and of the Pods of each node whose row there is.
func (p *publisher) ranges() {
	all := p.snap.ServiceRanges()
	for n := range p.snap.Nodes.All() {
		all = append(all, n.PodCIDRs...)
	}
	p.zone.SetRanges(all)
}

func (p *publisher) namespace(n string) {
	if p.snap.Namespaces.Get(model.Name{Name: n}) != nil {
		p.zone.PutNamespace(n)
	} else {
		p.zone.DeleteNamespace(n)
	}
}

func (p *publisher) pod(n model.Name) {
	if row := p.snap.Pods.Get(n); row != nil {
		p.zone.PutPod(row)
	} else {
		p.zone.DeletePod(n)
	}
}

// service takes one Service in: at once as far as its cluster addresses were answered before, and holds the rest.
func (p *publisher) service(n model.Name, now time.Time) {
	row := p.snap.Services.Get(n)
	if row == nil {
		p.zone.DeleteService(n)
		delete(p.held, n)
		delete(p.lingering, n)
		return
	}
	known := p.zone.ClusterIPs(n)
	isNew := func(a netip.Addr) bool { return !slices.Contains(known, a) }
	if !p.wait || row.Headless || row.Type == model.ExternalName || !slices.ContainsFunc(row.ClusterIPs, isNew) {
		p.zone.PutService(row, p.slices(n))
		delete(p.held, n)
		return
	}
	part := *row
	part.ClusterIPs = slices.DeleteFunc(slices.Clone(row.ClusterIPs), isNew)
	p.zone.PutPart(&part, p.slices(n)) // with no address left, this takes the name away
	h, had := p.held[n]
	if !had {
		h.until = now.Add(holdLimit)
	}
	if !had || !slices.Equal(h.ips, row.ClusterIPs) {
		h.rev, h.ips = p.snap.Revision, row.ClusterIPs
	}
	p.held[n] = h
}

// release answers for what is in force at that revision, and for what has waited long enough, which it returns.
func (p *publisher) release(inForce store.Revision, now time.Time) (late []model.Name) {
	for n, h := range p.held {
		switch {
		case h.rev <= inForce:
		case !now.Before(h.until):
			late = append(late, n)
		default:
			continue
		}
		p.zone.PutService(p.snap.Services.Get(n), p.slices(n))
		delete(p.held, n)
	}
	if p.complete && p.revision() >= p.barrier {
		p.zone.SetSynced(true)
	}
	return late
}

// first gives the lowest revision that is waited for, and the earliest end of waiting.
func (p *publisher) first() (rev store.Revision, until time.Time, any bool) {
	for _, h := range p.held {
		if !any || h.rev < rev {
			rev = h.rev
		}
		if !any || h.until.Before(until) {
			until = h.until
		}
		any = true
	}
	return rev, until, any
}

// revision is the newest that the zone has in full.
func (p *publisher) revision() store.Revision {
	if rev, _, any := p.first(); any {
		return rev - 1
	}
	if p.snap == nil {
		return 0
	}
	return p.snap.Revision
}
