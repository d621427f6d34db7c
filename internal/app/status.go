package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"fairway.dev/fairway/internal/metrics"
	"fairway.dev/fairway/internal/store"
)

// Status is what `fairway status` shows, and the JSON of its -o json. Fields are only ever added.
type Status struct {
	Name      string           `json:"name"`
	Role      string           `json:"role"`
	Version   string           `json:"version"`
	PID       int              `json:"pid"`
	Started   time.Time        `json:"started"`
	API       string           `json:"api"`
	Node      string           `json:"node"`
	Revision  uint64           `json:"revision"`
	Waiting   []string         `json:"waiting,omitempty"` // sources without a first full list
	Consumers []ConsumerStatus `json:"consumers"`
	Services  int              `json:"services"`
	Endpoints EndpointCount    `json:"endpoints"`
	Ingresses int              `json:"ingresses"`
	Listeners []Listener       `json:"listeners"`
	MemoryRSS int64            `json:"memoryBytes"`
	// Programming is how long changes took from their arrival from the API to the kernel.
	Programming metrics.Latency `json:"programming"`
	Problems    []string        `json:"problems,omitempty"` // of Fairway: something that nobody gets, or not all
	Objects     []string        `json:"objects,omitempty"`  // that are not in force as they are, each with the reason
	Kubeconfig  string          `json:"kubeconfig,omitempty"`
}

// ConsumerStatus is how far one consumer is.
type ConsumerStatus struct {
	Name     string            `json:"name"`
	Revision uint64            `json:"revision"`
	Age      string            `json:"since,omitempty"` // since its last report
	Error    string            `json:"error,omitempty"`
	Failed   map[string]string `json:"failed,omitempty"`
}

// EndpointCount counts endpoints by what they are good for.
type EndpointCount struct {
	Ready       int `json:"ready"`
	Terminating int `json:"terminating"`
	NotReady    int `json:"notReady"`
}

// Listener is one socket that is open for users.
type Listener struct {
	What string `json:"what"`
	Addr string `json:"address"`
}

// Healthy is true when every source has delivered, and every consumer has the newest revision in force, or is about to. An object that makes
// no sense is the business of whoever wrote it, and does not count.
func (s *Status) Healthy() bool { return len(s.Problems) == 0 }

// reporter answers status questions of one running process.
type reporter struct {
	base    Status // what does not change
	store   *store.Store
	meter   *metrics.Line
	trouble func() error // with an API in this process; nil on an agent
	explain http.HandlerFunc
}

func (r *reporter) status() Status {
	s := r.base
	snap := r.store.Snapshot()
	s.Revision, s.Services, s.Ingresses = uint64(snap.Revision), snap.Services.Len(), snap.Ingresses.Len()
	s.Waiting = r.store.Unsynced()
	for sl := range snap.AllSlices() {
		if snap.Services.Get(sl.Service) == nil {
			continue // somebody wrote it by hand, for a Service that is gone or not there yet
		}
		for _, e := range sl.Endpoints {
			switch {
			case e.Terminating:
				s.Endpoints.Terminating++
			case e.Ready:
				s.Endpoints.Ready++
			default:
				s.Endpoints.NotReady++
			}
		}
	}
	for _, w := range s.Waiting {
		s.Problems = append(s.Problems, "source "+w+": no first list from the API yet")
	}
	for _, c := range r.store.Statuses() {
		row := ConsumerStatus{Name: c.Consumer, Revision: uint64(c.Revision)}
		if !c.At.IsZero() {
			row.Age = time.Since(c.At).Round(time.Millisecond).String()
		}
		if c.Err != nil {
			row.Error = c.Err.Error()
			s.Problems = append(s.Problems, c.Consumer+": "+row.Error)
		}
		for k, err := range c.Failed {
			if row.Failed == nil {
				row.Failed = map[string]string{}
			}
			row.Failed[k] = err.Error()
			s.Objects = append(s.Objects, c.Consumer+": "+k+": "+err.Error())
		}
		s.Consumers = append(s.Consumers, row)
	}
	if r.trouble != nil {
		if err := r.trouble(); err != nil {
			s.Problems = append(s.Problems, "api: "+err.Error())
		}
	}
	s.MemoryRSS = residentBytes()
	s.Programming = r.meter.Latency()
	return s
}

// residentBytes is this process's resident memory, 0 if the kernel does not say.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// health serves what kubelets and load balancers ask, and the status where only this machine can ask for it: it names objects.
func (r *reporter) health(local bool) http.Handler {
	mux := http.NewServeMux()
	if local {
		mux.HandleFunc("GET /status", r.serveStatus)
		mux.HandleFunc("GET "+explainPath, r.explain)
	}
	mux.HandleFunc("GET /healthz", r.meter.ServeHealthz)
	mux.HandleFunc("GET /livez", r.meter.ServeLivez)
	mux.HandleFunc("GET /readyz", r.ready)
	return mux
}

func (r *reporter) serveStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(r.status())
}

// ready answers with one line for each check with ?verbose, as the Kubernetes components do.
func (r *reporter) ready(w http.ResponseWriter, q *http.Request) {
	s := r.status()
	code := http.StatusOK
	if len(s.Waiting) > 0 {
		code = http.StatusServiceUnavailable
	}
	for _, c := range s.Consumers {
		if c.Revision == 0 {
			code = http.StatusServiceUnavailable
		}
	}
	w.WriteHeader(code)
	if _, verbose := q.URL.Query()["verbose"]; !verbose {
		fmt.Fprintln(w, http.StatusText(code))
		return
	}
	for _, src := range s.Waiting {
		fmt.Fprintf(w, "[-]source %s: no first list yet\n", src)
	}
	for _, c := range s.Consumers {
		mark := "+"
		if c.Revision == 0 || c.Error != "" {
			mark = "-"
		}
		fmt.Fprintf(w, "[%s]%s at revision %d of %d %s\n", mark, c.Name, c.Revision, s.Revision, c.Error)
	}
}

// ReadStatus asks the running instance.
func ReadStatus(ctx context.Context, i Instance) (*Status, error) {
	s := &Status{}
	return s, i.get(ctx, "status", "/status", s)
}

// ReadAgentStatus asks an agent on this machine, at its health or metrics address.
func ReadAgentStatus(ctx context.Context, at netip.AddrPort) (*Status, error) {
	s := &Status{}
	return s, getAgent(ctx, at, "/status", s)
}

// get asks the running instance; command is what the user typed.
func (i Instance) get(ctx context.Context, command, path string, into any) error {
	err := getJSON(ctx, "unix", i.socket(), path, into)
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s belongs to root; run 'sudo %s'", i.socket(), i.Command(command))
	case err != nil && !i.running():
		return fmt.Errorf("instance %q is not running; start it with 'sudo %s'", i.Name, i.Command("up"))
	case errors.Is(err, errRefused):
		return err
	case err != nil:
		return fmt.Errorf("%s of %q: %w", command, i.Name, err)
	}
	return nil
}

// getAgent asks an agent on this machine.
func getAgent(ctx context.Context, at netip.AddrPort, path string, into any) error {
	err := getJSON(ctx, "tcp", at.String(), path, into)
	if err != nil && !errors.Is(err, errRefused) {
		return fmt.Errorf("agent at %s: %w; is it running, with this --healthz-bind-address or --metrics-bind-address, on a loopback address?", at, err)
	}
	return err
}

// errRefused is for a question that the process understood and does not answer; its text is the answer's.
var errRefused = errors.New("refused")

type refusal string

func (r refusal) Error() string        { return string(r) }
func (r refusal) Is(target error) bool { return target == errRefused }

func getJSON(ctx context.Context, network, addr, path string, into any) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://fairway"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusBadRequest {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return refusal(strings.TrimSpace(string(text)))
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
