package discovery_test

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/testkit/questions"
)

// The size of TestChurn. The whole of it takes about half an hour:
//
//	go test ./test/discovery -run TestChurn -churn.queries 1000000 -churn.outage 5m -timeout 40m
var (
	churnEndpoints = flag.Int("churn.endpoints", 5000, "endpoints of the headless Service")
	churnClients   = flag.Int("churn.clients", 50, "clients that ask all the time")
	churnRate      = flag.Int("churn.rate", 200, "endpoint changes a second")
	churnQueries   = flag.Int("churn.queries", 10_000, "questions to ask at least")
	churnOutage    = flag.Duration("churn.outage", time.Second, "how long the API is away in the middle")
)

const churnName = "churn.default.svc.cluster.local"

// TestChurn: endpoints of a large headless Service come, end and are replaced all the time while clients ask, and the API goes away for a
// while. Every answer is part of a set that existed, an unbroken run of it in the order of addresses; none is a denial, and none is lost.
func TestChurn(t *testing.T) {
	t.Parallel()
	a := startAPI(t)
	h := newHistory(t, a, *churnEndpoints)
	between := newCable(t, a.config.Host)
	config := rest.CopyConfig(a.config)
	config.Host = between.url
	srv, _ := serve(t, config, dns.Config{})
	eventually(t, "all endpoints", func() bool {
		m := questions.Exchange(t, srv, "udp", questions.Message(name(*churnEndpoints-1)+"."+churnName, "A"))
		return len(m.Answer) == 1
	})

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writers, clients, checker sync.WaitGroup
	const hands = 16 // a write takes its time
	for i := range hands {
		writers.Go(func() { h.change(ctx, i, hands, time.Second*hands/time.Duration(*churnRate)) })
	}
	answers := make(chan []int32, 1<<16)
	var asked, lost, denied atomic.Int64
	done := make(chan struct{})
	for i := range *churnClients {
		clients.Go(func() {
			// One client in ten wants it all.
			network := "udp"
			if i%10 == 0 {
				network = "tcp"
			}
			c := &miekg.Client{Net: network, Timeout: 20 * time.Second, UDPSize: 4096}
			q := questions.Message(churnName, "A")
			conn, err := c.Dial(srv.String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for {
				select {
				case <-done:
					return
				default:
				}
				q.Id = miekg.Id()
				asked.Add(1)
				m, _, err := c.ExchangeWithConn(q, conn)
				switch {
				case err != nil:
					lost.Add(1)
					t.Errorf("a question is lost: %v", err)
					return
				case m.Rcode != miekg.RcodeSuccess || len(m.Answer) == 0:
					denied.Add(1)
					t.Errorf("an answer says %s and has %d records", miekg.RcodeToString[m.Rcode], len(m.Answer))
					return
				}
				set := make([]int32, 0, len(m.Answer))
				for _, rr := range m.Answer {
					a, _ := netip.AddrFromSlice(rr.(*miekg.A).A.To4())
					set = append(set, number(a))
				}
				answers <- set
			}
		})
	}
	checked := 0
	checker.Go(func() {
		for more := true; more; {
			var batch [][]int32
			for set := range drain(answers, &more) {
				batch = append(batch, set)
			}
			h.settled(func() {
				for _, set := range batch {
					if err := h.existed(set); err != nil {
						t.Errorf("answer %d: %v", checked, err)
					}
					checked++
				}
			})
		}
	})
	await := func(what string, queries int64) {
		for asked.Load() < queries && lost.Load()+denied.Load() == 0 && !t.Failed() {
			time.Sleep(10 * time.Millisecond) // between looks at a counter
		}
		t.Logf("%s: %d questions, %d changes", what, asked.Load(), h.changes.Load())
	}
	await("before the outage", int64(*churnQueries/3))
	between.cut()
	time.Sleep(*churnOutage) // what is tested is that length of time
	t.Logf("the outage: %d questions so far, %d changes", asked.Load(), h.changes.Load())
	between.mend()
	await("after it", int64(*churnQueries))
	cancel()
	writers.Wait()
	if last, ok := h.newest(); ok {
		eventually(t, "the last change", func() bool {
			return len(questions.Exchange(t, srv, "udp", questions.Message(name(last)+"."+churnName, "A")).Answer) == 1
		})
	}
	close(done)
	clients.Wait()
	close(answers)
	checker.Wait()
	t.Logf("%d questions, %d answers checked, %d changes, %d lost, %d denied", asked.Load(), checked, h.changes.Load(), lost.Load(), denied.Load())
	if int64(checked) != asked.Load() {
		t.Errorf("%d answers to %d questions", checked, asked.Load())
	}
}

// drain gives what is there, waiting for one at least; more becomes false at the end.
func drain(answers chan []int32, more *bool) func(func([]int32) bool) {
	return func(yield func([]int32) bool) {
		set, ok := <-answers
		for n := 0; ok && yield(set) && n < 1<<14; n++ {
			select {
			case set, ok = <-answers:
			default:
				return
			}
		}
		*more = *more && ok
	}
}

// history is the Service, and when each address was ready. An address is a number and never used again, in the order of numbers.
type history struct {
	api     *api
	slices  []*discoveryv1.EndpointSlice
	changes atomic.Int64

	gate sync.RWMutex // held for reading while a write is on its way
	mu   sync.Mutex   // guards what follows
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
	h := &history{api: a}
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
// is replaced by a new one that is not ready, and that one becomes ready, as Pods do.
func (h *history) change(ctx context.Context, hand, hands int, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		mine := (len(h.slices) - hand + hands - 1) / hands
		at, visit := hand+hands*(i%mine), i/mine
		h.gate.RLock()
		h.one(at, visit/3)
		h.gate.RUnlock()
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

// settled runs f while no write is on its way: whatever an answer that has come can know, is known here.
func (h *history) settled(f func()) {
	h.gate.Lock()
	defer h.gate.Unlock()
	f()
}

// existed tells whether at some revision all these numbers were ready and, going round in the order of numbers, none between two that follow
// each other.
func (h *history) existed(set []int32) error {
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
