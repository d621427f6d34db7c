package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

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
	forward *forwarder
	metrics metrics
}

// socket is one listening address.
type socket struct {
	addr netip.AddrPort
	udp  []*net.UDPConn // one per processor
	tcp  *net.TCPListener
}

// New opens the sockets. A port that is taken, or an address that the machine does not have, is an error that names it.
func New(st *store.Store, cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.TTL == 0 {
		cfg.TTL = 5 * time.Second
	}
	if len(cfg.Listen) == 0 {
		return nil, errors.New("dns: no address to listen on")
	}
	z, err := zone.New(zone.Config{Domain: cfg.Domain, TTL: uint32(cfg.TTL / time.Second), Service: cfg.Service, Pods: cfg.Pods})
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, st: st, log: cfg.Logger, zone: z}
	s.metrics.init(z.Domain())
	for _, a := range cfg.Listen {
		k, err := listen(a)
		if err != nil {
			s.close()
			return nil, err
		}
		s.sockets = append(s.sockets, k)
	}
	if s.forward, err = newForwarder(s); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// Addrs gives the addresses that are served, in the order of Config.Listen.
func (s *Server) Addrs() []netip.AddrPort {
	var out []netip.AddrPort
	for _, k := range s.sockets {
		out = append(out, k.addr)
	}
	return out
}

// Close gives up a server whose Run was never called. Run closes by itself.
func (s *Server) Close() { s.close(); s.forward.close() }

func (s *Server) close() {
	for _, k := range s.sockets {
		k.close()
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
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
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
	start(func() error { s.follow(ctx); return nil })
	conns := newConns()
	for _, k := range s.sockets {
		for _, c := range k.udp {
			start(func() error { return s.serveUDP(ctx, k, c) })
		}
		start(func() error { return s.serveTCP(ctx, k, conns) })
	}
	<-ctx.Done()
	s.close()
	conns.closeAll()
	wg.Wait()
	s.forward.wait()
	s.forward.close()
	return cause
}

// scratch is what one goroutine needs to answer; nothing in it outlives one question.
type scratch struct {
	q wire.Query
	r wire.Reply
}

// answer builds the reply to a packet in buf. A nil reply and slow false mean silence; slow means that the answer needs
// an upstream: call answerSlowly elsewhere. limit is how many bytes the transport takes, before what the client says.
func (s *Server) answer(w *scratch, packet, buf []byte, tcp bool, limit int) (reply []byte, slow bool) {
	code, ok := w.q.Parse(packet)
	if !ok {
		s.metrics.dropped.Add(1)
		return nil, false
	}
	s.startReply(w, buf, tcp, limit)
	if code != wire.NoError {
		w.r.Rcode = code
	} else if out, _ := s.zone.Answer(&w.q, &w.r); out != zone.Answered {
		return nil, true
	}
	s.metrics.answered(&w.q, &w.r, tcp)
	return w.r.Finish(), false
}

func (s *Server) startReply(w *scratch, buf []byte, tcp bool, limit int) {
	if !tcp {
		limit = min(limit, w.q.UDPLimit())
	}
	w.r.Start(&w.q, buf, limit)
	w.r.Recursion = s.forward.able()
}

// answerSlowly answers a packet that may need an upstream, and takes as long as that takes.
func (s *Server) answerSlowly(ctx context.Context, w *scratch, packet []byte, tcp bool, limit int) []byte {
	if code, ok := w.q.Parse(packet); !ok || code != wire.NoError {
		return nil // it was parsed before
	}
	s.startReply(w, nil, tcp, limit)
	switch out, target := s.zone.Answer(&w.q, &w.r); out {
	case zone.NotOurs:
		if !tcp {
			limit = min(limit, w.q.UDPLimit())
		}
		reply, err := s.forward.relay(ctx, &w.q, limit)
		if err == nil {
			s.metrics.relayed(&w.q, reply, tcp)
			return reply
		}
		w.r.Rcode = wire.ServerFailure
	case zone.Chase:
		s.forward.chase(ctx, &w.r, target, w.q.Type)
	}
	s.metrics.answered(&w.q, &w.r, tcp)
	return w.r.Finish()
}

// listens tells whether a packet to that address would reach this server.
func (s *Server) listens(a netip.AddrPort) bool {
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	for _, k := range s.sockets {
		if k.addr.Port() != a.Port() {
			continue
		}
		if k.addr.Addr() == a.Addr() || k.addr.Addr().IsUnspecified() && slices.Contains(s.forward.local(), a.Addr()) {
			return true
		}
	}
	if a.Port() == 53 && s.cfg.Service.Name != "" {
		if row := s.st.Snapshot().Services.Get(s.cfg.Service); row != nil {
			return slices.Contains(row.ClusterIPs, a.Addr())
		}
	}
	return false
}

// bindError says what cannot be bound.
func bindError(network string, a netip.AddrPort, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("dns: listen on %s %s: %w", network, a, err)
}
