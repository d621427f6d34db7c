// Package graceful serves HTTP the way a Pod should: when it is told to stop, it goes on serving until nobody needs it.
//
// A Pod that is being deleted gets SIGTERM at the same moment at which the rest of the cluster begins to hear of it. Until the
// last proxy has taken it out of its lists, new connections still arrive; and clients hold kept-alive connections that no
// proxy can move. A server that closes its listener on SIGTERM therefore fails requests. This one
//
//  1. keeps accepting, and answers every request with "Connection: close", so that each client moves on by itself after
//     an answer that it got whole. Idle connections are not closed yet: a request may already be on its way in them;
//  2. after Linger, ends as soon as no connection is open;
//  3. after Limit, closes the connections on which nobody has asked since, and ends when the last request in flight is
//     answered. A client that writes into such a connection at that very moment finds it closed and, if it may, asks again.
//
// Contract. Serve blocks until all of this is done and leaves no goroutine behind, unless a handler itself never returns.
// Draining may be called by any goroutine.
package graceful

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server is an HTTP server that drains. The zero value of every field but Handler is usable.
type Server struct {
	Handler http.Handler
	Linger  time.Duration // shortest time between the order to stop and the end; the cluster needs it to hear of the order
	Limit   time.Duration // longest wait for idle connections to be used or closed by the client
	Log     *slog.Logger  // nil: slog.Default()

	draining atomic.Bool
}

// finishing bounds how long a request that is in flight at Limit may still take. With Limit it must stay below the Pod's
// terminationGracePeriodSeconds, 30 by default.
const finishing = 20 * time.Second

// Draining tells whether the order to stop has come. A readiness probe should fail then.
func (s *Server) Draining() bool { return s.draining.Load() }

// Serve answers on l until ctx ends, then drains. It returns nil if no request was cut.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	log := s.Log
	if log == nil {
		log = slog.Default()
	}
	conns := newConnections()
	srv := &http.Server{
		Handler:           s.closing(s.Handler),
		ConnState:         conns.observe,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()

	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	log.Info("draining", "connections", conns.open())

	begin := time.Now()
	conns.wait(s.Linger, s.Limit)
	log.Info("closing", "after", time.Since(begin).Round(time.Millisecond), "connections", conns.open())

	last, cancel := context.WithTimeout(context.Background(), finishing)
	defer cancel()
	if err := srv.Shutdown(last); err != nil {
		_ = srv.Close()
		return fmt.Errorf("shut down %s: requests still in flight: %w", l.Addr(), err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// closing adds "Connection: close" to every answer while draining. It does so with the header rather than with
// http.Server.SetKeepAlivesEnabled(false), which would also close idle connections at once, and with them the requests that
// clients are just writing into them.
func (s *Server) closing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cw := &closingWriter{ResponseWriter: w, server: s}
		next.ServeHTTP(cw, r)
		if !cw.wrote {
			cw.WriteHeader(http.StatusOK)
		}
	})
}

// closingWriter decides when the header is written, not when the request comes: a slow request that spans the order to stop is
// answered with "Connection: close", too.
type closingWriter struct {
	http.ResponseWriter
	server *Server
	wrote  bool
}

func (w *closingWriter) WriteHeader(code int) {
	if !w.wrote && code >= 200 {
		w.wrote = true
		if w.server.Draining() {
			w.Header().Set("Connection", "close")
		}
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *closingWriter) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *closingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// connections counts the open connections of a server.
type connections struct {
	mu      sync.Mutex
	count   int
	changed chan struct{} // holds a token after a change; only wait takes it
}

func newConnections() *connections { return &connections{changed: make(chan struct{}, 1)} }

// observe is the server's ConnState hook.
func (c *connections) observe(_ net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.count++
	case http.StateClosed, http.StateHijacked:
		c.count--
	default:
		return
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *connections) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// wait returns when at least linger has passed and no connection is open, or when limit has passed.
func (c *connections) wait(linger, limit time.Duration) {
	limit = max(limit, linger)
	lingered, limited := time.NewTimer(linger), time.NewTimer(limit)
	defer lingered.Stop()
	defer limited.Stop()
	for late := false; !late || c.open() > 0; {
		select {
		case <-lingered.C:
			late = true
		case <-c.changed:
		case <-limited.C:
			return
		}
	}
}
