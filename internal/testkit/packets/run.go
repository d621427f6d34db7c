package packets

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// Run sends the packets of a view, all at once and each as often as it takes to see all that may become of it, and reports as one subtest for
// each what became of it otherwise than wanted. The engine must be in force. kubeProxy says that what upstream does is wanted.
func (l *Lab) Run(t *testing.T, v *View, kubeProxy bool) {
	r := &run{Lab: l, ports: map[netip.Addr]uint16{}, next: firstNumber}
	for i := range v.Packets {
		p := &v.Packets[i]
		want := p.Want
		if kubeProxy && p.KubeProxy != nil {
			want = *p.KubeProxy
		}
		r.rows = append(r.rows, &row{Packet: p, want: want})
	}
	const most = 10 // rounds; with four packets for each backend and round, one is missed by chance in e^-40 cases
	for range most {
		if !r.round() {
			break
		}
	}
	r.fence()
	groups := map[string][]netip.AddrPort{}
	for _, w := range r.rows {
		t.Run(w.Name, func(t *testing.T) {
			if trouble := w.judge(r); trouble != "" {
				t.Errorf("%s → %s: %s; want %s", w.From, w.To, trouble, w.want)
			}
		})
		if w.Sticky != "" {
			groups[w.Sticky] = append(groups[w.Sticky], w.seen...)
		}
	}
	for name, seen := range groups {
		t.Run("sticky/"+name, func(t *testing.T) {
			slices.SortFunc(seen, netip.AddrPort.Compare)
			if seen = slices.Compact(seen); len(seen) != 1 {
				t.Errorf("one client's packets went to %v", seen)
			}
		})
	}
	t.Logf("%d rows, %d packets", len(r.rows), r.next-firstNumber)
}

const firstNumber = 0x5a000001

// run is one Run.
type run struct {
	*Lab
	rows  []*row
	ports map[netip.Addr]uint16 // last source port of each client
	next  uint32                // number of the next packet
}

// row is one Packet and what has been sent for it.
type row struct {
	*Packet
	want  Outcome
	flows []flow
	seen  []netip.AddrPort // backends, sorted
	lost  bool             // something that must arrive has not
}

type flow struct {
	number uint32
	source netip.AddrPort
}

// arrives tells whether packets of the row are seen somewhere if all is well.
func (w *row) arrives() bool { return w.want.Verdict != Drop }

// complete is true when nothing more needs to be sent.
func (w *row) complete() bool {
	switch {
	case len(w.flows) == 0:
		return false
	case w.lost, w.want.Verdict != Forward, w.want.Some, w.Sticky != "":
		return true
	}
	return len(w.seen) >= len(w.want.Backends)
}

// round sends a few packets for each row that is not complete, and waits until they have arrived. It is false when there was none.
func (r *run) round() bool {
	var sent []*row
	for _, w := range r.rows {
		if w.complete() {
			continue
		}
		sent = append(sent, w)
		n := 2
		if len(w.want.Backends) > 1 {
			n = 4 * len(w.want.Backends)
		}
		for range n {
			r.sendOne(w)
		}
	}
	r.await(func() bool {
		missing := false
		for _, w := range sent {
			missing = missing || w.arrives() && r.missing(w)
		}
		return !missing
	})
	for _, w := range sent {
		w.lost = w.arrives() && r.missing(w)
		for _, f := range w.flows {
			for _, a := range r.at(f) {
				if i, known := slices.BinarySearchFunc(w.seen, a.to, netip.AddrPort.Compare); !known && !a.refusal {
					w.seen = slices.Insert(w.seen, i, a.to)
				}
			}
		}
	}
	return len(sent) > 0
}

func (r *run) sendOne(w *row) {
	from := w.From.Addr(Family{w.To.Addr.Is6()})
	port := max(r.ports[from], 1<<14) + 1
	r.ports[from] = port
	f := flow{r.next, netip.AddrPortFrom(from, port)}
	r.next++
	// Who sends from the node itself is told when a packet is dropped or refused.
	if err := r.send(w.From, w.Packet, port, f.number); err != nil && !errors.Is(err, unix.EPERM) {
		r.t.Fatalf("packets: send from %s to %s: %v", w.From, w.To, err)
	}
	w.flows = append(w.flows, f)
}

func (r *run) at(f flow) []arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.arrivals[f.number]
}

func (r *run) missing(w *row) bool {
	return slices.ContainsFunc(w.flows, func(f flow) bool { return len(r.at(f)) == 0 })
}

// await waits until ok, or until nothing has arrived for a while.
func (r *run) await(ok func() bool) {
	quiet := time.NewTimer(0)
	for !ok() {
		quiet.Reset(5 * time.Second)
		select {
		case <-r.changed:
		case <-quiet.C:
			return
		}
	}
}

// fence returns when everything that was sent before has been where it goes: packets on one way do not overtake one another, and these
// are known to arrive.
func (r *run) fence() {
	var fences []*row
	for _, c := range []Client{Client(r.node), Client(string(rune('a'+r.node[1]-'1')) + "9"), "outside"} {
		for _, f := range Families {
			for _, to := range []Client{Client(string(rune('a'+r.node[1]-'1')) + "8"), "stranger"} {
				w := &row{Packet: &Packet{From: c, To: plan.Key{Addr: to.Addr(f), Protocol: model.UDP, Port: 9}}}
				r.sendOne(w)
				fences = append(fences, w)
			}
		}
	}
	r.await(func() bool { return !slices.ContainsFunc(fences, r.missing) })
	for _, w := range fences {
		if r.missing(w) {
			r.t.Errorf("packets: what %s sends straight to %s does not arrive", w.From, w.To)
		}
	}
}

// judge says what is wrong with what has become of the row's packets, or "".
func (w *row) judge(r *run) string {
	changed := false // a source
	for _, f := range w.flows {
		verdict, trouble := Drop, ""
		for _, a := range r.at(f) {
			switch {
			case a.refusal:
				verdict = Reject
				if at := w.From.where(r.node); a.at != at {
					trouble = fmt.Sprintf("the refusal went to %s, not to %s", a.at, at)
				}
			case a.to.Addr() == w.To.Addr:
				verdict = Pass
			default:
				verdict = Forward
				changed = changed || a.from != f.source
				if want := r.own(a.to.Addr().Is6()); w.want.Kept && a.from != f.source || !w.want.Kept && a.from.Addr() != want {
					trouble = fmt.Sprintf("%s saw %s as the source of what %s sent", a.to, a.from, f.source)
				}
				if !slices.Contains(w.want.Backends, a.to) {
					trouble = fmt.Sprintf("went to %s", a.to)
				}
			}
		}
		want := w.want.Verdict
		if want == Pass && r.isOwn(w.To.Addr) {
			want = Reject // nobody listens on the node
		}
		if verdict != want {
			return fmt.Sprintf("%s, seen: %+v", verdict, r.at(f))
		}
		if trouble != "" {
			return trouble
		}
	}
	// Masquerading what the node itself sends changes the port alone, and now and then gives it the one that it had.
	if w.want.Verdict == Forward && !w.want.Kept && !changed {
		return "the source is kept"
	}
	if !w.complete() {
		return fmt.Sprintf("%d packets went to %v only", len(w.flows), w.seen)
	}
	return ""
}

func (l *Lab) own(ipv6 bool) netip.Addr { return nodeAddr(Family{ipv6}, l.node) }

func (l *Lab) isOwn(a netip.Addr) bool {
	f := Family{a.Is6()}
	return a.IsLoopback() || a == nodeAddr(f, l.node) || a == secondAddr(f)
}
