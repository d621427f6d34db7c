package discovery_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/testkit/questions"
)

// The size of TestChurn. The whole of it takes about half an hour:
//
//	go test ./test/discovery -run TestChurn -churn.queries 1000000 -churn.time 40m -churn.outage 5m -timeout 60m
var (
	churnEndpoints = flag.Int("churn.endpoints", 5000, "endpoints of the headless Service")
	churnClients   = flag.Int("churn.clients", 50, "clients that ask all the time")
	churnRate      = flag.Int("churn.rate", 200, "endpoint changes a second")
	churnAsk       = flag.Int("churn.ask", 1000, "questions a second of all clients together, at most")
	churnQueries   = flag.Int("churn.queries", 6_000, "how many questions are enough")
	churnTime      = flag.Duration("churn.time", 8*time.Second, "how long is enough")
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
	started := time.Now()
	var writers, clients, checker sync.WaitGroup
	for i := range h.hands {
		writers.Go(func() { h.change(ctx, i, *churnRate) })
	}
	answers := make(chan []int32, 1<<16)
	var asked, lost atomic.Int64
	done := make(chan struct{})
	for i := range *churnClients {
		clients.Go(func() {
			// One client in ten wants it all.
			network := "udp"
			if i%10 == 0 {
				network = "tcp"
			}
			c, err := net.Dial(network, srv.String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			pace := time.NewTicker(time.Second * time.Duration(*churnClients) / time.Duration(*churnAsk))
			defer pace.Stop()
			for {
				select {
				case <-done:
					return
				case <-pace.C:
				}
				asked.Add(1)
				set, err := askNumbers(c)
				if err != nil {
					lost.Add(1)
					t.Errorf("a question over %s: %v", network, err)
					return
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
			h.settle()
			for _, set := range batch {
				if err := h.existed(set); err != nil {
					t.Errorf("answer %d: %v", checked, err)
				}
				checked++
			}
		}
	})
	await := func(what string, part int) {
		enough, end, changes := int64(*churnQueries/part), started.Add(*churnTime/time.Duration(part)), h.changes.Load()
		for lost.Load() == 0 && !t.Failed() {
			if h.changes.Load() > changes && (asked.Load() >= enough || asked.Load() > 0 && time.Now().After(end)) {
				break
			}
			time.Sleep(10 * time.Millisecond) // between looks at a counter
		}
		t.Logf("%s: %d questions, %d changes", what, asked.Load(), h.changes.Load())
	}
	await("before the outage", 2)
	between.cut()
	time.Sleep(*churnOutage) // what is tested is that length of time
	t.Logf("the outage: %d questions so far, %d changes", asked.Load(), h.changes.Load())
	between.mend()
	await("after it", 1)
	took := time.Since(started)
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
	t.Logf("%d questions, %d answers checked, %d changes, %.0f a second, %d lost or denied", asked.Load(), checked, h.changes.Load(), float64(h.changes.Load())/took.Seconds(), lost.Load())
	if int64(checked) != asked.Load() {
		t.Errorf("%d answers to %d questions", checked, asked.Load())
	}
}

// askNumbers asks once for the Service's addresses and gives their numbers as they come. It reads only what such an answer looks like, since
// a library would take more time than the server.
func askNumbers(c net.Conn) ([]int32, error) {
	q := questions.Message(churnName, "A")
	q.Id = miekg.Id()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, err
	}
	conn := &miekg.Conn{Conn: c, UDPSize: 4096}
	if err := conn.WriteMsg(q); err != nil {
		return nil, err
	}
	b, err := conn.ReadMsgHeader(nil)
	if err != nil {
		return nil, err
	}
	at := 12 + len(churnName) + 2 + 4 // behind the question
	count := 0
	if len(b) >= at {
		count = int(binary.BigEndian.Uint16(b[6:]))
	}
	switch {
	case len(b) < at || binary.BigEndian.Uint16(b) != q.Id || b[2]&0x80 == 0:
		return nil, fmt.Errorf("no response to it: % x", b[:min(len(b), 12)])
	case b[3]&0xf != miekg.RcodeSuccess || count == 0:
		return nil, fmt.Errorf("denied: %s with %d records", miekg.RcodeToString[int(b[3]&0xf)], count)
	}
	set := make([]int32, count)
	for i := range set {
		// A pointer to the question, type A, class IN, the TTL, four bytes.
		if len(b) < at+16 || binary.BigEndian.Uint64(b[at:])>>16 != 0xc00c00010001 || binary.BigEndian.Uint16(b[at+10:]) != 4 {
			return nil, fmt.Errorf("record %d of %d is no address", i, count)
		}
		set[i] = number(netip.AddrFrom4([4]byte(b[at+12:])))
		at += 16
	}
	return set, nil
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
