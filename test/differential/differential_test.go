package differential

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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
	} {
		cases := readCases(t, file)
		total += len(cases)
		for _, p := range pairs {
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

var (
	freeSlots = func() chan int {
		free := make(chan int, slots)
		for i := range slots {
			free <- i
		}
		return free
	}()
	namespaces atomic.Int64
)

// attempts is how often a case is run before a difference is believed. Upstream's controller that repairs IPAddresses looks at Services
// through a cache: it may delete the address that an update has just taken, and make it again a moment later. And chance may
// pick a port twice.
const attempts = 3

// compare runs a case on both servers.
func (p *pair) compare(t *testing.T, c testCase) {
	t.Helper()
	slot := <-freeSlots
	defer func() { freeSlots <- slot }()
	var difference string
	for range attempts {
		var err error
		if difference, err = p.run(t.Context(), c, slot); err != nil {
			t.Fatal(err)
		}
		if difference == "" {
			return
		}
	}
	t.Error(difference)
}

// run runs a case once, and tells the first difference.
func (p *pair) run(ctx context.Context, c testCase, slot int) (difference string, err error) {
	namespace := fmt.Sprintf("case-%d", namespaces.Add(1))
	upstream, ours := newSession(p.upstream, namespace, slot), newSession(p.ours, namespace, slot)
	for _, s := range []*session{upstream, ours} {
		if err := s.begin(ctx); err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, s.end(context.WithoutCancel(ctx), c.resource)) }()
	}
	done := []string{"== " + c.title}
	for _, r := range append(slices.Clone(c.requests), request{verb: "list", name: "s", resource: c.resource}) {
		done = append(done, r.String())
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

func newSession(s *server, namespace string, slot int) *session {
	return &session{
		server: s, namespace: namespace, slot: slot,
		first: make(map[string]map[string]any), last: make(map[string]map[string]any), versions: make(map[string]any), external: make(map[string]bool),
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

// end removes the objects of the case, so that the next one can choose the same numbers.
func (s *session) end(ctx context.Context, resource string) error {
	list, err := s.send(ctx, http.MethodGet, s.collection(resource), nil, "", nil)
	if err != nil {
		return err
	}
	items, _ := list.body["items"].([]any)
	for _, item := range items {
		name := nameOf(item)
		if finalizers, _ := lookup(item, "metadata.finalizers"); finalizers != nil {
			patch := map[string]any{"metadata": map[string]any{"finalizers": nil}}
			if _, err := s.send(ctx, http.MethodPatch, s.collection(resource)+"/"+name, nil, contentTypes["merge"], patch); err != nil {
				return err
			}
		}
		if _, err := s.send(ctx, http.MethodDelete, s.collection(resource)+"/"+name, nil, "", nil); err != nil {
			return err
		}
	}
	return nil
}

// request sends a request and remembers what it answers about an object.
func (s *session) request(ctx context.Context, r request) (*answer, error) {
	a, err := s.do(ctx, r)
	if err != nil {
		return nil, err
	}
	if a.body != nil && a.body["kind"] != "Status" && a.body["items"] == nil && !r.dry {
		name := nameOf(a.body)
		if s.first[name] == nil {
			s.first[name] = a.body
		}
		s.last[name] = a.body
		return a, s.catchUp(ctx, r, a.body)
	}
	return a, nil
}

// catchUp waits until the server's cache has what was written. A write that starts from an outdated cache is tried twice, and
// upstream then loses what the first try has allocated.
func (s *session) catchUp(ctx context.Context, r request, written map[string]any) error {
	version, _ := lookup(written, "metadata.resourceVersion")
	_, err := s.send(ctx, http.MethodGet, s.collection(r.resource)+"/"+nameOf(written), url.Values{"resourceVersion": {fmt.Sprint(version)}}, "", nil)
	return err
}
