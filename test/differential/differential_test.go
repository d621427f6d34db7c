package differential

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCases runs what is in testdata.
func TestCases(t *testing.T) {
	t.Parallel()
	total := 0
	for _, file := range []string{
		"services-create.txt", "services-update.txt", "services-patch.txt", "services-apply.txt", "services-dry.txt", "services-status.txt", "services-life.txt",
		"servicecidrs.txt", "endpoints.txt", "endpointslices.txt", "ingresses.txt", "ingressclasses.txt", "ipaddresses.txt",
	} {
		cases := readCases(t, file)
		total += len(cases)
		on := pairs
		if file == "servicecidrs.txt" {
			on = []*pair{cidrPair}
		}
		for _, p := range on {
			for _, c := range cases {
				t.Run(fmt.Sprintf("%s/%s/%s", strings.TrimSuffix(file, ".txt"), c.title, p.stack), func(t *testing.T) {
					t.Parallel()
					p.compare(t, c)
				})
			}
		}
	}
	t.Logf("%d cases", total)
}

// TestAlone runs what every other case would notice, one by one.
func TestAlone(t *testing.T) {
	for _, c := range readCases(t, "ingresses-alone.txt") {
		for _, p := range pairs {
			t.Run(c.title+"/"+p.stack, func(t *testing.T) { p.compare(t, c) })
		}
	}
}

var (
	freeSlots = func() chan int {
		free := make(chan int, slots)
		for i := range slots {
			free <- i
		}
		return free
	}()
	numbers atomic.Int64 // of the cases that were begun
)

func namespaceOf(number int) string { return fmt.Sprintf("case-%d", number) }

// attempts is how often a case is run before a difference is believed: chance may pick a port twice, on one server and not on the other.
const attempts = 2

// mostLost is how often a case is run again because upstream has lost track of an address (see lost).
const mostLost = 10

// compare runs a case on both servers.
func (p *pair) compare(t *testing.T, c testCase) {
	t.Helper()
	slot := <-freeSlots
	defer func() { freeSlots <- slot }()
	var difference string
	for attempt, losses := 0, 0; attempt < attempts; {
		number := int(numbers.Add(1))
		var err error
		if difference, err = p.run(t.Context(), c, number, slot); err != nil {
			t.Fatal(err)
		}
		if difference == "" {
			return
		}
		lost, err := p.lost(t.Context(), namespaceOf(number))
		switch {
		case err != nil:
			t.Fatal(err)
		case lost != "" && losses < mostLost:
			losses++
			t.Logf("once more, because upstream has lost track: %s", lost)
		default:
			attempt++
			t.Logf("attempt %d differs: %s", attempt, difference)
		}
	}
	t.Errorf("%d attempts differ", attempts)
}

// run runs a case once, and tells the first difference.
func (p *pair) run(ctx context.Context, c testCase, attempt, slot int) (difference string, err error) {
	upstream, ours := newSession(p.upstream, attempt, slot), newSession(p.ours, attempt, slot)
	upstream.forgetful = true
	for _, s := range []*session{upstream, ours} {
		if err := s.begin(ctx); err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, s.end(context.WithoutCancel(ctx), c)) }()
	}
	done := []string{"== " + c.title}
	for _, r := range append(slices.Clone(c.requests), request{verb: "list", name: "s", resource: c.resource}) {
		done = append(done, r.text(c.resource))
		want, have, err := both(ctx, upstream, ours, r)
		if err != nil {
			return "", fmt.Errorf("%s\n%w", strings.Join(done, "\n"), err)
		}
		if reason, skip := incomparable(want); skip {
			if have.code >= http.StatusInternalServerError {
				difference = fmt.Sprintf("%s\n%s, and ours answers %d", strings.Join(done, "\n"), reason, have.code)
			}
			return difference, nil
		}
		wantText, haveText := allow(r, upstream.normal(r, want), ours.normal(r, have))
		if wantText != haveText {
			return fmt.Sprintf("%s\n-upstream +ours\n%s", strings.Join(done, "\n"), cmp.Diff(strings.Split(wantText, "\n"), strings.Split(haveText, "\n"))), nil
		}
	}
	return "", nil
}

// both sends a request to both servers.
func both(ctx context.Context, upstream, ours *session, r request) (want, have *answer, err error) {
	failed := make(chan error, 1)
	go func() {
		var err error
		want, err = upstream.request(ctx, r)
		failed <- err
	}()
	have, err = ours.request(ctx, r)
	if e := <-failed; e != nil {
		return nil, nil, fmt.Errorf("upstream: %w", e)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("ours: %w", err)
	}
	return want, have, nil
}

func newSession(s *server, attempt, slot int) *session {
	return &session{
		server: s, namespace: namespaceOf(attempt), attempt: attempt, slot: slot,
		first: make(map[string]map[string]any), last: make(map[string]map[string]any), versions: make(map[string]any), external: make(map[string]bool), made: make(map[string]bool),
	}
}

func (s *session) begin(ctx context.Context) error {
	body := map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": s.namespace}}
	a, err := s.send(ctx, http.MethodPost, "/api/v1/namespaces", nil, "application/json", body)
	if err == nil && a.code != http.StatusCreated {
		err = fmt.Errorf("make namespace %s: %d %v", s.namespace, a.code, a.body)
	}
	return err
}

// end removes the objects of the case, so that the next one can choose the same numbers. Services go first.
func (s *session) end(ctx context.Context, c testCase) error {
	resources := []string{"services", c.resource}
	for _, r := range c.requests {
		resources = append(resources, r.resource)
	}
	done := make(map[string]bool)
	for _, resource := range resources {
		if done[resource] {
			continue
		}
		done[resource] = true
		items, err := s.items(ctx, s.collection(resource))
		if err != nil {
			return err
		}
		for _, item := range items {
			if err := s.remove(ctx, resource, item); err != nil {
				return err
			}
		}
	}
	return s.freeAddresses(ctx)
}

func (s *session) remove(ctx context.Context, resource string, item any) error {
	if !s.own(item) || nameOf(item) == "kubernetes" {
		return nil
	}
	path := s.collection(resource) + "/" + nameOf(item)
	if _, err := s.send(ctx, http.MethodDelete, path, nil, "", nil); err != nil || resource == "servicecidrs" {
		return err // its finalizer is for its controller
	}
	if finalizers, _ := lookup(item, "metadata.finalizers"); finalizers != nil {
		patch := map[string]any{"metadata": map[string]any{"finalizers": nil}}
		if _, err := s.send(ctx, http.MethodPatch, path, nil, contentTypes["merge"], patch); err != nil {
			return err
		}
	}
	return nil
}
