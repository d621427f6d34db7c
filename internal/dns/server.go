package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fairway.dev/fairway/internal/dns/config"
	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/dns/zone"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// Config says what a Server serves and where.
type Config struct {
	// Listen are the addresses, each for UDP and TCP. Port 0 takes a free one, the same for both.
	Listen []netip.AddrPort
	// Domain is the cluster domain; "" is cluster.local.
	Domain string
	// TTL of the cluster's records, in whole seconds; 0 is 5 s.
	TTL time.Duration
	// Upstreams are asked for all other names. Without any, they are read from ResolvConf, now and whenever it changes; ""
	// means that there are none, and such names are answered with SERVFAIL.
	Upstreams  []netip.AddrPort
	ResolvConf string
	// AfterConsumer is the consumer of the store that must have a cluster address in force before its name is answered;
	// "" waits for nobody.
	AfterConsumer string
	// Service is the DNS Service itself: the zone's NS record names it, and an upstream at one of its addresses is this server.
	Service model.Name
	Pods    zone.PodNames
	// Ranges are addresses of the cluster's Services and Pods, besides those of the store's ServiceCIDRs and Nodes: reverse questions about these
	// are never forwarded.
	Ranges []netip.Prefix
	// Exists asks the API whether a Service exists, past all caches. With it, the name of a Service that no watch has brought is denied only
	// after the API has denied it; nil denies at once.
	Exists func(context.Context, model.Name) (bool, error)
	// File is the configuration file (package config), read now and whenever it changes, or a file that it names does. Without one, Settings
	// are the configuration; nil is config.Default. Either may name the upstreams instead of Upstreams and ResolvConf.
	File     string
	Settings *config.File
	// Checkpoint is the file that the names are written to, for a start while the API is away; "" is none. Cluster is what must be the same
	// then: names of another cluster are not taken.
	Checkpoint, Cluster string
	// Handover is the path of the socket at which a successor gets this server's sockets, and this one its predecessor's; "" is none.
	Handover string
	// Inherited are sockets that were taken over before; nil takes them over now, from whoever is at Handover.
	Inherited *Inherited
	// Logger is where things go that need a person; nil is slog.Default.
	Logger *slog.Logger
}

// Server is one DNS server. Use New.
type Server struct {
	cfg     Config
	st      *store.Store
	log     *slog.Logger
	zone    *zone.Zone
	sockets []*socket
	ns      *namespace
	plan    atomic.Pointer[plan]
	builder builder // of the one who reloads
	forward forwarder
	metrics metrics
	asker   *asker // nil: never asks
	// gone is the revision up to which all that was taken away is answered no more.
	gone atomic.Uint64
	// change is closed at the zone's next change.
	change atomic.Pointer[chan struct{}]
	http   []httpListener
	lame   atomic.Bool // told to stop, and still answering

	predecessor *net.UnixConn     // open as long as it lives; nil if there is none
	handover    *net.UnixListener // nil if there is none
	handed      atomic.Bool       // a successor has the sockets
}

// socket is one listening address.
type socket struct {
	addr netip.AddrPort
	udp  []*net.UDPConn // one per processor
	tcp  *net.TCPListener
}

// New opens the sockets. A port that is taken, or an address that the machine does not have, is an error that names it.
func New(st *store.Store, cfg Config) (*Server, error) {
	if len(cfg.Listen) == 0 {
		return nil, errors.New("dns: no address to listen on")
	}
	s := &Server{cfg: cfg, st: st}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		s.close()
		s.ns.file.Close()
		return nil, err
	}
	return s, nil
}

// prepare fills in what needs no socket.
func (s *Server) prepare() (err error) {
	if s.cfg.Logger == nil {
		s.cfg.Logger = slog.Default()
	}
	s.log = s.cfg.Logger
	s.change.Store(new(make(chan struct{})))
	if s.cfg.Exists != nil {
		s.asker = &asker{exists: s.cfg.Exists, log: s.log, names: map[string]*allowance{}}
	}
	s.builder = builder{s: s, resolvConf: map[string][]byte{}, said: map[string]string{}}
	s.forward.metrics, s.forward.flights = &s.metrics, map[string]*flight{}
	s.ns, err = currentNamespace()
	return err
}

// open reads the configuration and opens the sockets.
func (s *Server) open() error {
	in := s.cfg.Inherited
	if in == nil {
		var err error
		if in, err = inherit(s.cfg.Handover); err != nil {
			in.Close()
			return err
		}
	}
	defer in.Close()
	s.predecessor = in.from
	for _, a := range s.cfg.Listen {
		k := in.take(a)
		if k == nil {
			var err error
			if k, err = listen(a); err != nil {
				return err
			}
		}
		s.sockets = append(s.sockets, k)
	}
	p, err := s.builder.build(nil) // behind the sockets: a resolver at one of them is this server
	if err != nil {
		return err
	}
	if s.zone, err = zone.New(s.zoneConfig(p.file)); err != nil {
		return err
	}
	s.metrics.init(s.zone.Domain())
	s.recall()
	s.forward.limit.Store(int64(p.file.MaxConcurrent))
	s.plan.Store(p)
	if err := s.openHTTP(p.file); err != nil {
		return err
	}
	if err := s.store(); err != nil {
		s.log.Warn("dns: the service manager does not keep the sockets", "err", err)
	}
	return s.openHandover()
}

// zoneConfig gives the cluster zone's configuration; what is in the file counts only where the caller has not said otherwise.
func (s *Server) zoneConfig(f *config.File) zone.Config {
	ttl, pods := s.cfg.TTL, s.cfg.Pods
	if ttl == 0 {
		ttl = f.Cluster.TTL.D()
	}
	switch f.Cluster.Pods {
	case "disabled":
		pods = zone.PodsDisabled
	case "verified":
		pods = zone.PodsVerified
	}
	return zone.Config{Domain: s.cfg.Domain, TTL: seconds(ttl), Service: s.cfg.Service, Pods: pods, Ranges: s.cfg.Ranges}
}

// agree refuses a configuration that is for another cluster.
func (s *Server) agree(f *config.File) error {
	domain := cmp.Or(s.cfg.Domain, "cluster.local")
	if own, err := wire.EncodeName(nil, domain); f.Cluster.Domain != nil && (err != nil || string(own) != string(f.Cluster.Domain)) {
		return fmt.Errorf("%s: cluster.domain: it is for %s and this cluster's domain is %s; give the same, or --cluster-domain", s.cfg.File, f.Cluster.Domain, domain)
	}
	return nil
}

// VerifiesPods tells whether names of Pods are answered only for those that the store has rows of.
func (s *Server) VerifiesPods() bool { return s.zone.VerifiesPods() }

// Addrs gives the addresses that are served, in the order of Config.Listen.
func (s *Server) Addrs() []netip.AddrPort {
	var out []netip.AddrPort
	for _, k := range s.sockets {
		out = append(out, k.addr)
	}
	return out
}

// HandedOver tells whether a successor has the sockets, too.
func (s *Server) HandedOver() bool { return s.handed.Load() }

// Close gives up a server whose Run was never called. Run closes by itself.
func (s *Server) Close() { s.close(); s.ns.file.Close() }

func (s *Server) close() {
	for _, k := range s.sockets {
		k.close()
	}
	for _, l := range s.http {
		l.Close()
	}
	if s.handover != nil {
		s.handover.Close()
	}
}

func (k *socket) close() {
	for _, c := range k.udp {
		c.Close()
	}
	if k.tcp != nil {
		k.tcp.Close()
	}
}

// Run serves until ctx ends, and then returns nil. An error means that a socket failed. It may be called once.
func (s *Server) Run(until context.Context) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(until))
	defer cancel()
	var (
		wg    sync.WaitGroup
		once  sync.Once
		cause error
	)
	start := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && ctx.Err() == nil {
				once.Do(func() { cause = err })
				cancel()
			}
		})
	}
	s.forward.base = ctx
	start(func() error { s.follow(ctx); return nil })
	start(func() error { s.keepConfig(ctx); return nil })
	start(func() error { s.remember(ctx); return nil })
	start(func() error { return s.handOver(ctx) })
	conns := newConns()
	s.awaitTurn(ctx)
	for _, k := range s.sockets {
		for _, c := range k.udp {
			start(func() error { return s.serveUDP(ctx, k, c) })
		}
		start(func() error { return s.serveTCP(ctx, k, conns) })
	}
	for _, l := range s.http {
		start(func() error { return l.serve(ctx) })
	}
	select {
	case <-ctx.Done():
	case <-until.Done():
		s.linger(ctx)
		if s.handed.Load() {
			s.retire(conns)
		}
		cancel()
	}
	s.close()
	conns.closeAll()
	wg.Wait()
	s.forward.wait()
	s.ns.file.Close()
	return cause
}

// linger goes on answering for the time that whoever balances between servers needs to see that this one goes.
func (s *Server) linger(ctx context.Context) {
	s.lame.Store(true)
	t := time.NewTimer(s.plan.Load().file.Health.Lameduck.D())
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// scratch is what one goroutine needs to answer; nothing in it outlives one question.
type scratch struct {
	q      wire.Query
	r      wire.Reply
	key    []byte
	origin origin
	// client and v6 are for counting and logging.
	client netip.Addr
	v6     bool
	done   [2]uint64 // replies by origin since they were last timed
}

// origin says whose name was asked for.
type origin uint8

const (
	fromZone origin = iota
	fromElsewhere
)

func (w *scratch) start(s *Server, p *plan, buf []byte, limit int) {
	w.r.Start(&w.q, buf, limit)
	w.r.Recursion = p.able
}

// answer builds the reply to a packet in buf. A nil reply and slow false mean silence; slow means that the answer takes
// time: call answerSlowly elsewhere. limit is how many bytes the transport takes, before what the client says.
func (s *Server) answer(w *scratch, packet, buf []byte, tcp bool, limit int) (reply []byte, slow bool) {
	code, ok := w.q.Parse(packet)
	if !ok {
		s.metrics.dropped.Add(1)
		return nil, false
	}
	if !tcp {
		limit = min(limit, w.q.UDPLimit())
	}
	p := s.plan.Load()
	w.start(s, p, buf, limit)
	w.origin = fromZone
	if code != wire.NoError {
		w.r.Rcode = code
		reply = w.r.Finish()
	} else if reply, ok = s.atOnce(w, p, buf, limit); !ok {
		return nil, true
	}
	s.answered(w, p, reply, tcp)
	return reply, false
}

// answerSlowly answers a packet that may need an upstream, and takes as long as that takes.
func (s *Server) answerSlowly(ctx context.Context, w *scratch, packet []byte, client netip.Addr, tcp bool, limit int) []byte {
	if code, ok := w.q.Parse(packet); !ok || code != wire.NoError {
		return nil // it was parsed before
	}
	if !tcp {
		limit = min(limit, w.q.UDPLimit())
	}
	started, p := time.Now(), s.plan.Load()
	w.client, w.v6 = client, client.Is6()
	reply := s.respond(ctx, w, p, client, limit, 0)
	s.answered(w, p, reply, tcp)
	s.timed(w, time.Since(started))
	return reply
}

// listens tells whether a packet to that address would reach this server.
func (s *Server) listens(a netip.AddrPort) bool {
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	for _, k := range s.sockets {
		if k.addr.Port() != a.Port() {
			continue
		}
		if k.addr.Addr() == a.Addr() || k.addr.Addr().IsUnspecified() && slices.Contains(s.local(), a.Addr()) {
			return true
		}
	}
	if a.Port() == 53 && s.st != nil && s.cfg.Service.Name != "" {
		if row := s.st.Snapshot().Services.Get(s.cfg.Service); row != nil {
			return slices.Contains(row.ClusterIPs, a.Addr())
		}
	}
	return false
}

// local lists the machine's own addresses; none if they cannot be read.
func (s *Server) local() []netip.Addr {
	out, err := s.ns.local()
	if err != nil {
		s.log.Warn("dns: list own addresses", "err", err)
	}
	return out
}

// bindError says what cannot be bound.
func bindError(network string, a netip.AddrPort, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("dns: listen on %s %s: %w", network, a, err)
}
