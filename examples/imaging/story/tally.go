package story

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Failure is one request that failed, or was answered with something else than what it asked for.
type Failure struct {
	Phase   string    `json:"phase"`
	Client  string    `json:"client"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	Error   string    `json:"error"`
	Excuse  string    `json:"excuse,omitempty"` // why it does not count against the system; see excuse.go
}

// answer is what one good request tells.
type answer struct{ servedBy, version string }

// tally counts for one client in one phase.
type tally struct {
	answers  map[answer]int64
	failures []Failure
	unseen   int64           // failures of which only the number is known
	took     []time.Duration // of each good request
}

func (a *tally) requests() int64 {
	n := int64(len(a.failures)) + a.unseen
	for _, k := range a.answers {
		n += k
	}
	return n
}

// ledger counts for all clients. A request belongs to the phase in which it ended. Its methods may be called by any goroutine.
type ledger struct {
	mu      sync.Mutex
	phase   string
	clients []string                     // in the order of the report
	tallies map[string]map[string]*tally // phase, client
	window  map[answer]bool              // since mark
}

// newLedger counts for the named clients; others that come are added after them.
func newLedger(clients ...string) *ledger {
	return &ledger{clients: clients, tallies: map[string]map[string]*tally{}, window: map[answer]bool{}}
}

// begin starts a phase. Requests that end from now on belong to it.
func (l *ledger) begin(phase string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase = phase
	l.tallies[phase] = map[string]*tally{}
}

// of gives the tally of a client in the present phase; the lock is held.
func (l *ledger) of(client string) *tally {
	if !slices.Contains(l.clients, client) {
		l.clients = append(l.clients, client)
	}
	a := l.tallies[l.phase][client]
	if a == nil {
		a = &tally{answers: map[answer]int64{}}
		l.tallies[l.phase][client] = a
	}
	return a
}

func (l *ledger) answered(client string, a answer, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.of(client)
	t.answers[a]++
	l.saw(a)
	t.took = append(t.took, took)
}

func (l *ledger) failed(client string, started, ended time.Time, err string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.of(client)
	t.failures = append(t.failures, Failure{Phase: l.phase, Client: client, Started: started, Ended: ended, Error: err})
}

// add counts answers and failures that a client has counted by itself.
func (l *ledger) add(client string, answers map[answer]int64, failures []Failure, unseen int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.of(client)
	for a, n := range answers {
		if n > 0 {
			t.answers[a] += n
			l.saw(a)
		}
	}
	for _, f := range failures {
		f.Phase, f.Client = l.phase, client
		t.failures = append(t.failures, f)
	}
	t.unseen += unseen
}

// saw remembers an answer for heard; the lock is held.
func (l *ledger) saw(a answer) {
	if a.servedBy != "" {
		l.window[a] = true
	}
}

// mark begins a new window for heard.
func (l *ledger) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.window = map[answer]bool{}
}

// heard are the different answers since mark.
func (l *ledger) heard() []answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.window))
}

// phaseReport sums up a phase, with a row for every client that was ever seen.
func (l *ledger) phaseReport(phase string, k *kill) Phase {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := Phase{Name: phase, All: l.row(phase, k, l.clients...)}
	for _, c := range l.clients {
		r := l.row(phase, k, c)
		r.Client = c
		p.Clients = append(p.Clients, r)
	}
	return p
}

// row gives what some clients did in a phase, together; the lock is held.
func (l *ledger) row(phase string, k *kill, clients ...string) Row {
	var (
		r    Row
		took []time.Duration
	)
	for _, client := range clients {
		t := l.tallies[phase][client]
		if t == nil {
			continue
		}
		r.Requests += t.requests()
		r.Failures += int64(len(t.failures)) + t.unseen
		for a := range t.answers {
			r.Servers, r.Versions = append(r.Servers, a.servedBy), append(r.Versions, a.version)
		}
		for _, f := range t.failures {
			if f.Excuse = k.excuse(f); f.Excuse != "" {
				r.Excused++
			}
			r.Failed = append(r.Failed, f)
		}
		took = append(took, t.took...)
	}
	r.Servers, r.Versions = distinct(r.Servers), distinct(r.Versions)
	slices.Sort(took)
	r.P50, r.P99, r.Max = quantile(took, 0.50), quantile(took, 0.99), quantile(took, 1)
	return r
}

// quantile of sorted values; 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// distinct sorts, and leaves out what is empty or there twice.
func distinct(s []string) []string {
	s = slices.DeleteFunc(s, func(v string) bool { return v == "" })
	slices.Sort(s)
	return slices.Compact(s)
}
