// Package probe asks a container again and again whether it is well.
//
// Contract. Run is one startup, readiness or liveness probe: it blocks until its context ends and reports each change of the
// verdict, by the thresholds, delays and periods of the Kubernetes API. What a single attempt is, is up to the caller; Attempt makes the
// network ones with Kubernetes' own probers. A failed attempt is never an error of Run.
//
// To debug: the node writes an Unhealthy event for each failed attempt. To test: Run with attempts from a table.
package probe

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Result is how one attempt ended.
type Result struct {
	OK     bool
	Output string // what to tell the user
}

// Kind says what a probe's verdict means.
type Kind int

// The kinds of probes.
const (
	Startup Kind = iota
	Readiness
	Liveness
)

func (k Kind) String() string { return [...]string{"Startup", "Readiness", "Liveness"}[k] }

// Task is one probe of one container that runs.
type Task struct {
	Kind      Kind
	Probe     *corev1.Probe // with its defaults set, as the API serves it
	StartedAt time.Time     // of the container: the initial delay counts from here
	Attempt   func(context.Context) Result
	Verdict   func(ok bool) // called when the verdict changes; the first one is a change
	Failed    func(Result)  // called for each failed attempt that counts
}

// quick are the distances of the early attempts of a readiness or startup probe.
var quick = []time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond,
	160 * time.Millisecond, 320 * time.Millisecond, 640 * time.Millisecond,
}

// Run probes until ctx ends.
//
// A program needs some milliseconds until it listens, and the API's shortest period is a second. So that a Pod does not stay
// unready that long, a readiness or startup probe over the network makes a few attempts in quick succession at first. They count only
// if they succeed: the thresholds for failure are those of the regular attempts.
func (t Task) Run(ctx context.Context) {
	period := seconds(t.Probe.PeriodSeconds, 10)
	failures, successes := max(t.Probe.FailureThreshold, 1), max(t.Probe.SuccessThreshold, 1)
	if !sleep(ctx, time.Until(t.StartedAt.Add(time.Duration(t.Probe.InitialDelaySeconds)*time.Second))) {
		return
	}
	begun := time.Now()
	attempt := func() Result {
		limited, cancel := context.WithTimeout(ctx, seconds(t.Probe.TimeoutSeconds, 1))
		defer cancel()
		return t.Attempt(limited)
	}
	var good, bad int32
	var verdict, known bool
	judge := func(r Result, early bool) {
		if ctx.Err() != nil {
			return
		}
		if r.OK {
			good, bad = good+1, 0
		} else {
			good = 0
			if early {
				return
			}
			bad++
			t.Failed(r)
		}
		if ok := good >= successes; ok || bad >= failures {
			if !known || ok != verdict {
				verdict, known = ok, true
				t.Verdict(ok)
			}
		}
	}
	first := attempt()
	early := t.Kind != Liveness && t.Probe.Exec == nil
	if first.OK || !early {
		judge(first, false)
	} else {
		for _, pause := range quick {
			if time.Since(begun)+pause >= period || !sleep(ctx, pause) {
				break
			}
			if first = attempt(); first.OK {
				judge(first, true)
				break
			}
		}
		if !first.OK {
			judge(first, false)
		}
	}
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			judge(attempt(), false)
		}
	}
}

func seconds(n, otherwise int32) time.Duration {
	if n <= 0 {
		n = otherwise
	}
	return time.Duration(n) * time.Second
}

// sleep waits and tells whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}
