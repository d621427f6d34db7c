package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	"fairway.dev/fairway/examples/imaging/photos"
)

// operations is what the gallery asks for, of each photograph.
var operations = []operation{
	{"thumbnail", "op=thumbnail&w=220&h=160"},
	{"turned", "op=rotate&angle=90&quality=80"},
	{"gray", "op=gray&quality=80"},
}

// operation is a query of imaging and what to call it on the page.
type operation struct{ Title, Query string }

// Stats is what /stats answers.
type Stats struct {
	Early    int64            `json:"early"`    // requests that failed before imaging answered for the first time: it was not there yet
	Requests int64            `json:"requests"` // that ended since then, well or not
	Failures int64            `json:"failures"`
	Servers  map[string]int64 `json:"byServer"`  // answers by Pod
	Versions map[string]int64 `json:"byVersion"` // answers by version
	Errors   []Failure        `json:"errors"`    // the last ones, oldest first
}

// Failure is one request that failed.
type Failure struct {
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	Error   string    `json:"error"`
}

// keptFailures is how many errors /stats tells in full.
const keptFailures = 100

// asker asks by itself and counts.
type asker struct {
	backend     *backend
	rate        float64 // per second
	concurrency int

	mu    sync.Mutex
	stats Stats
}

func newAsker(b *backend, rate float64, concurrency int) *asker {
	return &asker{
		backend: b, rate: rate, concurrency: max(1, concurrency),
		stats: Stats{Servers: map[string]int64{}, Versions: map[string]int64{}},
	}
}

// run asks until ctx ends and every request that it made has ended. A request that is due while all of them are busy is left out:
// a slow backend gets no queue to work off afterwards.
func (a *asker) run(ctx context.Context) {
	if a.rate <= 0 {
		<-ctx.Done()
		return
	}
	var busy sync.WaitGroup
	defer busy.Wait()
	slots := make(chan struct{}, a.concurrency)
	tick := time.NewTicker(time.Duration(float64(time.Second) / a.rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
			busy.Go(func() {
				defer func() { <-slots }()
				a.once(ctx, n)
			})
		default:
		}
	}
}

// once makes the nth request, which goes through every operation of every photograph in turn.
func (a *asker) once(ctx context.Context, n int) {
	all := photos.All()
	started := time.Now()
	p, err := a.backend.ask(ctx, all[n%len(all)], operations[n/len(all)%len(operations)].Query)
	if errors.Is(err, context.Canceled) {
		return // we are leaving; the request tells nothing about imaging
	}
	a.count(p, err, started)
}

func (a *asker) count(p picture, err error, started time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil && len(a.stats.Servers) == 0 {
		a.stats.Early++
		return
	}
	a.stats.Requests++
	if err != nil {
		a.stats.Failures++
		a.stats.Errors = append(a.stats.Errors, Failure{Started: started, Ended: time.Now(), Error: err.Error()})
		if over := len(a.stats.Errors) - keptFailures; over > 0 {
			a.stats.Errors = append([]Failure(nil), a.stats.Errors[over:]...)
		}
		return
	}
	a.stats.Servers[p.ServedBy]++
	a.stats.Versions[p.Version]++
}

func (a *asker) snapshot() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stats
	s.Servers, s.Versions = maps.Clone(s.Servers), maps.Clone(s.Versions)
	s.Errors = append([]Failure{}, s.Errors...)
	return s
}

func (a *asker) serveStats(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(a.snapshot())
}
