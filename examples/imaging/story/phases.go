package story

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// phase is something that happens to the Pods while everybody keeps asking.
type phase struct {
	name string
	do   func(ctx context.Context) error // makes it happen, and waits until the Pods are as they should be afterwards
}

// heardFrom bounds the wait, after a phase has settled, until each Pod has answered somebody.
const heardFrom = 30 * time.Second

// stage is everything that the phases work with.
type stage struct {
	c       *cluster
	t       *teller
	l       *ledger
	gallery *galleryWatch
	report  *Report
}

func runPhases(ctx context.Context, o Options, c *cluster, at site, cert certificate, t *teller, r *Report) error {
	clients := outside(c.ns.DialContext, at, cert, o.Rate)
	l := newLedger(names(clients)...)
	s := &stage{c: c, t: t, l: l, report: r, gallery: &galleryWatch{
		l: l, asker: asker{&http.Transport{DialContext: c.ns.DialContext}, "http://" + at.gallery + "/stats"},
	}}
	phases := s.phases()
	// What the gallery asked before the first phase, while it waited for imaging to come, belongs to no phase of the report.
	l.begin("before")
	s.gallery.read(ctx)

	l.begin(phases[0].name)
	asking, stop := context.WithCancel(ctx)
	var busy sync.WaitGroup
	for _, client := range clients {
		busy.Go(func() { client.run(asking, l) })
	}
	busy.Go(func() { s.gallery.run(asking) })

	var err error
	done := 0
	for _, p := range phases {
		if done > 0 {
			s.gallery.read(ctx)
			l.begin(p.name)
		}
		done++
		if err = s.run(ctx, p, o.Phase); err != nil {
			err = fmt.Errorf("phase %q: %w", p.name, err)
			break
		}
	}
	stop()
	busy.Wait()
	s.gallery.read(context.WithoutCancel(ctx))
	for _, p := range phases[:done] {
		r.Phases = append(r.Phases, l.phaseReport(p.name, r.Kill))
	}
	return err
}

// run takes one phase to its end: the deed, the wait until it has settled, and then what nobody may see any more: answers of Pods that
// are gone.
func (s *stage) run(ctx context.Context, p phase, shortest time.Duration) error {
	defer s.t.step("phase: %s", p.name)()
	begin := time.Now()
	if err := p.do(ctx); err != nil {
		return err
	}
	pods, err := s.c.backends(ctx)
	if err != nil {
		return err
	}
	s.gallery.read(ctx)
	s.l.mark()
	if err := s.heard(ctx, pods); err != nil {
		return err
	}
	if rest := shortest - time.Since(begin); rest > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rest):
		}
	}
	if stray := strays(s.l.heard(), pods); stray != "" {
		s.report.Problems = append(s.report.Problems, fmt.Sprintf("%s: %s", p.name, stray))
	}
	return nil
}

// heard waits until each of the Pods has answered since the phase settled.
func (s *stage) heard(ctx context.Context, pods []corev1.Pod) error {
	return s.c.await(ctx, heardFrom, "an answer of every Pod", func(context.Context) (string, error) {
		heard := s.l.heard()
		var silent []string
		for _, p := range pods {
			if !slices.ContainsFunc(heard, func(a answer) bool { return a.servedBy == p.Name }) {
				silent = append(silent, p.Name)
			}
		}
		if len(silent) > 0 {
			return "nothing from " + strings.Join(silent, ", "), nil
		}
		return "", nil
	})
}

// strays says which answers came from a Pod that should be gone or from a version that should not run any more.
func strays(heard []answer, pods []corev1.Pod) string {
	var out []string
	for _, a := range heard {
		i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Name == a.servedBy })
		switch {
		case i < 0:
			out = append(out, a.servedBy+" answered after it was gone")
		case a.version != "" && !strings.HasSuffix(pods[i].Spec.Containers[0].Image, ":"+a.version):
			out = append(out, fmt.Sprintf("%s runs %s and answered as %s", a.servedBy, pods[i].Spec.Containers[0].Image, a.version))
		}
	}
	return strings.Join(distinct(out), ", ")
}

const (
	first  = "imaging:v1"
	second = "imaging:v2"
)

func (s *stage) phases() []phase {
	return []phase{
		{"3 replicas, nothing happens", func(ctx context.Context) error { return s.c.settled(ctx, 3, first, nil) }},
		{"scale 3 to 5", func(ctx context.Context) error { return s.scale(ctx, 5) }},
		{"scale 5 to 2", func(ctx context.Context) error { return s.scale(ctx, 2) }},
		{"kill -9 one process", s.kill},
		{"roll to imaging:v2", s.roll},
		{"delete a Pod", s.remove},
	}
}

func (s *stage) scale(ctx context.Context, n int) error {
	if _, err := s.c.kubectl(ctx, "scale", "deployment/imaging", fmt.Sprintf("--replicas=%d", n)); err != nil {
		return err
	}
	return s.c.settled(ctx, n, first, nil)
}

func (s *stage) roll(ctx context.Context) error {
	if _, err := s.c.kubectl(ctx, "set", "image", "deployment/imaging", "imaging="+second); err != nil {
		return err
	}
	if err := s.c.rolledOut(ctx, "deployment/imaging"); err != nil {
		return err
	}
	return s.c.settled(ctx, 2, second, nil)
}

func (s *stage) remove(ctx context.Context) error {
	pods, err := s.c.backends(ctx)
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		return errors.New("there is no Pod to delete")
	}
	gone := pods[0].Name
	if _, err := s.c.kubectl(ctx, "delete", "pod", gone, "--wait=false"); err != nil {
		return err
	}
	return s.c.settled(ctx, 2, second, func(pods []corev1.Pod) string {
		if slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Name == gone }) {
			return gone + " is still there"
		}
		return ""
	})
}

// kill ends the process of one Pod with SIGKILL and waits until the node has started it again.
func (s *stage) kill(ctx context.Context) error {
	pods, err := s.c.backends(ctx)
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		return errors.New("there is no Pod to kill")
	}
	victim := pods[0]
	pid, err := processOf(victim)
	if err != nil {
		return err
	}
	s.c.rememberCgroup(pid)
	k := &kill{Pod: victim.Name, PID: pid}
	s.report.Kill = k
	if err := k.strike(); err != nil {
		return fmt.Errorf("pod %s: kill process %d: %w", victim.Name, pid, err)
	}
	s.t.say("$ kill -9 %d   # the process of pod/%s", pid, victim.Name)
	return s.c.settled(ctx, 2, first, func(pods []corev1.Pod) string {
		for _, p := range pods {
			if p.UID == victim.UID && restarts(p) <= restarts(victim) {
				return p.Name + " has not been started again"
			}
		}
		return ""
	})
}
