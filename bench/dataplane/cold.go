package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// still is how long nothing may be committed before a start counts as over, if the Services then work.
	still = 4 * time.Second
	// settled is how long after that memory is looked at.
	settled = 5 * time.Second
	// startLimit bounds a start.
	startLimit = 5 * time.Minute
)

// sample is how far the API's data had come at a time.
type sample struct {
	at    time.Time
	bytes uint64
}

// cold starts the program and waits until all is programmed: the sentinels, Services among all the others, answer, and nothing is committed any more.
func (s *subject) cold(ctx context.Context) error {
	g, err := s.room.generations()
	if err != nil {
		return err
	}
	defer g.close()
	before, err := g.newest()
	if err != nil {
		return err
	}
	echo, err := s.room.serveEcho()
	if err != nil {
		return err
	}
	defer echo()
	begin := time.Now()
	if err := s.start(ctx); err != nil {
		return err
	}
	var samples []sample
	last, programmed, asked := before, begin, begin
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		now := time.Now()
		gen, err := g.newest()
		if err != nil {
			return err
		}
		if gen != last {
			last, programmed = gen, now
		}
		if n, err := carried(); err == nil && (len(samples) == 0 || n != samples[len(samples)-1].bytes) {
			samples = append(samples, sample{now, n})
		}
		if last != before && now.Sub(programmed) > still && now.Sub(asked) > time.Second {
			asked = now
			if err := s.room.asksSentinels(s.world); err == nil {
				break
			} else if now.Sub(begin) > startLimit {
				return fmt.Errorf("not programmed after %v: %w", startLimit, err)
			}
		}
		if now.Sub(begin) > startLimit {
			return fmt.Errorf("not programmed after %v", startLimit)
		}
	}
	arrived := begin
	var total uint64
	for _, x := range samples {
		if x.at.Before(programmed) {
			total = x.bytes
		}
	}
	for _, x := range samples {
		if arrived = x.at; x.bytes+64<<10 >= total {
			break
		}
	}
	cpu, err := s.processor()
	if err != nil {
		return err
	}
	peak, err := s.memory("VmHWM")
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settled):
	}
	resident, err := s.memory("VmRSS")
	if err != nil {
		return err
	}
	s.say("cold start: lists arrived after %.2f s (%.1f MB), all programmed after %.2f s, %d transactions, %.2f s of CPU, %.0f MiB (%.0f at most)",
		arrived.Sub(begin).Seconds(), float64(total)/1e6, programmed.Sub(begin).Seconds(), last-before, cpu.Seconds(), resident, peak)
	s.note("cold-start-to-programmed", programmed.Sub(begin).Seconds(), "s")
	s.note("lists-arrived-to-programmed", programmed.Sub(arrived).Seconds(), "s")
	s.note("cold-start-cpu", cpu.Seconds(), "s")
	s.note("memory-peak", peak, "MiB")
	return nil
}
