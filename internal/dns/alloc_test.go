package dns

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dns/cache"
	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// TestNoAllocation: neither a question whose answer is in the zone nor one whose answer is in the cache allocates anything.
func TestNoAllocation(t *testing.T) {
	st := store.New()
	n := model.Name{Namespace: "default", Name: "web"}
	s, err := New(st, Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Upstreams: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.forward.base = context.Background()
	s.zone.PutService(row(n, "10.0.0.1"), st.Snapshot().Slices(n))
	s.zone.SetSynced(true)
	question := func(name string) []byte {
		b, err := wire.EncodeName(nil, name)
		if err != nil {
			t.Fatal(err)
		}
		return wire.AppendQuery(nil, 7, b, wire.TypeA)
	}
	var q wire.Query
	q.Parse(question("example.org"))
	m := &wire.Message{Sections: [3][]wire.Record{{
		{Owner: q.Lower(), Type: wire.TypeA, Class: wire.ClassIN, TTL: 3600, Data: []byte{1, 2, 3, 4}},
		{Owner: q.Lower(), Type: wire.TypeA, Class: wire.ClassIN, TTL: 3600, Data: []byte{1, 2, 3, 5}},
	}}}
	s.plan.Load().cache.Put(cache.AppendKey(nil, &q), q.Lower(), m, time.Now())
	w, buf := &scratch{}, make([]byte, 0, maxUDP)
	for name, want := range map[string]int{
		"web.default.svc.cluster.local": 1, "none.default.svc.cluster.local": 0, "example.org": 2,
	} {
		packet := question(name)
		if got := testing.AllocsPerRun(100, func() {
			reply, slow := s.answer(w, packet, buf, false, maxUDP)
			if slow || wire.AnswerCount(reply) != want {
				t.Fatalf("%s: slow %v, %d answers", name, slow, wire.AnswerCount(reply))
			}
		}); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}
