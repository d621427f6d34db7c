package discovery_test

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// history is the Service, and when each address was ready. An address is a number and never used again, in the order of numbers.
type history struct {
	api     *api
	slices  []*discoveryv1.EndpointSlice
	changes atomic.Int64

	// hands write at the same time, as a write takes its time; each counts those that it has begun, and those whose outcome is in the history.
	hands          int
	begun, entered []atomic.Int64

	mu sync.RWMutex // guards what follows, which only grows
	// from and to are the API's revisions between which a number was ready; 0 is not yet.
	from, to []int64
	last     int
}

const perSlice = 100

func address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

func number(a netip.Addr) int32 { b := a.As4(); return int32(b[1])<<16 | int32(b[2])<<8 | int32(b[3]) }

func name(n int) string {
	a := address(n).As4()
	return fmt.Sprintf("%d-%d-%d-%d", a[0], a[1], a[2], a[3])
}

func newHistory(t *testing.T, a *api, count int) *history {
	t.Helper()
	ctx := t.Context()
	if _, err := a.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "churn"}, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const hands = 16
	h := &history{api: a, hands: hands, begun: make([]atomic.Int64, hands), entered: make([]atomic.Int64, hands)}
	for at := 0; at < count; at += perSlice {
		sl := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: fmt.Sprintf("churn-%d", at/perSlice), Labels: map[string]string{discoveryv1.LabelServiceName: "churn"}},
			AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](80)}},
		}
		for range min(perSlice, count-at) {
			sl.Endpoints = append(sl.Endpoints, h.endpoint(true))
		}
		got, err := a.DiscoveryV1().EndpointSlices("default").Create(ctx, sl, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		h.slices = append(h.slices, got)
		for _, e := range got.Endpoints {
			h.from[numberOf(e)] = revision(got)
		}
	}
	return h
}

func (h *history) endpoint(ready bool) discoveryv1.Endpoint {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.from)
	h.from, h.to = append(h.from, 0), append(h.to, 0)
	return discoveryv1.Endpoint{Addresses: []string{address(n).String()}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(ready)}}
}

func numberOf(e discoveryv1.Endpoint) int32 { return number(netip.MustParseAddr(e.Addresses[0])) }

func revision(sl *discoveryv1.EndpointSlice) int64 {
	rv, err := strconv.ParseInt(sl.ResourceVersion, 10, 64)
	if err != nil {
		panic(err)
	}
	return rv
}

// change writes one change of one endpoint after the other, in every slice whose number is hand modulo hands: a ready one ends, an ended one
// is replaced by a new one that is not ready, and that one becomes ready, as Pods do. All hands together do so many a second; what is late
// is made up for.
func (h *history) change(ctx context.Context, hand, rate int) {
	start := time.Now()
	for i := 0; ; i++ {
		due := start.Add(time.Second * time.Duration(hand+i*h.hands) / time.Duration(rate))
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		mine := (len(h.slices) - hand + h.hands - 1) / h.hands
		at, visit := hand+h.hands*(i%mine), i/mine
		h.begun[hand].Add(1)
		h.one(at, visit/3)
		h.entered[hand].Add(1)
	}
}

func (h *history) one(at, i int) {
	sl := h.slices[at].DeepCopy()
	e := &sl.Endpoints[i%len(sl.Endpoints)]
	n, from, to := numberOf(*e), false, false
	switch {
	case *e.Conditions.Ready:
		e.Conditions.Ready, e.Conditions.Terminating, to = ptr.To(false), ptr.To(true), true
	case e.Conditions.Terminating != nil:
		*e = h.endpoint(false)
	default:
		e.Conditions.Ready, from = ptr.To(true), true
	}
	got, err := h.api.DiscoveryV1().EndpointSlices("default").Update(context.Background(), sl, metav1.UpdateOptions{})
	if err != nil {
		panic(err) // there is no other writer
	}
	h.slices[at] = got
	h.changes.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case from:
		h.from[n], h.last = revision(got), int(n)
	case to:
		h.to[n] = revision(got)
	}
}

// newest is the number that became ready last, if it still is.
func (h *history) newest() (int, bool) { return h.last, h.last > 0 && h.to[h.last] == 0 }

// settle waits until all writes that have begun are in the history: then it has all that an answer that has come by now can know.
func (h *history) settle() {
	for hand := range h.hands {
		for n := h.begun[hand].Load(); h.entered[hand].Load() < n; {
			time.Sleep(time.Millisecond) // between looks at a counter
		}
	}
}

// existed tells whether at some revision all these numbers were ready and, going round in the order of numbers, none between two that follow
// each other.
func (h *history) existed(set []int32) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	lo, hi := int64(0), int64(1<<62)
	seen := make(map[int32]bool, len(set))
	for _, n := range set {
		if int(n) >= len(h.from) || h.from[n] == 0 {
			return fmt.Errorf("%s was never ready", address(int(n)))
		}
		if seen[n] {
			return fmt.Errorf("%s is there twice", address(int(n)))
		}
		seen[n] = true
		lo = max(lo, h.from[n])
		if h.to[n] != 0 {
			hi = min(hi, h.to[n])
		}
	}
	if lo >= hi {
		return fmt.Errorf("%d addresses were never ready all together: one is since revision %d, one until %d", len(set), lo, hi)
	}
	// Each one that is passed over must have been not ready: that leaves revisions from lo up to hi in which it could have been so.
	type span struct{ from, to int64 }
	var passed []span
	for i := range len(set) - 1 {
		for n := set[i] + 1; n != set[i+1]; n++ {
			if int(n) >= len(h.from) {
				n = -1 // round
				continue
			}
			to := h.to[n]
			if to == 0 {
				to = 1 << 62
			}
			if f := h.from[n]; f != 0 && f < hi && to > lo {
				passed = append(passed, span{f, to})
			}
		}
	}
	for at := lo; ; {
		next := at
		for _, s := range passed {
			if s.from <= next && s.to > next {
				next = s.to
			}
		}
		switch {
		case next >= hi:
			return fmt.Errorf("%d addresses pass over one that was ready whenever these were, from revision %d to %d", len(set), lo, hi)
		case next == at:
			return nil
		}
		at = next
	}
}

// TestHistory: what TestChurn would find wrong.
func TestHistory(t *testing.T) {
	t.Parallel()
	// Number 1 ends when 3 becomes ready, at revision 7, and 4 never does; 2 is ready from 3 to 5, while 5 comes later.
	h := &history{from: []int64{1, 1, 3, 7, 0, 9}, to: []int64{0, 7, 5, 0, 0, 0}}
	for _, c := range []struct {
		set     []int32
		existed bool
	}{
		{[]int32{0, 1, 2}, true}, {[]int32{0, 1}, true}, {[]int32{1, 0}, true}, {[]int32{0, 3}, true}, {[]int32{3, 5, 0}, true}, {[]int32{3, 0}, true}, {[]int32{2, 0}, true},
		{[]int32{0, 1, 3}, false}, // never together
		{[]int32{0, 2}, false},    // passes over 1
		{[]int32{0, 5}, false},    // passes over 3
		{[]int32{0, 4}, false}, {[]int32{0, 9}, false}, {[]int32{0, 1, 0}, false},
	} {
		if err := h.existed(c.set); (err == nil) != c.existed {
			t.Errorf("%v: %v, want existed = %t", c.set, err, c.existed)
		}
	}
}
