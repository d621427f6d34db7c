package forward

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fairway.dev/fairway/internal/dns/wire"
)

// Policy is the order in which the servers of a group are asked.
type Policy uint8

const (
	// Sequential asks the first that is well, as resolv.conf(5) has it.
	Sequential Policy = iota
	// Random asks each as often as the others, by chance.
	Random
	// RoundRobin asks each in turn.
	RoundRobin
)

// Config says whom a group asks and how.
type Config struct {
	// Zone is what the group is for, in wire form and lower case: it is shown in the log, and test questions are for names in it.
	Zone    []byte
	Servers []Address
	Policy  Policy
	// Timeout is how long one server has to answer; 0 is 1.5 s.
	Timeout time.Duration
	// MaxFails is after how many failures in a row a server counts as down; 0 never does. HealthInterval is how often one that is down is
	// tried; 0 is 500 ms.
	MaxFails       int
	HealthInterval time.Duration
	// Idle is how long a TCP or TLS connection is kept for the next question; 0 is 10 s.
	Idle time.Duration
	// Roots are the authorities for TLS; nil is the system's.
	Roots *x509.CertPool
	// Dial connects a socket.
	Dial func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error)
	// Self tells whether an address is the asking server's own: then it is not asked. It may be nil.
	Self   func(netip.AddrPort) bool
	Logger *slog.Logger
}

// Group is a number of servers that know the same names. Use New.
type Group struct {
	cfg     Config
	servers []*server
	zone    string
	turn    atomic.Uint32
	checked atomic.Int64 // when Self was last asked, in Unix nanoseconds
	wake    chan struct{}
	probe   atomic.Bool // whether to look for loops
	broken  atomic.Uint64
	token   [32]byte // a label that nobody can guess, in hexadecimal digits
}

const (
	// recheck is how often Self is asked anew.
	recheck = 2 * time.Second
	// loopAgain is how often a server that sends our questions back is tried again.
	loopAgain = 30 * time.Second
	// tries is how many attempts a question is worth, however few servers there are.
	tries = 3
	// maxUDP is the longest response over UDP that is read.
	maxUDP = 4096
)

// What Ask fails with.
var (
	ErrNoServer = errors.New("no upstream server to ask")
	ErrTimeout  = errors.New("no upstream server answered in time")
)

// New makes a group; nothing is asked yet.
func New(cfg Config) *Group {
	if cfg.Timeout == 0 {
		cfg.Timeout = 1500 * time.Millisecond
	}
	if cfg.HealthInterval == 0 {
		cfg.HealthInterval = 500 * time.Millisecond
	}
	if cfg.Idle == 0 {
		cfg.Idle = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if len(cfg.Zone) == 0 {
		cfg.Zone = []byte{0}
	}
	g := &Group{cfg: cfg, zone: wire.NameString(cfg.Zone), wake: make(chan struct{}, 1)}
	for _, a := range cfg.Servers {
		g.servers = append(g.servers, newServer(a, cfg.Roots))
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	hex.Encode(g.token[:], b[:])
	g.probe.Store(true)
	g.checkSelf()
	return g
}

// Servers gives the group's addresses.
func (g *Group) Servers() []Address { return g.cfg.Servers }

// Close closes idle connections, and those that are still in use when they are given back.
func (g *Group) Close() {
	for _, s := range g.servers {
		s.close()
	}
}

// checkSelf leaves out the servers that are this process: a question would never end.
func (g *Group) checkSelf() {
	last := g.checked.Load()
	now := time.Now().UnixNano()
	if g.cfg.Self == nil || last != 0 && now-last < int64(recheck) || !g.checked.CompareAndSwap(last, now) {
		return
	}
	for _, s := range g.servers {
		self := g.cfg.Self(s.AddrPort)
		if s.self.Swap(self) != self && self {
			g.cfg.Logger.Error(fmt.Sprintf("dns: resolver %s is this server itself: not asked", s.Address), "zone", g.zone)
		}
	}
}

// order gives the servers that may be asked, those that are down last.
func (g *Group) order() []*server {
	g.checkSelf()
	list := make([]*server, 0, len(g.servers))
	for _, s := range g.servers {
		if s.usable() {
			list = append(list, s)
		}
	}
	if n := len(list); n > 1 {
		switch g.cfg.Policy {
		case Random:
			mrand.Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
		case RoundRobin:
			k := int(g.turn.Add(1)-1) % n
			list = append(slices.Clone(list[k:]), list[:k]...)
		}
		slices.SortStableFunc(list, func(a, b *server) int {
			switch x, y := a.down.Load(), b.down.Load(); {
			case x == y:
				return 0
			case y:
				return -1
			}
			return 1
		})
		if list[0].down.Load() {
			// All are: then each may be the one that is not, as checks may fail where questions do not.
			g.broken.Add(1)
			mrand.Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
		}
	}
	return list
}

// Ask puts a query, whose identifier and case of letters are overwritten, to one server after the other until one answers. A refusal or
// failure is kept in case that nobody has anything better.
func (g *Group) Ask(ctx context.Context, query []byte) ([]byte, error) {
	list := g.order()
	if len(list) == 0 {
		return nil, ErrNoServer
	}
	var poor []byte
	for i := range max(tries, len(list)) {
		if i >= len(list) && poor != nil || ctx.Err() != nil {
			break
		}
		s := list[i%len(list)]
		started := time.Now()
		reply, err := g.try(ctx, s, query)
		if err != nil {
			if ctx.Err() == nil || time.Since(started) >= g.cfg.Timeout {
				g.failed(s, err)
			}
			continue
		}
		g.well(s)
		s.count(reply, time.Since(started))
		if c := wire.ResponseCode(reply); c == wire.NoError || c == wire.NameError {
			return reply, nil
		}
		poor = reply
	}
	if poor != nil {
		return poor, nil
	}
	// Where everything runs out of time, questions may be going round.
	g.probe.Store(true)
	g.rouse()
	return nil, ErrTimeout
}

func (g *Group) failed(s *server, err error) {
	s.failures.Add(1)
	n := s.fails.Add(1)
	if g.cfg.MaxFails == 0 || int(n) < g.cfg.MaxFails {
		return
	}
	if !s.down.Swap(true) {
		g.cfg.Logger.Warn("dns: an upstream server is down", "server", s.Address.String(), "zone", g.zone, "err", err)
		g.rouse()
	}
}

func (g *Group) well(s *server) {
	s.fails.Store(0)
	if s.down.Swap(false) {
		g.cfg.Logger.Warn("dns: an upstream server is well again", "server", s.Address.String(), "zone", g.zone)
	}
}

func (g *Group) rouse() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Run tries servers that are down until they are not, looks for loops when there is reason to, and closes connections that nobody needs.
func (g *Group) Run(ctx context.Context) {
	defer g.Close()
	var looked time.Time
	for {
		if g.probe.Swap(false) || time.Since(looked) >= loopAgain && g.any(func(s *server) bool { return s.loops.Load() }) {
			looked = time.Now()
			g.each(ctx, func(s *server) bool { return !s.self.Load() }, g.lookForLoop)
		}
		g.each(ctx, func(s *server) bool { return s.down.Load() && s.usable() }, g.check)
		wait := g.cfg.Idle
		switch {
		case g.any(func(s *server) bool { return s.down.Load() && s.usable() }):
			wait = g.cfg.HealthInterval
		case !g.any(func(s *server) bool { return s.Transport != UDP || s.loops.Load() }):
			wait = time.Hour
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-g.wake:
		case <-t.C:
		}
		t.Stop()
		for _, s := range g.servers {
			s.expire(g.cfg.Idle, time.Now())
		}
		// Failures come in bunches; so do the reasons to look for loops.
		if g.probe.Load() && time.Since(looked) < 10*time.Second {
			g.probe.Store(false)
		}
	}
}

func (g *Group) any(f func(*server) bool) bool { return slices.ContainsFunc(g.servers, f) }

// each calls f for some servers at the same time, and waits.
func (g *Group) each(ctx context.Context, which func(*server) bool, f func(context.Context, *server, int)) {
	var wg sync.WaitGroup
	for i, s := range g.servers {
		if which(s) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
				defer cancel()
				f(ctx, s, i)
			})
		}
	}
	wg.Wait()
}

// check asks a server that is down for something small; whatever it answers, it is there.
func (g *Group) check(ctx context.Context, s *server, _ int) {
	if _, err := g.try(ctx, s, wire.AppendQuery(nil, 0, g.cfg.Zone, wire.TypeNS)); err != nil {
		s.checkFailures.Add(1)
		return
	}
	g.well(s)
}

// lookForLoop sends a question that nobody can know of. If it comes back to us, Echo is called before the server has answered.
func (g *Group) lookForLoop(ctx context.Context, s *server, i int) {
	was := s.loops.Swap(false)
	name := append([]byte{byte(len(g.token))}, g.token[:]...)
	name = append(wire.AppendLabel(name, fmt.Sprintf("n%d", i)), g.cfg.Zone...)
	_, _ = g.try(ctx, s, wire.AppendQuery(nil, 0, name, wire.TypeHINFO)) // what it answers does not matter
	if was && !s.loops.Load() {
		g.cfg.Logger.Warn("dns: an upstream server does not send our questions back any more", "server", s.Address.String(), "zone", g.zone)
	}
}

// Echo tells whether a question, whose name is in lower case, is one that this group sent out to look for loops. If it is, the server that
// it was sent to is not asked any more.
func (g *Group) Echo(name []byte) bool {
	n := len(g.token)
	if len(name) < n+4 || int(name[0]) != n || string(name[1:n+1]) != string(g.token[:]) || name[n+2] != 'n' {
		return false
	}
	i := 0
	for _, c := range name[n+3 : min(len(name), n+2+int(name[n+1]))] {
		if c < '0' || c > '9' || i > len(g.servers) {
			return false
		}
		i = i*10 + int(c-'0')
	}
	if i >= len(g.servers) {
		return false
	}
	if s := g.servers[i]; !s.loops.Swap(true) {
		g.cfg.Logger.Error(fmt.Sprintf("dns: upstream server %s sends our questions back to us, a loop: it is not asked until it stops; "+
			"let it ask others, or name other servers with --dns-upstream or in the configuration", s.Address), "zone", g.zone)
	}
	return true
}

// Stats is one server's state and counters.
type Stats struct {
	Server               string
	Down, Self, Loops    bool
	Rcodes               map[wire.Rcode]uint64
	Failures             uint64
	CheckFailures        uint64
	ConnHits, ConnMisses uint64
	Forged               uint64
	Took                 *Histogram
}

// Stats gives the state of all servers, and how often a question met none that was well.
func (g *Group) Stats() (out []Stats, broken uint64) {
	for _, s := range g.servers {
		st := Stats{
			Server: s.Address.String(), Down: s.down.Load(), Self: s.self.Load(), Loops: s.loops.Load(), Failures: s.failures.Load(),
			CheckFailures: s.checkFailures.Load(), ConnHits: s.connHits.Load(), ConnMisses: s.connDials.Load(), Forged: s.forged.Load(), Took: &s.took,
			Rcodes: map[wire.Rcode]uint64{},
		}
		for c := range s.rcodes {
			if n := s.rcodes[c].Load(); n > 0 {
				st.Rcodes[wire.Rcode(c)] = n
			}
		}
		out = append(out, st)
	}
	return out, g.broken.Load()
}

// Same tells whether a group of that configuration would ask the same servers in the same way. Functions and authorities are not looked at.
func (g *Group) Same(cfg Config) bool {
	h := New(cfg).cfg
	return slices.Equal(g.cfg.Servers, h.Servers) && g.cfg.Policy == h.Policy && g.cfg.Timeout == h.Timeout && g.cfg.MaxFails == h.MaxFails &&
		g.cfg.HealthInterval == h.HealthInterval && g.cfg.Idle == h.Idle && string(g.cfg.Zone) == string(h.Zone)
}

// OwnRoots tells whether the group trusts other authorities than the system's.
func (g *Group) OwnRoots() bool { return g.cfg.Roots != nil }
