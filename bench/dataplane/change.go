package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"fairway.dev/fairway/bench/figures"
)

// changeLimit bounds the wait for one change.
const changeLimit = time.Minute

// change replaces one endpoint and waits until that is in force. It gives the time from the API's answer; the watch may be faster than the answer to
// who wrote.
func (s *subject) change(ctx context.Context, c *commits) (ms float64, err error) {
	slice, fresh := s.api.next()
	at := make(chan time.Time, 1)
	c.expect(fresh, func(t time.Time) { at <- t })
	acknowledged, err := s.api.put(ctx, slice, fresh)
	if err != nil {
		return 0, err
	}
	select {
	case t := <-at:
		return max(0, t.Sub(acknowledged).Seconds()*1000), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(changeLimit):
		return 0, fmt.Errorf("endpointslice %s: %v is not in the kernel %v after the change", slice.Name, fresh, changeLimit)
	}
}

// oneAtATime measures changes of which each begins when the one before is in force.
func (s *subject) oneAtATime(ctx context.Context) error {
	c, err := s.room.watchCommits()
	if err != nil {
		return err
	}
	defer c.close()
	var ms []float64
	for begin := time.Now(); len(ms) < s.changes && time.Since(begin) < time.Minute; {
		d, err := s.change(ctx, c)
		if err != nil {
			return err
		}
		ms = append(ms, d)
	}
	s.tell("one at a time", "change-to-kernel", ms)
	_, err = c.state()
	return err
}

// afterQuiet measures changes that come after some seconds without any.
func (s *subject) afterQuiet(ctx context.Context) error {
	c, err := s.room.watchCommits()
	if err != nil {
		return err
	}
	defer c.close()
	var ms []float64
	for range s.quiet {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2500 * time.Millisecond):
		}
		d, err := s.change(ctx, c)
		if err != nil {
			return err
		}
		ms = append(ms, d)
	}
	if len(ms) > 0 {
		s.say("change to kernel, after 2.5 s without any, %d: p50 %.2f ms, max %.2f ms", len(ms), figures.Median(ms), figures.Percentile(ms, 100))
		s.note("change-to-kernel-after-quiet-p50", figures.Median(ms), "ms")
	}
	return nil
}

// atRate measures changes that come so many per second, whether those before are in force or not, and what they cost.
func (s *subject) atRate(ctx context.Context) error {
	c, err := s.room.watchCommits()
	if err != nil {
		return err
	}
	defer c.close()
	before, err := s.processor()
	if err != nil {
		return err
	}
	var (
		mu    sync.Mutex
		ms    []float64
		first error
		all   sync.WaitGroup
	)
	total := int(float64(s.rate) * s.during.Seconds())
	begin := time.Now()
	for i := range total {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(s.rate)))):
		}
		all.Go(func() {
			d, err := s.change(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			if ms = append(ms, d); err != nil && first == nil {
				first = err
			}
		})
	}
	written := time.Since(begin)
	all.Wait()
	if first != nil {
		return first
	}
	count, err := c.state()
	if err != nil {
		return err
	}
	after, err := s.processor()
	if err != nil {
		return err
	}
	each := (after - before).Seconds() * 1000 / float64(total)
	s.tell(fmt.Sprintf("at %.0f a second, in %d transactions", float64(total)/written.Seconds(), count), fmt.Sprintf("change-to-kernel-at-%d-per-second", s.rate), ms)
	s.say("CPU of a change at that rate: %.2f ms", each)
	s.note("cpu-per-change", each, "ms")
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settled):
	}
	resident, err := s.memory("VmRSS")
	if err != nil {
		return err
	}
	s.say("memory after %s of changes: %.0f MiB", s.during, resident)
	s.note("memory", resident, "MiB")
	return nil
}

func (s *subject) tell(how, name string, ms []float64) {
	s.say("change to kernel, %s, %d: p50 %.2f ms, p90 %.2f ms, p99 %.2f ms, max %.2f ms", how, len(ms),
		figures.Median(ms), figures.Percentile(ms, 90), figures.Percentile(ms, 99), figures.Percentile(ms, 100))
	s.note(name+"-p50", figures.Median(ms), "ms")
	s.note(name+"-p99", figures.Percentile(ms, 99), "ms")
}

// firstFresh is the first address that a changed endpoint gets; no other address of the world is as high.
const firstFresh = 240<<16 | 10<<24 // 10.240.0.0

func freshAddr(i int) netip.Addr {
	n := uint32(firstFresh + 1 + i)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}
