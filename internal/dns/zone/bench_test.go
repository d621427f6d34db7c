package zone_test

import (
	"fmt"
	"iter"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/dns/zone"
	"fairway.dev/fairway/internal/model"
)

// The load that the budgets are about (2026-11): below 60 MB more memory than without DNS, no allocation per answer.
const (
	loadServices  = 10_000
	loadEndpoints = 10
)

func loadService(i int) *model.Service {
	return &model.Service{
		Name: model.Name{Namespace: fmt.Sprintf("ns-%d", i%2), Name: fmt.Sprintf("svc-%d", i)}, Type: model.ClusterIP,
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
		Ports:      []model.Port{{Name: "http", Protocol: model.TCP, Port: 80}},
	}
}

func loadSlices(i int) iter.Seq[*model.EndpointSlice] {
	sl := &model.EndpointSlice{Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 8080}}}
	for e := range loadEndpoints {
		n := i*loadEndpoints + e
		sl.Endpoints = append(sl.Endpoints, model.Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(128 + n>>16), byte(n >> 8), byte(n)}), Ready: true})
	}
	return slices.Values([]*model.EndpointSlice{sl})
}

func loaded(tb testing.TB, headless bool) *zone.Zone {
	z, err := zone.New(zone.Config{TTL: 5})
	if err != nil {
		tb.Fatal(err)
	}
	z.SetSynced(true)
	for i := range loadServices {
		s := loadService(i)
		if headless {
			s.Headless, s.ClusterIPs = true, nil
		}
		z.PutService(s, loadSlices(i))
	}
	return z
}

func packet(tb testing.TB, name string, t wire.Type) []byte {
	b, err := wire.EncodeName(nil, name)
	if err != nil {
		tb.Fatal(err)
	}
	return wire.AppendQuery(nil, 7, b, t)
}

var asked = []struct {
	what, name string
	t          wire.Type
	headless   bool
}{
	{"A", "svc-4711.ns-1.svc.cluster.local", wire.TypeA, false},
	{"NODATA", "svc-4711.ns-1.svc.cluster.local", wire.TypeAAAA, false},
	{"NXDOMAIN", "example.com.ns-1.svc.cluster.local", wire.TypeA, false},
	{"SRV", "_http._tcp.svc-4711.ns-1.svc.cluster.local", wire.TypeSRV, false},
	{"PTR", "1.1.96.10.in-addr.arpa", wire.TypePTR, false},
	{"endpoint", "10-128-183-242.svc-4710.ns-0.svc.cluster.local", wire.TypeA, false},
	{"headless-A-10", "svc-4711.ns-1.svc.cluster.local", wire.TypeA, true},
	{"headless-SRV-10", "_http._tcp.svc-4711.ns-1.svc.cluster.local", wire.TypeSRV, true},
}

// BenchmarkAnswer is one question from packet to packet, without sockets.
func BenchmarkAnswer(b *testing.B) {
	zones := map[bool]*zone.Zone{false: loaded(b, false), true: loaded(b, true)}
	for _, a := range asked {
		b.Run(a.what, func(b *testing.B) {
			z, p, buf := zones[a.headless], packet(b, a.name, a.t), make([]byte, 4096)
			var q wire.Query
			var r wire.Reply
			b.ReportAllocs()
			for b.Loop() {
				q.Parse(p)
				r.Start(&q, buf, 4096)
				z.Answer(&q, &r)
				r.Finish()
			}
		})
	}
}

// BenchmarkPutService is the cost of one change of one Service's endpoints, with all the others there.
func BenchmarkPutService(b *testing.B) {
	z := loaded(b, false)
	svc, one, other := loadService(4711), loadSlices(4711), loadSlices(20_000)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%2 == 0 {
			z.PutService(svc, other)
		} else {
			z.PutService(svc, one)
		}
	}
}

// BenchmarkMemory reports what the zone of the load holds, beside the rows that the store has anyway.
func BenchmarkMemory(b *testing.B) {
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		z := loaded(b, false)
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(z)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MB")
}

// TestNoAllocation holds the promise that answering allocates nothing, for every kind of answer.
func TestNoAllocation(t *testing.T) {
	zones := map[bool]*zone.Zone{false: loaded(t, false), true: loaded(t, true)}
	for _, a := range asked {
		z, p, buf := zones[a.headless], packet(t, a.name, a.t), make([]byte, 4096)
		var q wire.Query
		var r wire.Reply
		allocs := testing.AllocsPerRun(100, func() {
			q.Parse(p)
			r.Start(&q, buf, 4096)
			if out, _ := z.Answer(&q, &r); out != zone.Answered {
				t.Fatalf("%s: outcome %d", a.what, out)
			}
			r.Finish()
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations", a.what, allocs)
		}
	}
}
