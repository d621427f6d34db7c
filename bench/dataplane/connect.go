package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"fairway.dev/fairway/bench/figures"
)

const (
	connects   = 5000                   // how many connections are timed one after another, each way
	connectFor = 500 * time.Millisecond // how long as many as possible are opened, each way in turn
	rounds     = 8                      // and how often
	connecters = 4                      // by how many threads
)

// serveEcho listens at the addresses of the sentinels' endpoints and ends each connection that comes. Call the function to stop.
func (r *room) serveEcho() (stop func(), err error) {
	var l net.Listener
	if err := r.within(func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf(":%d", echoPort))
		return err
	}); err != nil {
		return nil, err
	}
	var serving sync.WaitGroup
	for range 2 {
		serving.Go(func() {
			for {
				c, err := l.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					c.Close()
				}
			}
		})
	}
	return func() { l.Close(); serving.Wait() }, nil
}

// asksSentinels connects to each of them.
func (r *room) asksSentinels(w world) error {
	return r.within(func() error {
		for i := range w.services {
			if w.sentinel(i) {
				if err := once(target(i)); err != nil {
					return fmt.Errorf("service %s: %w", serviceName(i), err)
				}
			}
		}
		return nil
	})
}

func target(i int) string { return net.JoinHostPort(clusterIP(i), "80") }

// once opens a connection, and cuts it, so that its port is free for the next one.
func once(addr string) error {
	c, err := dial(addr, time.Second)
	if err != nil {
		return err
	}
	_ = c.SetLinger(0)
	return c.Close()
}

// connect measures what a connection through a Service costs beside one straight to its endpoint.
func (s *subject) connect(ctx context.Context) error {
	stop, err := s.room.serveEcho()
	if err != nil {
		return err
	}
	defer stop()
	direct := net.JoinHostPort(echoAddrs()[0], fmt.Sprint(echoPort))
	through := target(0)
	var straight, service []float64
	if err := s.room.within(func() error {
		for range connects {
			for addr, list := range map[string]*[]float64{direct: &straight, through: &service} {
				begin := time.Now()
				if err := once(addr); err != nil {
					return err
				}
				*list = append(*list, float64(time.Since(begin).Nanoseconds())/1000)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	perSecond := map[string]float64{}
	for range rounds {
		for _, addr := range []string{direct, through} {
			n, err := s.room.hammer(ctx, addr)
			if err != nil {
				return err
			}
			perSecond[addr] += n / rounds
		}
	}
	s.say("connect and close, through a Service: p50 %.0f µs, p99 %.0f µs, %.0f a second; straight to the endpoint: %.0f µs, %.0f µs, %.0f a second",
		figures.Median(service), figures.Percentile(service, 99), perSecond[through],
		figures.Median(straight), figures.Percentile(straight, 99), perSecond[direct])
	s.note("connect-p50", figures.Median(service), "us")
	s.note("connect-p99", figures.Percentile(service, 99), "us")
	s.note("connect-direct-p50", figures.Median(straight), "us")
	s.note("connect-direct-p99", figures.Percentile(straight, 99), "us")
	s.note("connections-per-second", perSecond[through], "1/s")
	s.note("connections-per-second-direct", perSecond[direct], "1/s")
	s.note("connections-per-second-of-direct", 100*perSecond[through]/perSecond[direct], "%")
	return nil
}

// hammer opens connections as fast as it can, and gives how many a second.
func (r *room) hammer(ctx context.Context, addr string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, connectFor)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		total int
		first error
	)
	begin := time.Now()
	for range connecters {
		wg.Go(func() {
			n := 0
			err := r.within(func() error {
				for ; ctx.Err() == nil; n++ {
					if err := once(addr); err != nil {
						return err
					}
				}
				return nil
			})
			mu.Lock()
			defer mu.Unlock()
			if total += n; err != nil && first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	return float64(total) / time.Since(begin).Seconds(), first
}
