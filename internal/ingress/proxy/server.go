package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fairway.dev/fairway/internal/ingress/compile"
	"fairway.dev/fairway/internal/store"
)

// Consumer is the name under which the Server reports to the store's status table.
const Consumer = "ingress"

// Server is the Ingress listener. Use New.
type Server struct {
	cfg     Config
	cursor  *store.Cursor
	log     *slog.Logger
	own     *tls.Certificate
	routing atomic.Pointer[routing]
	tunnels tunnelSet
	open    sync.WaitGroup // requests

	limiter   *limiter
	passwords *passwords
	outside   *http.Transport // to servers that are asked about requests

	listeners []listener
}

type listener struct {
	net.Listener
	tls bool
}

// New opens the sockets and starts nothing; from here on the store's status table has the consumer. Its errors name the address that
// could not be had.
func New(st *store.Store, cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	own, err := ownCertificate(cfg, time.Now())
	if err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	s := &Server{cfg: cfg, log: cfg.Logger, own: own, limiter: newLimiter(), passwords: newPasswords(), outside: newOutside(cfg.DialTimeout)}
	s.routing.Store(&routing{table: &compile.Table{}})
	for _, set := range []struct {
		addrs []netip.AddrPort
		tls   bool
	}{{cfg.HTTP, false}, {cfg.HTTPS, true}} {
		for _, a := range set.addrs {
			l, err := net.Listen("tcp", a.String())
			if err != nil {
				_ = s.Close()
				return nil, fmt.Errorf("ingress: listen on %s: %w", a, err)
			}
			s.listeners = append(s.listeners, listener{l, set.tls})
		}
	}
	s.cursor = st.Follow(Consumer)
	return s, nil
}

// Close gives back what New took, for a Server that will not Run.
func (s *Server) Close() error {
	if s.cursor != nil {
		s.cursor.Close()
	}
	var errs []error
	for _, l := range s.listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// Addrs are the addresses that are listened on, in the order of Config.HTTP, then Config.HTTPS.
func (s *Server) Addrs() (plain, secure []netip.AddrPort) {
	for _, l := range s.listeners {
		a := l.Addr().(*net.TCPAddr).AddrPort()
		if l.tls {
			secure = append(secure, a)
		} else {
			plain = append(plain, a)
		}
	}
	return plain, secure
}

// Table is the routing table in force. It is empty before the first complete snapshot.
func (s *Server) Table() *compile.Table { return s.routing.Load().table }

// Findings says what about the Ingresses is not served as written, ordered by Ingress.
func (s *Server) Findings() []compile.Finding { return s.routing.Load().findings() }

// Run serves until ctx ends, then stops accepting, lets open requests finish for at most Config.DrainTimeout, and returns nil.
// It may be called once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	plain, secure := s.httpServer(false), s.httpServer(true)
	f := newFollower(compile.Options{WithoutClass: s.cfg.WithoutClass, LoopbackEndpoints: s.cfg.LoopbackEndpoints},
		func(r *routing) { s.routing.Store(r) })
	defer s.cursor.Close()

	poolCtx, closePools := context.WithCancel(context.Background()) // pools outlive the listeners
	defer closePools()
	var wg, pools sync.WaitGroup
	pools.Go(func() { f.reap(poolCtx, s.cfg.BackendIdleTimeout) })
	failures := make(chan error, len(s.listeners))
	ready := make(chan struct{})
	following := make(chan struct{})
	wg.Go(func() {
		defer close(following)
		_ = f.follow(ctx, s.cursor, func() { close(ready) })
	})
	for _, l := range s.listeners {
		wg.Go(func() {
			select {
			case <-ctx.Done():
				_ = l.Close()
				return
			case <-ready:
			}
			var err error
			if l.tls {
				err = secure.ServeTLS(l, "", "")
			} else {
				err = plain.Serve(l)
			}
			if !errors.Is(err, http.ErrServerClosed) {
				failures <- fmt.Errorf("ingress: serve %s: %w", l.Addr(), err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failures:
	}
	s.drain(plain, secure)
	s.open.Wait() // those that were cut off end on their own, since their connections have
	cancel()
	<-following
	wg.Wait()
	closePools()
	pools.Wait()
	s.outside.CloseIdleConnections()
	return err
}

// drain ends the servers: politely first, at the deadline by force.
func (s *Server) drain(servers ...*http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.DrainTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, srv := range servers {
		wg.Go(func() {
			if srv.Shutdown(ctx) != nil {
				_ = srv.Close()
			}
		})
	}
	wg.Wait()
	select {
	case <-s.tunnels.drained():
	case <-ctx.Done():
		s.tunnels.closeAll()
		<-s.tunnels.drained()
	}
}

func (s *Server) httpServer(secure bool) *http.Server {
	answer := s.serve
	if s.cfg.AccessLog != nil {
		answer = s.logged(s.serve)
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.open.Add(1)
			defer s.open.Done()
			answer(w, r)
		}),
		ReadHeaderTimeout: s.cfg.ReadHeaderTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		MaxHeaderBytes:    s.cfg.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // clients' mistakes: not ours to warn of
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250},
	}
	if secure {
		srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certificate}
	}
	return srv
}
