package nft

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit"
)

// TestHistories makes a thousand random changes to the rows while every tenth makes one call to the kernel fail in one of several ways. Whenever
// all is reported in force, the kernel holds what the plans of all Services say, and nothing else; and nothing when all rows are gone.
func TestHistories(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	h := newHistory(t, rand.New(rand.NewPCG(seed, 0)))
	const changes = 1000
	for i := range changes {
		if h.r.IntN(10) == 0 {
			h.faults.arm()
		}
		h.change()
		if h.r.IntN(8) == 0 || i == changes-1 {
			h.settle()
			h.check(fmt.Sprintf("after change %d", i))
		}
		if t.Failed() {
			return
		}
	}
	_, _ = h.store.Update(func(txn *store.Txn) error {
		for s := range h.store.Snapshot().Services.All() {
			txn.DeleteService(s.Name)
		}
		for s := range h.store.Snapshot().AllSlices() {
			txn.DeleteSlice(s.Name)
		}
		return nil
	})
	h.settle()
	h.check("at the end")
	h.faults.mu.Lock()
	defer h.faults.mu.Unlock()
	t.Logf("faults: %v", h.faults.count)
	for _, kind := range []string{"not sent", "refused", "not answered"} {
		if h.faults.count[kind] == 0 {
			t.Errorf("no call was %s: %v", kind, h.faults.count)
		}
	}
}

// history is a Dataplane with faults, and a second look at the kernel.
type history struct {
	t      *testing.T
	r      *rand.Rand
	store  *store.Store
	faults *faulty
	eyes   *conn
}

const historyNode = "n1"

func newHistory(t *testing.T, r *rand.Rand) *history {
	h := &history{t: t, r: r, store: store.New(), faults: &faulty{r: rand.New(rand.NewPCG(r.Uint64(), 0)), count: map[string]int{}}}
	ns := testkit.NewNetNS(t)
	var err error
	ns.Do(func() { h.eyes, err = dial() })
	if err != nil {
		t.Fatal(err)
	}
	d := New(h.store, Config{Node: historyNode})
	d.between = func(s socket) socket { h.faults.socket = s; return h.faults }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	h.store.Expect(Consumer)
	go ns.Do(func() { defer close(done); _ = d.Run(ctx) })
	t.Cleanup(func() { cancel(); <-done; h.eyes.close() })
	_, _ = h.store.Update(func(txn *store.Txn) error { txn.PutNode(h.node()); return nil })
	return h
}

func (h *history) one(list ...string) string { return list[h.r.IntN(len(list))] }

func (h *history) node() *model.Node {
	n := &model.Node{Name: historyNode, Zone: h.one("z1", "z2")}
	for _, a := range []string{h.one("192.0.2.1", "192.0.2.2"), "2001:db8::1"} {
		n.Addresses = append(n.Addresses, netip.MustParseAddr(a))
	}
	return n
}

// change writes one random transaction.
func (h *history) change() {
	name := func(n int) model.Name { return model.Name{Namespace: "default", Name: fmt.Sprintf("s%d", n)} }
	const services, slicesEach = 12, 2
	_, _ = h.store.Update(func(txn *store.Txn) error {
		for range 1 + h.r.IntN(3) {
			n := h.r.IntN(services)
			slice := model.Name{Namespace: "default", Name: fmt.Sprintf("s%d-%d", n, h.r.IntN(2*slicesEach))}
			switch k := h.r.IntN(20); {
			case k < 7:
				txn.PutService(h.service(name(n), n))
			case k < 9:
				txn.DeleteService(name(n))
			case k < 17:
				txn.PutSlice(h.slice(slice, name(n)))
			case k < 19:
				txn.DeleteSlice(slice)
			default:
				txn.PutNode(h.node())
			}
		}
		return nil
	})
}

func (h *history) service(name model.Name, n int) *model.Service {
	ip := netip.MustParseAddr
	policies := []model.TrafficPolicy{model.PolicyCluster, model.PolicyLocal}
	s := &model.Service{
		Name: name, Type: model.LoadBalancer, Created: time.Unix(int64(h.r.IntN(3)), 0),
		ClusterIPs:     []netip.Addr{ip(fmt.Sprintf("10.96.0.%d", n)), ip(fmt.Sprintf("fd00:10:96::%d", n))}[:1+h.r.IntN(2)],
		InternalPolicy: policies[h.r.IntN(2)], ExternalPolicy: policies[h.r.IntN(2)],
	}
	s.Ports = []model.Port{{Name: "a", Protocol: model.TCP, Port: 80}, {Name: "b", Protocol: model.UDP, Port: 53}, {Name: "c", Protocol: model.SCTP, Port: 80}}[:1+h.r.IntN(3)]
	if h.r.IntN(2) == 0 {
		s.Ports[0].NodePort = uint16(30000 + n)
	}
	if h.r.IntN(2) == 0 { // few enough for several Services to want one
		s.ExternalIPs = []netip.Addr{ip(fmt.Sprintf("198.18.0.%d", h.r.IntN(4)))}
	}
	if h.r.IntN(2) == 0 {
		s.LoadBalancerIPs = []netip.Addr{ip(fmt.Sprintf("198.19.0.%d", n)), ip(fmt.Sprintf("2001:db8:1b::%d", n))}
		for range h.r.IntN(4) {
			p, _ := ip(h.one("192.0.2.7", "198.51.100.9", "203.0.113.77", "2001:db8:9::9")).Prefix(8 + h.r.IntN(25))
			s.SourceRanges = append(s.SourceRanges, p)
		}
	}
	if h.r.IntN(3) == 0 {
		s.Affinity = time.Duration(1+h.r.IntN(2)) * time.Hour
	}
	return s
}

func (h *history) slice(name, service model.Name) *model.EndpointSlice {
	s := &model.EndpointSlice{Name: name, Service: service, IPv6: h.r.IntN(2) == 0}
	for _, p := range []model.EndpointPort{{Name: "a", Protocol: model.TCP, Port: 8080}, {Name: "b", Protocol: model.UDP, Port: 53}, {Name: "c", Protocol: model.SCTP, Port: 80}} {
		if h.r.IntN(5) > 0 {
			s.Ports = append(s.Ports, p)
		}
	}
	for range h.r.IntN(10) {
		e := model.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, 0, byte(h.r.IntN(16))}), Node: h.one(historyNode, "n2")}
		if s.IPv6 {
			e.Addr = netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(h.r.IntN(16))})
		}
		e.Ready, e.Serving = h.r.IntN(3) > 0, true
		e.Terminating = !e.Ready
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// settle waits until everything is in force but for what another Service has.
func (h *history) settle() {
	h.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		st := h.store.Statuses()[0]
		want := map[string]bool{}
		for name := range h.wanted().waiting {
			want["service "+name.String()] = true
		}
		same := st.Err == nil && st.Revision == h.store.Snapshot().Revision && len(want) == len(st.Failed)
		for name, err := range st.Failed {
			same = same && want[name] && strings.Contains(err.Error(), "belongs to")
		}
		if same {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("not in force: %+v, revision %d, want failed %v", st, h.store.Snapshot().Revision, want)
		}
		time.Sleep(time.Millisecond)
	}
}

// wanted is what the kernel must hold.
type wanted struct {
	frontends            map[plan.Key]*plan.Frontend
	owner                map[plan.Key]*plan.Service
	clusterIPs, hairpins map[netip.Addr]bool
	waiting              map[model.Name]bool // Services that want what another has
}

func (h *history) wanted() *wanted {
	w := &wanted{map[plan.Key]*plan.Frontend{}, map[plan.Key]*plan.Service{}, map[netip.Addr]bool{}, map[netip.Addr]bool{}, map[model.Name]bool{}}
	snap := h.store.Snapshot()
	view := plan.Look(snap, historyNode)
	var plans []*plan.Service
	for s := range snap.Services.All() {
		p := view.Service(snap, s.Name)
		plans = append(plans, &p)
	}
	slices.SortFunc(plans, func(a, b *plan.Service) int {
		if a.Precedes(b) {
			return -1
		}
		return 1
	})
	for _, p := range plans {
		for i := range p.Frontends {
			f := &p.Frontends[i]
			if w.owner[f.Key] != nil {
				w.waiting[p.Name] = true
				continue
			}
			w.frontends[f.Key], w.owner[f.Key] = f, p
		}
		for _, a := range p.ClusterIPs {
			w.clusterIPs[a] = true
		}
		for _, a := range p.Hairpin {
			w.hairpins[a] = true
		}
	}
	return w
}

// look reads one set of a table: keys and values as they are.
func (h *history) look(f *family, set setID) map[string]element {
	out := map[string]element{}
	err := h.eyes.readElements(f, DefaultTable, set, func(e element) {
		e.key, e.keyEnd, e.value = slices.Clone(e.key), slices.Clone(e.keyEnd), slices.Clone(e.value)
		out[string(e.key)+string(e.keyEnd)] = e
	})
	if err != nil {
		h.t.Fatalf("read %s %s: %v", f.name(), setSpecs[set].name, err)
	}
	return out
}

// check compares the kernel with the plans, element by element.
func (h *history) check(when string) {
	h.t.Helper()
	w := h.wanted()
	for _, f := range families {
		bad := func(format string, args ...any) {
			h.t.Helper()
			h.t.Errorf("%s, table %s: %s", when, f.name(), fmt.Sprintf(format, args...))
		}
		held := map[setID]map[string]element{}
		for set := range setCount {
			held[set] = h.look(f, set)
		}
		// take gives an element, which must be there, and strikes it off.
		take := func(set setID, key []byte) (v []byte) {
			e, ok := held[set][string(key)]
			if !ok {
				bad("%s lacks %x", setSpecs[set].name, key)
			}
			delete(held[set], string(key))
			return e.value
		}
		classes := map[uint32]string{}
		for _, e := range held[inPicks] {
			classes[binary.NativeEndian.Uint32(e.key)] = e.comment
		}
		type port struct {
			service model.Name
			sticky  plan.Key
		}
		groups := map[port]uint32{}
		for k, want := range w.frontends {
			if familyOf(k.Addr) != f {
				continue
			}
			key := appendKey(nil, k)
			if v := take(services, key); v != nil {
				if c := classes[binary.NativeEndian.Uint32(v)]; c != classOf(want).String() {
					bad("%s is of class %q, want %q", k, c, classOf(want))
				}
			}
			var group uint32
			if want.Affinity > 0 && len(want.Inside.Backends)+len(want.Outside.Backends) > 0 {
				if v := take(sticky, key); v != nil {
					group = binary.NativeEndian.Uint32(v)
				}
				of := port{w.owner[k].Name, want.Sticky}
				if g, known := groups[of]; known && g != group {
					bad("%s is in the group %#x, other frontends of its port in %#x", k, group, g)
				}
				groups[of] = group
			}
			pools := map[uint32][]netip.AddrPort{0: want.Inside.Backends}
			if want.Split {
				pools[outsideSlots] = want.Outside.Backends
			}
			for base, backends := range pools {
				var got []netip.AddrPort
				for i := range backends {
					slot := numberedKey(k, base+uint32(i))
					b := f.readBackend(append(take(slots, slot), make([]byte, 20)...))
					got = append(got, b)
					if group == 0 {
						continue
					}
					alive := map[uint32]setID{0: live, outsideSlots: liveOutside}[base]
					v := take(draws, slot)
					if v == nil {
						continue
					}
					number := binary.NativeEndian.Uint32(v)
					if lives := take(alive, numberedKey(k, number)); number&groupMask != group || string(lives) != string(appendBackend(nil, b)) {
						bad("%s, slot %d: %s has the number %#x of group %#x, which is %x", k, i, b, number, group, lives)
					}
				}
				slices.SortFunc(got, netip.AddrPort.Compare)
				if !slices.Equal(got, backends) {
					bad("%s: backends %v, want %v", k, got, backends)
				}
			}
			for _, p := range outermost(want.Sources) {
				e := sourceElement(k, p)
				take(sources, append(e.key, e.keyEnd...))
			}
		}
		used := map[uint32]port{}
		for p, g := range groups {
			if other, taken := used[g]; taken {
				bad("group %#x is of %v and %v", g, p, other)
			}
			used[g] = p
		}
		for a := range w.clusterIPs {
			if familyOf(a) == f {
				take(clusterIPs, clusterIPKey(a))
			}
		}
		for a := range w.hairpins {
			if familyOf(a) == f {
				take(hairpins, hairpinKey(a))
			}
		}
		for _, set := range []setID{services, slots, clusterIPs, hairpins, sources, sticky, draws, live, liveOutside} {
			for _, e := range held[set] {
				bad("%s has %x → %x (%s), which no Service wants", setSpecs[set].name, e.key, e.value, e.comment)
			}
		}
	}
}
