package cache_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns/cache"
	"fairway.dev/fairway/internal/dns/wire"
)

func standard() cache.Config {
	return cache.Config{
		MaxBytes: 1 << 20, MaxTTL: time.Hour, MaxNegative: 30 * time.Minute, Failure: 5 * time.Second,
		PrefetchHits: 2, PrefetchPercent: 10, StaleFor: time.Hour,
	}
}

// ask makes the query for a name's A records.
func ask(t testing.TB, name string, edns bool) *wire.Query {
	m := new(miekg.Msg)
	m.SetQuestion(miekg.Fqdn(name), miekg.TypeA)
	if edns {
		m.SetEdns0(1232, false)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := &wire.Query{}
	if code, ok := q.Parse(b); !ok || code != wire.NoError {
		t.Fatal(code, ok)
	}
	return q
}

// response makes a response from records in presentation form: "answer", "!authority".
func response(t testing.TB, rcode int, records ...string) *wire.Message {
	m := new(miekg.Msg)
	m.SetQuestion("x.test.", miekg.TypeA)
	m.Response, m.Rcode = true, rcode
	for _, s := range records {
		into := &m.Answer
		if s[0] == '!' {
			s, into = s[1:], &m.Ns
		}
		rr, err := miekg.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		*into = append(*into, rr)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	out, err := wire.ParseMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const soa = "!test. 600 IN SOA ns.test. admin.test. 1 2 3 4 60"

// TestLifetime: for how long each kind of response is given, to the second, and for how long after that.
func TestLifetime(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		name  string
		rcode int
		rrs   []string
		good  int  // seconds
		stale bool // after that
	}{
		{"the lowest TTL", 0, []string{"x.test. 30 IN A 1.2.3.4", "x.test. 20 IN A 1.2.3.5"}, 20, true},
		{"aliases count", 0, []string{"x.test. 7 IN CNAME y.test.", "y.test. 20 IN A 1.2.3.5"}, 7, true},
		{"at most MaxTTL", 0, []string{"x.test. 86400 IN A 1.2.3.4"}, 3600, true},
		{"TTL 0 is not kept", 0, []string{"x.test. 0 IN A 1.2.3.4"}, 0, false},
		{"a TTL with the highest bit is 0", 0, []string{"x.test. 2147483648 IN A 1.2.3.4"}, 0, false},
		{"no such name: the SOA's minimum", 3, []string{soa}, 60, true},
		{"the SOA's TTL if lower", 3, []string{"!test. 9 IN SOA ns.test. admin.test. 1 2 3 4 60"}, 9, true},
		{"nothing of the type", 0, []string{soa}, 60, true},
		{"an alias of nothing", 0, []string{"x.test. 300 IN CNAME y.test.", soa}, 60, true},
		{"at most MaxNegative", 3, []string{"!test. 86400 IN SOA ns.test. admin.test. 1 2 3 4 86400"}, 1800, true},
		{"no SOA, not kept", 3, nil, 0, false},
		{"failure", 2, nil, 5, false},
		{"refusal", 5, nil, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ca, q := cache.New(standard()), ask(t, "x.test", false)
			key := cache.AppendKey(nil, q)
			ca.Put(key, q.Lower(), response(t, c.rcode, c.rrs...), now)
			at := func(sec int) cache.State {
				_, state := ca.Get(key, now.Add(time.Duration(sec)*time.Second))
				if state == cache.Refresh {
					state = cache.Fresh
				}
				return state
			}
			if c.good > 0 && (at(0) != cache.Fresh || at(c.good-1) != cache.Fresh) {
				t.Errorf("not good for %d s", c.good)
			}
			want := cache.Miss
			if c.stale {
				want = cache.Stale
				if at(c.good+3599) != cache.Stale || at(c.good+3600) != cache.Miss {
					t.Error("old answers are not given for exactly an hour")
				}
			}
			if got := at(c.good); got != want {
				t.Errorf("after %d s: state %d, want %d", c.good, got, want)
			}
		})
	}
}

// TestReplay: what comes out is what an independent decoder would have read, older by its age, under the name as it is asked now.
func TestReplay(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	ca := cache.New(standard())
	q := ask(t, "x.test", true)
	e := ca.Put(cache.AppendKey(nil, q), q.Lower(), response(t, 0, "x.test. 300 IN CNAME y.test.", "y.test. 30 IN A 1.2.3.4", "y.test. 30 IN A 1.2.3.5",
		"!test. 40 IN NS ns.Test.", "!test. 50 IN MX 10 mail.y.test."), now)
	for _, edns := range []bool{false, true} {
		asked := ask(t, "X.tEsT", edns)
		got := new(miekg.Msg)
		if err := got.Unpack(asked.Replay(nil, 4096, &e.Body, wire.Aged{Age: e.Age(now.Add(10 * time.Second))})); err != nil {
			t.Fatal(err)
		}
		want := []string{"X.tEsT.\t290\tIN\tCNAME\ty.test.", "y.test.\t20\tIN\tA\t1.2.3.4", "y.test.\t20\tIN\tA\t1.2.3.5", "tEsT.\t30\tIN\tNS\tns.tEsT.", "tEsT.\t40\tIN\tMX\t10 mail.y.test."}
		for i, rr := range append(got.Answer, got.Ns...) {
			if rr.Header().Name == "X.tEsT." && i > 0 || !strings.EqualFold(rr.String(), want[i]) {
				t.Errorf("%s, want %s", rr, want[i])
			}
		}
		if got.Question[0].Name != "X.tEsT." || len(got.Answer) != 3 || len(got.Ns) != 2 || (got.IsEdns0() != nil) != edns || got.Truncated || got.Authoritative {
			t.Errorf("%v", got)
		}
	}
	// Every turn has each address first in its turn, and the alias before both.
	first := map[string]int{}
	for turn := range uint32(10) {
		got := new(miekg.Msg)
		if err := got.Unpack(q.Replay(nil, 4096, &e.Body, wire.Aged{Turn: turn + 1})); err != nil {
			t.Fatal(err)
		}
		if got.Answer[0].Header().Rrtype != miekg.TypeCNAME {
			t.Fatal(got)
		}
		first[got.Answer[1].(*miekg.A).A.String()]++
	}
	if first["1.2.3.4"] != 5 || first["1.2.3.5"] != 5 {
		t.Errorf("first: %v", first)
	}
	// Old answers say that they are.
	got := new(miekg.Msg)
	if err := got.Unpack(q.Replay(nil, 4096, &e.Body, wire.Aged{Fixed: 30, EDE: wire.StaleAnswer})); err != nil {
		t.Fatal(err)
	}
	if ede, ok := got.IsEdns0().Option[0].(*miekg.EDNS0_EDE); !ok || ede.InfoCode != miekg.ExtendedErrorCodeStaleAnswer || got.Answer[0].Header().Ttl != 30 {
		t.Errorf("%v", got)
	}
}

// TestCut: at every limit the reply is whole records, within the limit, and says when something is missing that matters.
func TestCut(t *testing.T) {
	q := ask(t, "x.test", true)
	rrs := []string{soa}
	for i := range 20 {
		rrs = append(rrs, fmt.Sprintf("x.test. 300 IN A 10.0.0.%d", i))
	}
	body := response(t, 0, rrs...).Pack(q.Lower())
	whole := len(q.Replay(nil, 65535, &body, wire.Aged{}))
	for limit := 64; limit <= whole; limit++ {
		b := q.Replay(nil, limit, &body, wire.Aged{Turn: 7})
		got := new(miekg.Msg)
		if err := got.Unpack(b); err != nil {
			t.Fatalf("limit %d: %v", limit, err)
		}
		if len(b) > limit || got.Truncated != (limit < whole) || limit == whole && len(got.Answer) != 20 {
			t.Fatalf("limit %d: %d bytes, TC %v, %d answers", limit, len(b), got.Truncated, len(got.Answer))
		}
	}
}

// TestBound: the memory stays bounded, what is asked for stays, what nobody asks for goes.
func TestBound(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	ca := cache.New(standard())
	q := ask(t, "x.test", false)
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%d", i) }
	m := func() *wire.Message { return response(t, 0, "x.test. 300 IN A 1.2.3.4") }
	for i := range 20_000 {
		ca.Put(key(i), q.Lower(), m(), now)
		for k := range 5 {
			if i > 100 && i%10 == k {
				if _, state := ca.Get(key(k), now); state != cache.Fresh && state != cache.Refresh {
					t.Fatalf("key %d, asked for all the time, is gone after %d others", k, i)
				}
			}
		}
	}
	if n := ca.Bytes(); n > 1<<20 || n < 1<<19 {
		t.Errorf("%d bytes", n)
	}
	kinds, _ := ca.Stats()
	if kinds[0].Entries > 4000 || kinds[0].Entries < 1000 || kinds[0].Evictions == 0 {
		t.Errorf("%+v", kinds[0])
	}
}

// TestRefresh: near its end an answer that is asked for is fetched anew by one caller, and by another one if that brings nothing.
func TestRefresh(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	ca := cache.New(standard())
	q := ask(t, "x.test", false)
	key := cache.AppendKey(nil, q)
	ca.Put(key, q.Lower(), response(t, 0, "x.test. 100 IN A 1.2.3.4"), now)
	var refreshed []int
	for sec := range 100 {
		for range 3 {
			if _, state := ca.Get(key, now.Add(time.Duration(sec)*time.Second)); state == cache.Refresh {
				refreshed = append(refreshed, sec)
			}
		}
	}
	if fmt.Sprint(refreshed) != "[90 95]" {
		t.Errorf("refreshed at %v", refreshed)
	}
	// A failure does not push out what could still be given.
	ca.Put(key, q.Lower(), response(t, 2), now.Add(101*time.Second))
	if e, state := ca.Get(key, now.Add(102*time.Second)); state != cache.Stale || e.Rcode != wire.NoError {
		t.Error(state)
	}
}

// TestKeys: what makes answers differ is told apart.
func TestKeys(t *testing.T) {
	seen := map[string]bool{}
	for i := range 16 {
		m := new(miekg.Msg)
		m.SetQuestion("X.test.", miekg.TypeA)
		m.RecursionDesired, m.CheckingDisabled = i&1 != 0, i&2 != 0
		m.SetEdns0(1232, i&4 != 0)
		if i&8 != 0 {
			m.Question[0].Qtype = miekg.TypeAAAA
		}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var q wire.Query
		q.Parse(b)
		seen[string(cache.AppendKey(nil, &q))] = true
	}
	if len(seen) != 16 {
		t.Errorf("%d keys", len(seen))
	}
}

func BenchmarkHit(b *testing.B) {
	now := time.Unix(1_000_000, 0)
	ca := cache.New(standard())
	q := ask(b, "x.test", true)
	key := cache.AppendKey(nil, q)
	ca.Put(key, q.Lower(), response(b, 0, "x.test. 300 IN A 1.2.3.4", "x.test. 300 IN A 1.2.3.5"), now)
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		e, _ := ca.Get(key, now)
		buf = q.Replay(buf, 1232, &e.Body, wire.Aged{Age: 3, Turn: e.Turn()})
	}
}
