package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// world is a store with one source and a kernel that says what it is told to.
type world struct {
	t      *testing.T
	store  *store.Store
	kernel *store.Cursor
	line   *Line
	synced func()
}

func newWorld(t *testing.T) *world {
	st := store.New()
	w := &world{t: t, store: st, synced: st.Announce("source"), line: New(Config{Store: st, Kernel: "nft", Node: "n1", Version: "v0"})}
	w.kernel = st.Follow("nft")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.line.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// change writes rows and says so to the line, as the source does.
func (w *world) change(triggered []time.Time, f func(*store.Txn)) store.Revision {
	rev, _ := w.store.Update(func(tx *store.Txn) error { f(tx); return nil })
	w.line.Changed(rev, time.Now(), 1, 2, triggered)
	return rev
}

func (w *world) report(rev store.Revision, err error) {
	w.kernel.Report(rev, err, nil)
	synctest.Wait()
}

// says holds /healthz and /livez to their status.
func (w *world) says(when string, healthz, livez int) {
	w.t.Helper()
	for _, c := range []struct {
		name  string
		serve http.HandlerFunc
		want  int
	}{{"healthz", w.line.ServeHealthz, healthz}, {"livez", w.line.ServeLivez, livez}} {
		r := httptest.NewRecorder()
		c.serve(r, nil)
		var h Health
		if err := json.Unmarshal(r.Body.Bytes(), &h); err != nil || r.Code != c.want {
			w.t.Errorf("%s: /%s is %d, want %d; %v %s", when, c.name, r.Code, c.want, err, r.Body)
		}
		if (h.NodeEligible != nil) != (c.name == "healthz") {
			w.t.Errorf("%s: /%s says nodeEligible %v", when, c.name, h.NodeEligible)
		}
	}
}

func node(leaving bool) *model.Node {
	return &model.Node{Name: "n1", Leaving: leaving, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
}

// TestHealth goes through what load balancers and the kubelet are told, and when.
func TestHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.says("at the start", 503, 200)
		w.change(nil, func(tx *store.Txn) { tx.PutNode(node(false)) })
		time.Sleep(time.Hour)
		w.says("while the API is away", 503, 200) // a restart would not help
		w.synced()
		w.says("synced", 503, 200)
		w.report(w.store.Snapshot().Revision, nil)
		w.says("in force", 200, 200)
		time.Sleep(time.Hour)
		w.says("with nothing to do", 200, 200)
		rev := w.change(nil, func(tx *store.Txn) { tx.PutNamespace(&model.Namespace{Name: "a"}) })
		time.Sleep(59 * time.Second)
		w.says("a change waits", 200, 200)
		w.report(rev, errors.New("no"))
		w.change(nil, func(tx *store.Txn) { tx.PutNamespace(&model.Namespace{Name: "b"}) })
		time.Sleep(2 * time.Second)
		w.says("it has waited for too long", 503, 503)
		w.report(w.store.Snapshot().Revision, nil)
		w.says("it is in force", 200, 200)
		w.report(w.change(nil, func(tx *store.Txn) { tx.PutNode(node(true)) }), nil)
		w.says("the node leaves", 503, 200)
		w.report(w.change(nil, func(tx *store.Txn) { tx.DeleteNode("n1") }), nil)
		w.says("the node is gone", 503, 200)
	})
}

// read gives the value of a gauge or counter, or the count of a histogram, by name and labels.
func (w *world) read() map[string]float64 {
	w.t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(w.line.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += fmt.Sprintf(" %s=%s", l.GetName(), l.GetValue())
			}
			switch {
			case m.Gauge != nil:
				out[name] = m.GetGauge().GetValue()
			case m.Counter != nil:
				out[name] = m.GetCounter().GetValue()
			case m.Histogram != nil:
				out[name] = float64(m.GetHistogram().GetSampleCount())
				out[name+" sum"] = m.GetHistogram().GetSampleSum()
			}
		}
	}
	return out
}

// TestMeasures measures from when a change was seen, and from when it happened, to when the kernel has it.
func TestMeasures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		before := time.Now().Add(-time.Minute) // of a process that was there before: not this one's doing
		w := newWorld(t)
		w.synced()
		time.Sleep(3 * time.Second)
		happened := time.Now().Add(-2 * time.Second)
		rev := w.change([]time.Time{happened, before}, func(tx *store.Txn) {
			tx.PutNode(node(false))
			tx.PutService(&model.Service{
				Name: model.Name{Namespace: "a", Name: "s"}, Type: model.NodePort, InternalPolicy: model.PolicyLocal, ExternalPolicy: model.PolicyLocal,
				ClusterIPs:  []netip.Addr{netip.MustParseAddr("10.96.0.1")},
				ExternalIPs: []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")},
				Ports:       []model.Port{{Protocol: model.TCP, Port: 80, NodePort: 30080}},
			})
			tx.PutSlice(&model.EndpointSlice{
				Name: model.Name{Namespace: "a", Name: "s-1"}, Service: model.Name{Namespace: "a", Name: "s"},
				Ports:     []model.EndpointPort{{Protocol: model.TCP, Port: 80}},
				Endpoints: []model.Endpoint{{Addr: netip.MustParseAddr("10.1.0.1"), Ready: true, Serving: true, Node: "elsewhere"}},
			})
		})
		got := w.read()
		want := func(values map[string]float64) {
			t.Helper()
			for name, v := range values {
				if have, there := got[name]; !there || have != v {
					t.Errorf("%s is %v (there: %v), want %v", name, have, there, v)
				}
			}
		}
		want(map[string]float64{
			"kubeproxy_sync_proxy_rules_service_changes_pending": 1, "kubeproxy_sync_proxy_rules_endpoint_changes_pending": 2,
			"kubeproxy_sync_proxy_rules_service_changes_total": 1, "kubeproxy_sync_proxy_rules_endpoint_changes_total": 2,
			"fairway_programming_duration_seconds": 0, "fairway_revision": float64(w.store.Snapshot().Revision),
		})
		time.Sleep(500 * time.Millisecond)
		w.line.Round(true, 250*time.Millisecond, nil)
		w.line.Round(false, 0, errors.New("no"))
		w.report(rev, nil)
		got = w.read()
		want(map[string]float64{
			"kubeproxy_sync_proxy_rules_service_changes_pending": 0, "kubeproxy_sync_proxy_rules_endpoint_changes_pending": 0,
			"fairway_programming_duration_seconds": 1, "fairway_programming_duration_seconds sum": 0.5,
			"kubeproxy_network_programming_duration_seconds ip_family=IPv4": 1, "kubeproxy_network_programming_duration_seconds ip_family=IPv4 sum": 2.5,
			"kubeproxy_sync_proxy_rules_duration_seconds ip_family=IPv6": 1, "kubeproxy_sync_full_proxy_rules_duration_seconds ip_family=IPv4 sum": 0.25,
			"kubeproxy_sync_proxy_rules_nftables_sync_failures_total ip_family=IPv4":                     1,
			"kubeproxy_sync_proxy_rules_no_local_endpoints_total ip_family=IPv4 traffic_policy=internal": 1,
			"kubeproxy_sync_proxy_rules_no_local_endpoints_total ip_family=IPv4 traffic_policy=external": 1, // once for the port
			"kubeproxy_sync_proxy_rules_no_local_endpoints_total ip_family=IPv6 traffic_policy=internal": 0,
			"fairway_consumer_revision consumer=nft":                                                     float64(rev), "fairway_consumer_up consumer=nft": 1, "fairway_services": 1,
		})
		if l := w.line.Latency(); l.Commits != 1 || l.P50 != 0.5 || l.P99 != 0.5 {
			t.Errorf("latency %+v", l)
		}
	})
}

// TestBounded has a kernel that never follows: what is remembered does not grow for ever, and the age of the oldest change stays known.
func TestBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.synced()
		for rev := range store.Revision(2 * mostPending) {
			w.line.Changed(rev+2, time.Now(), 1, 1, nil)
		}
		if n := len(w.line.pending); n != mostPending {
			t.Errorf("%d are remembered, want %d", n, mostPending)
		}
		if n := w.read()["kubeproxy_sync_proxy_rules_service_changes_pending"]; n != 2*mostPending {
			t.Errorf("%v are pending, want %d", n, 2*mostPending)
		}
		w.kernel.Report(2*mostPending+1, nil, nil)
		synctest.Wait()
		if n := len(w.line.pending); n != 0 {
			t.Errorf("%d are left", n)
		}
	})
}
