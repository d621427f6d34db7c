package cache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"fairway.dev/fairway/internal/dns/wire"
)

// Config says what is kept and for how long. Durations are in whole seconds.
type Config struct {
	// MaxBytes bounds the memory.
	MaxBytes int
	// MinTTL and MaxTTL bound how long positive answers are kept, MaxNegative how long denials are, and Failure is for how long a server's
	// own failure (SERVFAIL) is; 0 keeps none.
	MinTTL, MaxTTL, MaxNegative, Failure time.Duration
	// PrefetchHits is how often an answer must have been asked for to be fetched anew before it runs out, when less than PrefetchPercent of
	// its time is left. 0 never does.
	PrefetchHits, PrefetchPercent int
	// StaleFor is how long after its end an answer may still be given when nobody can be asked; 0 is not at all.
	StaleFor time.Duration
}

// State is what Get found.
type State uint8

const (
	// Miss: there is nothing that may be given.
	Miss State = iota
	// Fresh: the answer is good.
	Fresh
	// Refresh: the answer is good, and the caller should fetch it anew now; others are not told so for some seconds.
	Refresh
	// Stale: the answer has run out; it may be given if nobody can be asked.
	Stale
)

// refreshAgain is after how many seconds a refresh that has brought nothing is asked of another caller.
const refreshAgain = 5

// Entry is one answer. It does not change, but for its counters.
type Entry struct {
	Body                     wire.Body
	Rcode                    wire.Rcode
	Authenticated, Truncated bool
	// stored is when it came, in Unix seconds, and ttl how many seconds it is good for.
	stored int64
	ttl    uint32
	hits   atomic.Uint32
	asked  atomic.Int64 // when somebody was last told to refresh it
	failed atomic.Int64 // when somebody last tried in vain
	spared atomic.Bool
	key    string
	prev   *Entry // towards the newest
	next   *Entry // towards the oldest
}

// Age is how many seconds ago it came.
func (e *Entry) Age(now time.Time) uint32 { return uint32(max(0, now.Unix()-e.stored)) }

// Turn counts how often it was given, for the rotation of its addresses.
func (e *Entry) Turn() uint32 { return e.hits.Load() }

func (e *Entry) negative() bool { return e.Rcode != wire.NoError || e.Body.Count[wire.Answer] == 0 }

// overhead is what an entry weighs besides its key and body: itself, the map's cell, the allocator's rounding.
const overhead = 320

func (e *Entry) weight() int { return overhead + len(e.key) + len(e.Body.Bytes) + 2*len(e.Body.TTL) }

const shards = 64

// Cache is a bounded set of answers. Use New.
type Cache struct {
	cfg   Config
	seed  maphash.Seed
	shard [shards]shard
	stats [2]counters // positive, negative
	miss  atomic.Uint64
}

type counters struct {
	entries                           atomic.Int64
	hits, evicted, prefetched, staled atomic.Uint64
}

type shard struct {
	mu    sync.Mutex
	m     map[string]*Entry
	bytes int
	// newest and oldest end the list by age; hand is where the search for a victim goes on.
	newest, oldest, hand *Entry
}

// New gives an empty cache.
func New(cfg Config) *Cache {
	c := &Cache{cfg: cfg, seed: maphash.MakeSeed()}
	for i := range c.shard {
		c.shard[i].m = map[string]*Entry{}
	}
	return c
}

// AppendKey appends the key of a question: its name in lower case and all that makes answers to it differ.
func AppendKey(dst []byte, q *wire.Query) []byte {
	flags := byte(0)
	for i, set := range [...]bool{q.DO, q.CheckingDisabled(), q.Recursion()} {
		if set {
			flags |= 1 << i
		}
	}
	return append(append(dst, q.Lower()...), byte(q.Type>>8), byte(q.Type), flags)
}

func (c *Cache) of(key []byte) *shard { return &c.shard[maphash.Bytes(c.seed, key)%shards] }

// Get looks a question up. The entry is nil for a Miss only.
func (c *Cache) Get(key []byte, now time.Time) (*Entry, State) {
	e, state := c.Look(key, now)
	if state == Miss || state == Stale {
		c.miss.Add(1)
	}
	return e, state
}

// Look is Get for who will Get the same again if there is nothing good: it does not count what is missing.
func (c *Cache) Look(key []byte, now time.Time) (*Entry, State) {
	s := c.of(key)
	s.mu.Lock()
	e := s.m[string(key)]
	s.mu.Unlock()
	if e == nil {
		return nil, Miss
	}
	sec := now.Unix()
	left := e.stored + int64(e.ttl) - sec
	if left <= 0 {
		if -left >= int64(c.cfg.StaleFor/time.Second) || e.Rcode == wire.ServerFailure {
			return nil, Miss
		}
		return e, Stale
	}
	hits := e.hits.Add(1)
	if !e.spared.Load() {
		e.spared.Store(true)
	}
	c.of2(e).hits.Add(1)
	if c.cfg.PrefetchHits > 0 && int(hits) >= c.cfg.PrefetchHits && left*100 <= int64(e.ttl)*int64(c.cfg.PrefetchPercent) {
		if last := e.asked.Load(); sec-last >= refreshAgain && e.asked.CompareAndSwap(last, sec) {
			c.of2(e).prefetched.Add(1)
			return e, Refresh
		}
	}
	return e, Fresh
}

func (c *Cache) of2(e *Entry) *counters {
	if e.negative() {
		return &c.stats[1]
	}
	return &c.stats[0]
}

// retryFailed is for how many seconds after a failure an old answer is given without waiting for the servers (RFC 8767 section 5).
const retryFailed = 30

// Failed notes that an entry that has run out could not be had anew.
func (e *Entry) Failed(now time.Time) { e.failed.Store(now.Unix()) }

// Hopeless tells whether that was a moment ago.
func (e *Entry) Hopeless(now time.Time) bool { return now.Unix()-e.failed.Load() < retryFailed }

// ServedStale counts an answer that was given after its end. again is true for one caller in some seconds: it should try to fetch it.
func (c *Cache) ServedStale(e *Entry, now time.Time) (again bool) {
	e.hits.Add(1)
	c.of2(e).staled.Add(1)
	last := e.asked.Load()
	return now.Unix()-last >= refreshAgain && e.asked.CompareAndSwap(last, now.Unix())
}

// Put makes an entry of a response to the question with that name and key, and keeps it as long as it may be kept. The entry is
// given back whether or not it is.
func (c *Cache) Put(key, name []byte, m *wire.Message, now time.Time) *Entry {
	ttl, keep := c.lifetime(m)
	for s := range m.Sections {
		for i := range m.Sections[s] {
			r := &m.Sections[s][i]
			r.TTL = min(r.TTL, uint32(c.cfg.MaxTTL/time.Second))
			if keep && !answers(m) { // what is left of a denial's time is what its SOA record says
				r.TTL = min(r.TTL, ttl)
			}
			if keep && s == int(wire.Answer) {
				r.TTL = max(r.TTL, uint32(c.cfg.MinTTL/time.Second))
			}
		}
	}
	e := &Entry{Body: m.Pack(name), Rcode: m.Rcode, Authenticated: m.Authenticated, Truncated: m.Truncated, stored: now.Unix(), ttl: ttl, key: string(key)}
	if !keep || e.weight() > c.cfg.MaxBytes/shards {
		return e
	}
	s := c.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.m[e.key]; old != nil {
		// A failure does not take the place of an answer that could still be given.
		if e.Rcode == wire.ServerFailure && old.Rcode != wire.ServerFailure && now.Unix()-old.stored-int64(old.ttl) < int64(c.cfg.StaleFor/time.Second) {
			return e
		}
		e.hits.Store(old.hits.Load() / 2) // what was popular likely is
		c.remove(s, old)
	}
	c.add(s, e)
	for s.bytes > c.cfg.MaxBytes/shards {
		c.evict(s)
	}
	return e
}

// lifetime is for how many seconds a response is good, and whether it may be kept at all.
func (c *Cache) lifetime(m *wire.Message) (ttl uint32, keep bool) {
	if m.Truncated {
		return 0, false
	}
	seconds := func(d time.Duration) uint32 { return uint32(d / time.Second) }
	switch {
	case m.Rcode == wire.ServerFailure:
		return seconds(c.cfg.Failure), c.cfg.Failure >= time.Second
	case m.Rcode != wire.NoError && m.Rcode != wire.NameError:
		return 0, false
	}
	ttl = seconds(c.cfg.MaxTTL)
	for _, s := range m.Sections[:2] {
		for _, r := range s {
			ttl = min(ttl, r.TTL)
		}
	}
	if m.Rcode == wire.NoError && answers(m) {
		ttl = max(ttl, seconds(c.cfg.MinTTL))
		return ttl, ttl > 0
	}
	minimum, ok := soaMinimum(m)
	ttl = min(ttl, minimum, seconds(c.cfg.MaxNegative))
	return ttl, ok && ttl > 0
}

// answers tells whether a response has more in its answer section than aliases: aliases alone mean that their end has no such record.
func answers(m *wire.Message) bool {
	for _, r := range m.Sections[wire.Answer] {
		if r.Type != wire.TypeCNAME && r.Type != wire.TypeDNAME && r.Type != typeRRSIG {
			return true
		}
	}
	// Who asked for the alias itself has it, and then nobody says that there is nothing.
	_, denied := soaMinimum(m)
	return len(m.Sections[wire.Answer]) > 0 && !denied
}

const typeRRSIG wire.Type = 46

// soaMinimum is the time that the zone gives its negative answers (RFC 2308 section 5); the record's own TTL is counted elsewhere.
func soaMinimum(m *wire.Message) (uint32, bool) {
	for _, r := range m.Sections[wire.Authority] {
		if n := len(r.Data); r.Type == wire.TypeSOA && n >= 22 {
			return uint32(r.Data[n-4])<<24 | uint32(r.Data[n-3])<<16 | uint32(r.Data[n-2])<<8 | uint32(r.Data[n-1]), true
		}
	}
	return 0, false
}

func (c *Cache) add(s *shard, e *Entry) {
	s.m[e.key] = e
	s.bytes += e.weight()
	c.of2(e).entries.Add(1)
	e.next = s.newest
	if s.newest != nil {
		s.newest.prev = e
	}
	s.newest = e
	if s.oldest == nil {
		s.oldest = e
	}
}

func (c *Cache) remove(s *shard, e *Entry) {
	delete(s.m, e.key)
	s.bytes -= e.weight()
	c.of2(e).entries.Add(-1)
	if s.hand == e {
		s.hand = e.prev
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		s.newest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		s.oldest = e.prev
	}
	e.prev, e.next = nil, nil
}

// evict takes away the first entry, from the hand towards the newest, that was not asked for since the hand last passed it.
func (c *Cache) evict(s *shard) {
	e := s.hand
	if e == nil {
		e = s.oldest
	}
	for e.spared.Swap(false) {
		if e = e.prev; e == nil {
			e = s.oldest
		}
	}
	s.hand = e
	c.of2(e).evicted.Add(1)
	c.remove(s, e)
}

// Stats are a cache's counters, for positive answers and denials.
type Stats struct {
	Kind                             string // success or denial
	Entries                          int64
	Hits, Evictions, Prefetch, Stale uint64
}

// Stats gives the counters of both kinds, and how often nothing good was there.
func (c *Cache) Stats() (kinds [2]Stats, misses uint64) {
	for i, kind := range [...]string{"success", "denial"} {
		k := &c.stats[i]
		kinds[i] = Stats{kind, k.entries.Load(), k.hits.Load(), k.evicted.Load(), k.prefetched.Load(), k.staled.Load()}
	}
	return kinds, c.miss.Load()
}

// Bytes is the memory that is counted now.
func (c *Cache) Bytes() (n int) {
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		n += s.bytes
		s.mu.Unlock()
	}
	return n
}
