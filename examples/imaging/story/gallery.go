package story

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// galleryClient is the name under which the gallery's own requests are counted.
const galleryClient = "gallery, by name"

// galleryStats is what the gallery's /stats answers.
type galleryStats struct {
	Requests int64            `json:"requests"`
	Failures int64            `json:"failures"`
	Servers  map[string]int64 `json:"byServer"`
	Versions map[string]int64 `json:"byVersion"`
	Errors   []Failure        `json:"errors"`
}

// galleryWatch reads the statistics of the gallery and counts what is new in them.
type galleryWatch struct {
	asker asker
	l     *ledger

	mu   sync.Mutex
	last galleryStats
}

// run reads twice a second until ctx ends.
func (g *galleryWatch) run(ctx context.Context) {
	defer g.asker.transport.CloseIdleConnections()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.read(ctx)
		}
	}
}

// read counts what happened since the last read. That the statistics cannot be read is a failed request like any other.
func (g *galleryWatch) read(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	begin := time.Now()
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	now, err := g.fetch(asking)
	if err != nil {
		g.l.failed(galleryClient, begin, time.Now(), "statistics: "+err.Error())
		return
	}
	if now.Requests < g.last.Requests { // it was started again
		g.last = galleryStats{}
	}
	answers, failures, unseen := since(g.last, now)
	g.last = now
	g.l.add(galleryClient, answers, failures, unseen)
}

func (g *galleryWatch) fetch(ctx context.Context) (galleryStats, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.asker.url, nil)
	if err != nil {
		return galleryStats{}, err
	}
	_, body, err := g.asker.do(req)
	if err != nil {
		return galleryStats{}, err
	}
	var s galleryStats
	if err := json.Unmarshal(body, &s); err != nil {
		return galleryStats{}, fmt.Errorf("%q: %w", body[:min(len(body), 100)], err)
	}
	return s, nil
}

// since is what now has more than before. The gallery counts Pods and versions apart; a Pod is taken to be of
// the one version that grew, or of none that is known if several did.
func since(before, now galleryStats) (answers map[answer]int64, failures []Failure, unseen int64) {
	answers = map[answer]int64{}
	var version string
	grown := 0
	for v, n := range now.Versions {
		if n > before.Versions[v] {
			version = v
			grown++
		}
	}
	if grown != 1 {
		version = ""
	}
	for server, n := range now.Servers {
		if more := n - before.Servers[server]; more > 0 {
			answers[answer{servedBy: server, version: version}] = more
		}
	}
	failed := max(0, now.Failures-before.Failures)
	known := min(failed, int64(len(now.Errors)))
	return answers, now.Errors[int64(len(now.Errors))-known:], failed - known
}
