package proxy

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"fairway.dev/fairway/internal/ingress/compile"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// routing is what requests read: a table and, at the same index as its Backends, where they lead.
type routing struct {
	table    *compile.Table
	backends []*backend
}

// follower keeps the routing at the newest snapshot. It belongs to one goroutine, except for endpoints, which reap and close
// read too.
type follower struct {
	opts    compile.Options
	publish func(*routing)

	now       *routing
	byRef     map[compile.Ref]*backend
	byService map[model.Name][]*backend
	leaving   []*endpoint // retired since the last report

	mu        sync.Mutex // guards endpoints
	endpoints map[netip.AddrPort]*endpoint
}

func newFollower(opts compile.Options, publish func(*routing)) *follower {
	return &follower{opts: opts, publish: publish, endpoints: map[netip.AddrPort]*endpoint{}}
}

// follow applies snapshots until ctx ends. first is called once, when the first complete snapshot is in force.
func (f *follower) follow(ctx context.Context, cur *store.Cursor, first func()) error {
	for {
		snap, d, err := cur.Next(ctx)
		if err != nil {
			return nil // ctx ended
		}
		if !snap.Synced {
			continue // a route that is missing only because it has not arrived must not be answered 404
		}
		if f.now == nil {
			d.All = true
		}
		f.apply(snap, d)
		f.settle()
		if first != nil {
			first()
			first = nil
		}
		cur.Report(snap.Revision, nil, failures(f.now.findings()))
	}
}

func (f *follower) apply(snap *store.Snapshot, d store.Delta) {
	if d.All || len(d.Ingresses) > 0 || len(d.Classes) > 0 || len(d.Secrets) > 0 || len(d.ConfigMaps) > 0 || f.secretsMatter(d) {
		f.rebuild(snap, d)
		return
	}
	for svc := range d.Services {
		for _, b := range f.byService[svc] {
			f.resolve(snap, b)
		}
	}
}

func (f *follower) secretsMatter(d store.Delta) bool {
	for n := range d.Certificates {
		if f.now.table.UsesSecret(n) {
			return true
		}
	}
	return false
}

// rebuild compiles the routes anew and keeps the backends that are still led to, with their endpoints and connections.
func (f *follower) rebuild(snap *store.Snapshot, d store.Delta) {
	var prev *compile.Table
	if f.now != nil {
		prev = f.now.table
	}
	next := &routing{table: compile.Build(snap, f.opts, prev)}
	next.backends = make([]*backend, len(next.table.Backends))
	byRef := make(map[compile.Ref]*backend, len(next.backends))
	byService := make(map[model.Name][]*backend, len(next.backends))
	for i, tb := range next.table.Backends {
		if tb.Ref == (compile.Ref{}) {
			continue // free
		}
		b := f.byRef[tb.Ref]
		_, changed := d.Services[tb.Ref.Service]
		if b == nil {
			b, changed = &backend{ref: tb.Ref}, true
		}
		if changed || d.All {
			f.resolve(snap, b)
		}
		next.backends[i] = b
		byRef[tb.Ref] = b
		byService[tb.Ref.Service] = append(byService[tb.Ref.Service], b)
	}
	old := f.byRef
	f.now, f.byRef, f.byService = next, byRef, byService
	f.publish(next)
	for ref, b := range old {
		if byRef[ref] == nil {
			// Left empty, not emptied: a request that has already found this backend may still pick from it.
			f.release(b.set.Load().endpoints)
		}
	}
}

// resolve swaps a backend's endpoints if they have changed: first the set, so that no request picks an endpoint that has left, then
// the endpoints that have left are retired.
func (f *follower) resolve(snap *store.Snapshot, b *backend) {
	e := compile.Resolve(snap, f.opts, b.ref)
	old := b.set.Load()
	if old.equal(e) {
		return
	}
	set := &endpointSet{problem: e.Problem, advice: e.Advice, endpoints: make([]*endpoint, len(e.Addrs))}
	f.mu.Lock()
	for i, a := range e.Addrs {
		ep := f.endpoints[a]
		if ep == nil {
			ep = newEndpoint(a)
			f.endpoints[a] = ep
		}
		ep.refs++
		set.endpoints[i] = ep
	}
	f.mu.Unlock()
	b.set.Store(set)
	if old != nil {
		f.release(old.endpoints)
	}
}

func (f *follower) release(eps []*endpoint) {
	for _, ep := range eps {
		if ep.refs--; ep.refs == 0 {
			f.mu.Lock()
			delete(f.endpoints, ep.addr)
			f.mu.Unlock()
			ep.retire()
			f.leaving = append(f.leaving, ep)
		}
	}
}

// settleLimit bounds the wait of settle. A request that is being written takes microseconds; one that still dials may take long.
const settleLimit = 100 * time.Millisecond

// settle waits until no request is on its way to an endpoint that has left. Only then may the revision be reported as in force: whoever stops
// a Pod after that report finds that every request to it has been sent.
func (f *follower) settle() {
	end := time.Now().Add(settleLimit)
	for _, ep := range f.leaving {
		ep.settle(time.Until(end))
	}
	f.leaving = nil
}

// all lists the endpoints in use.
func (f *follower) all() []*endpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.endpoints))
}

// reap closes idle connections to endpoints in the background until ctx ends, then all of them.
func (f *follower) reap(ctx context.Context, idle time.Duration) {
	tick := time.NewTicker(max(idle/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			for _, e := range f.all() {
				e.retire()
			}
			return
		case now := <-tick.C:
			for _, e := range f.all() {
				e.reap(now.Add(-idle))
			}
		}
	}
}

// findings joins what the table says about Ingresses with what stands behind its backends now.
func (r *routing) findings() []compile.Finding {
	out := slices.Clone(r.table.Findings)
	for i, b := range r.backends {
		if b == nil {
			continue
		}
		set := b.set.Load()
		for _, ing := range r.table.Backends[i].Ingresses {
			if set.problem != "" {
				out = append(out, compile.Finding{Ingress: ing, Severity: compile.Error, Message: set.problem + ": its paths answer 503"})
			}
			if set.advice != "" {
				out = append(out, compile.Finding{Ingress: ing, Severity: compile.Warning, Message: set.advice})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b compile.Finding) int { return a.Ingress.Compare(b.Ingress) })
	return out
}

// failures puts findings that cost service into the form of the status table.
func failures(findings []compile.Finding) map[string]error {
	var out map[string]error
	for _, x := range findings {
		if x.Severity != compile.Error {
			continue
		}
		if out == nil {
			out = map[string]error{}
		}
		key := "ingress " + x.Ingress.String()
		if old := out[key]; old != nil {
			out[key] = fmt.Errorf("%w; %s", old, x.Message)
		} else {
			out[key] = fmt.Errorf("%s", x.Message)
		}
	}
	return out
}
