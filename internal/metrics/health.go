package metrics

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Health is the answer of /healthz and /livez, in kube-proxy's form.
type Health struct {
	LastUpdated time.Time `json:"lastUpdated"`
	CurrentTime time.Time `json:"currentTime"`
	// NodeEligible is false when the node is not known or about to go, and nil in answers of /livez.
	NodeEligible *bool                   `json:"nodeEligible,omitempty"`
	Healthy      bool                    `json:"healthy"`
	Status       map[string]FamilyHealth `json:"status,omitempty"`
}

// FamilyHealth is the health of one IP family.
type FamilyHealth struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// Healthy is true while no change has waited for longer than a minute to be in force. Before the first full state there is nothing to wait
// for.
func (l *Line) Healthy() bool { return l.health(time.Now()).Healthy }

func (l *Line) health(now time.Time) Health {
	snap := l.cfg.Store.Snapshot()
	l.mu.Lock()
	defer l.mu.Unlock()
	h := Health{CurrentTime: now, LastUpdated: l.inForce, Healthy: true}
	if snap.Synced {
		if l.synced.IsZero() {
			l.synced = now
		}
		if len(l.pending) > 0 {
			since := l.pending[0].seen
			if l.synced.After(since) { // before that it was held back on purpose
				since = l.synced
			}
			h.Healthy = now.Sub(since) < stale
		}
	}
	if !l.inForce.IsZero() {
		h.Status = map[string]FamilyHealth{}
		for _, f := range families {
			h.Status[f] = FamilyHealth{l.inForce, h.Healthy}
		}
	}
	return h
}

// eligible tells whether load balancers may send to this node: it is known, it does not go (KEP-3836), and a first full state was put in
// force.
func (l *Line) eligible() bool {
	n := l.cfg.Store.Snapshot().Node(l.cfg.Node)
	l.mu.Lock()
	defer l.mu.Unlock()
	return n != nil && !n.Leaving && !l.inForce.IsZero()
}

// ServeHealthz answers GET /healthz, which load balancers ask: 503 while rules do not follow, and when the node is about to go.
func (l *Line) ServeHealthz(w http.ResponseWriter, _ *http.Request) {
	h := l.health(time.Now())
	eligible := l.eligible()
	h.NodeEligible = &eligible
	code := write(w, h, h.Healthy && eligible)
	l.healthz.WithLabelValues(code).Inc()
}

// ServeLivez answers GET /livez, which the kubelet asks: 503 while rules do not follow.
func (l *Line) ServeLivez(w http.ResponseWriter, _ *http.Request) {
	h := l.health(time.Now())
	l.livez.WithLabelValues(write(w, h, h.Healthy)).Inc()
}

func write(w http.ResponseWriter, h Health, ok bool) (code string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	status := http.StatusServiceUnavailable
	if ok {
		status = http.StatusOK
		h.LastUpdated = h.CurrentTime // kube-proxy says so of one that is healthy, whenever there was something to do
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(h)
	return strconv.Itoa(status)
}
