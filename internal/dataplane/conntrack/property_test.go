package conntrack_test

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/conntrack"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// world is a small cluster, what its clients have in the table, and a Tracker that hears of every change.
type world struct {
	r       *rand.Rand
	now     map[plan.Key]*plan.Frontend
	flows   []conntrack.Flow
	tracker *conntrack.Tracker
}

func (w *world) backend() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(w.r.IntN(6))}), uint16(53+w.r.IntN(2)))
}

func (w *world) key() plan.Key {
	protocols := []model.Protocol{model.UDP, model.TCP, model.SCTP}
	return plan.Key{Addr: netip.AddrFrom4([4]byte{10, 96, 0, byte(w.r.IntN(4))}), Protocol: protocols[w.r.IntN(3)], Port: uint16(53 + w.r.IntN(2))}
}

// change makes, alters or removes one frontend.
func (w *world) change() {
	k := w.key()
	if w.r.IntN(4) == 0 {
		if w.now[k] != nil {
			w.tracker.Remove(k)
		}
		delete(w.now, k)
		return
	}
	f := &plan.Frontend{Key: k}
	for range w.r.IntN(4) { // none at all is a Service that fell to zero
		f.Serving = append(f.Serving, w.backend())
	}
	slices.SortFunc(f.Serving, netip.AddrPort.Compare)
	f.Serving = slices.Compact(f.Serving)
	w.now[k] = f
	w.tracker.Put(f)
}

// connect opens flows to everywhere, as the kernel would record them: to a backend where there is one, else to the address itself.
func (w *world) connect() {
	k := w.key()
	f := conntrack.Flow{Protocol: k.Protocol, To: netip.AddrPortFrom(k.Addr, k.Port), HalfOpen: k.Protocol == model.TCP && w.r.IntN(2) == 0}
	f.From = f.To
	if at := w.now[k]; at != nil && len(at.Serving) > 0 {
		f.From = at.Serving[w.r.IntN(len(at.Serving))]
	}
	w.flows = append(w.flows, f)
}

// settle sweeps what the Tracker asks for and nothing else.
func (w *world) settle() (deleted []conntrack.Flow) {
	s := w.tracker.Take()
	w.flows = slices.DeleteFunc(w.flows, func(f conntrack.Flow) bool {
		if s.Stale(f) {
			deleted = append(deleted, f)
			return true
		}
		return false
	})
	return deleted
}

// healthy says in other words than the code's whether a flow must stay; what goes nowhere may stay until there is somewhere to go to.
func (w *world) healthy(f conntrack.Flow) bool {
	if f.Protocol == model.SCTP || f.Protocol == model.TCP && !f.HalfOpen {
		return true
	}
	at := w.now[plan.Key{Addr: f.To.Addr(), Protocol: f.Protocol, Port: f.To.Port()}]
	return at != nil && slices.Contains(at.Serving, f.From)
}

func (w *world) nowhere(f conntrack.Flow) bool {
	at := w.now[plan.Key{Addr: f.To.Addr(), Protocol: f.Protocol, Port: f.To.Port()}]
	return f.From == f.To && (at == nil || len(at.Serving) == 0)
}

func run(t *testing.T, seed uint64, steps int) (deleted int) {
	w := &world{r: rand.New(rand.NewPCG(seed, 0)), now: map[plan.Key]*plan.Frontend{}, tracker: conntrack.NewTracker()}
	for step := range steps {
		for range w.r.IntN(8) {
			w.connect()
		}
		if w.r.IntN(2) == 0 {
			w.change()
		}
		if w.r.IntN(3) == 0 { // the process dies, and the next one knows nothing but what the kernel holds
			w.settle()
			held := slices.Collect(maps.Keys(w.now))
			w.change()
			w.tracker = conntrack.NewTracker()
			for _, f := range w.now {
				w.tracker.Put(f)
			}
			for _, k := range held {
				if w.now[k] == nil {
					w.tracker.Remove(k)
				}
			}
		}
		if w.r.IntN(3) == 0 {
			continue // several changes are swept in one go
		}
		for _, f := range w.settle() {
			deleted++
			if w.healthy(f) {
				t.Fatalf("seed %d, step %d: %+v was cut and is healthy", seed, step, f)
			}
		}
		for _, f := range w.flows {
			if !w.healthy(f) && !w.nowhere(f) {
				t.Fatalf("seed %d, step %d: %+v stays and is stale", seed, step, f)
			}
		}
	}
	return deleted
}

// TestTracker changes frontends at random while flows come, and holds after every sweep of only what the Tracker asked for: no stale flow
// stays, no healthy one goes.
func TestTracker(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	deleted := 0
	for i := range uint64(20) {
		deleted += run(t, seed+i, 500)
	}
	if deleted < 1000 {
		t.Errorf("seed %d: only %d flows were stale", seed, deleted)
	}
}

func FuzzTracker(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { run(t, seed, 200) })
}

// TestTrackerIsQuiet holds that nothing is asked for where nothing has changed for the flows.
func TestTrackerIsQuiet(t *testing.T) {
	t.Parallel()
	tr := conntrack.NewTracker()
	k := plan.Key{Addr: netip.MustParseAddr("10.96.0.1"), Protocol: model.UDP, Port: 53}
	a, b := netip.MustParseAddrPort("10.1.0.1:53"), netip.MustParseAddrPort("10.1.0.2:53")
	put := func(serving []netip.AddrPort, inside ...netip.AddrPort) int {
		tr.Put(&plan.Frontend{Key: k, Serving: serving, Inside: plan.Choice{Backends: inside}})
		return len(tr.Take())
	}
	for i, n := range []int{
		put([]netip.AddrPort{a, b}, a, b), put([]netip.AddrPort{a, b}, a, b),
		put([]netip.AddrPort{a, b}, a), // b terminates and serves
		put([]netip.AddrPort{a}, a), put(nil), put(nil), put([]netip.AddrPort{a}, a),
	} {
		if want := []int{1, 0, 0, 1, 1, 0, 1}[i]; n != want {
			t.Errorf("change %d: %d frontends in question, want %d", i, n, want)
		}
	}
	sctp := k
	sctp.Protocol = model.SCTP
	tr.Put(&plan.Frontend{Key: sctp, Serving: []netip.AddrPort{a}})
	tr.Remove(sctp)
	if s := tr.Take(); len(s) != 0 {
		t.Errorf("SCTP: %v", s)
	}
}
