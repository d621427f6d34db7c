package apiserver

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	restclient "k8s.io/client-go/rest"
	"k8s.io/kubernetes/pkg/capabilities"

	"fairway.dev/fairway/internal/apiserver/pki"
	"fairway.dev/fairway/internal/apiserver/service"
)

// readyPoll is how often the server asks itself whether it is ready. It bounds what Ready adds to the start-up time.
const readyPoll = 5 * time.Millisecond

// Server is the stand-alone API server.
type Server struct {
	config     Config
	log        *slog.Logger
	lock       *os.File
	listeners  *listeners
	addresses  []netip.AddrPort
	authority  *pki.Authority
	serving    pki.Pair
	admin      pki.Pair
	kubelet    pki.Pair // the API as a client of kubelets
	tokens     tokens
	accounts   *accounts
	loopback   *restclient.Config
	allocators *service.Allocators
	services   *service.Storage // once it is assembled
	database   *database

	ready   chan struct{}
	release sync.Once
}

// New checks the configuration and the data directory, takes the directory's lock, makes the certificates that are missing
// and binds the addresses. It starts nothing: a client that connects waits until Run. Errors are one line that names what is
// wrong and what to do. If Run is never called, Close must be.
func New(config Config) (*Server, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{config: config, log: config.Logger, ready: make(chan struct{})}
	if s.allocators, err = service.NewAllocators(config.ServiceCIDRs, config.NodePorts); err != nil {
		return nil, err
	}
	if err := s.claim(); err != nil {
		s.Close()
		return nil, err
	}
	routeUpstreamLogs(config.Logger)
	// Containers may be privileged, as on every cluster that runs its own add-ons: a namespace's Pod Security label says where not. Without
	// this, upstream's validation refuses them everywhere, and what they can do hostPath volumes could all the same.
	capabilities.Setup(true, 0)
	return s, nil
}

// claim takes hold of what the server needs from the machine.
func (s *Server) claim() (err error) {
	if err := os.MkdirAll(s.config.Dir, 0o700); err != nil {
		return fmt.Errorf("data directory %s: create: %w", s.config.Dir, err)
	}
	if s.lock, err = lockDirectory(s.config.Dir); err != nil {
		return err
	}
	if err := os.RemoveAll(restoring(s.config.Dir)); err != nil {
		return fmt.Errorf("data directory %s: remove what an interrupted restore left: %w", s.config.Dir, err)
	}
	if s.listeners, err = listen(s.config.Listen); err != nil {
		return err
	}
	s.addresses = s.listeners.addresses()
	if s.database, err = newDatabase(s.config.Dir, s.config.NoSync, s.log); err != nil {
		return err
	}
	return s.issueCertificates()
}

// Close gives back what New took. It is only needed if Run is not called, and harmless otherwise.
func (s *Server) Close() {
	s.release.Do(func() {
		if s.listeners != nil {
			_ = s.listeners.Close()
		}
		if s.database != nil {
			s.database.close()
		}
		if s.lock != nil {
			_ = s.lock.Close()
		}
	})
}

// Addresses are the addresses that are served, in the order of Config.Listen.
func (s *Server) Addresses() []netip.AddrPort { return s.addresses }

// Ready is closed when the server answers requests, the system namespaces exist and /readyz says ok.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Trouble is why the server refuses writes at the moment, in one line, or nil.
func (s *Server) Trouble() error { return s.database.room.check(roomForWrites) }

// Run serves until parent ends or something fails that cannot be repaired, and returns when everything is stopped, etcd last.
// The end of parent is not an error. Run can be called once. When etcd cannot go on, what waits for it is not waited for: the process should
// end then.
func (s *Server) Run(parent context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- s.run(parent) }()
	select {
	case err := <-ended:
		return err
	case <-s.database.broken:
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(brokenLimit):
		s.Close()
		return s.database.failure(s.database.cause)
	}
}

// brokenLimit is how long the rest may take to end when etcd cannot go on.
const brokenLimit = time.Second

func (s *Server) run(parent context.Context) error {
	defer s.Close()
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)

	started := make(chan error, 1)
	go func() { started <- s.database.start() }()
	a, err := s.assemble(ctx, started)
	if err != nil {
		s.database.stop()
		if parent.Err() != nil { // told to stop while starting
			return nil
		}
		return err
	}
	defer s.database.stop()
	defer a.storages.destroy() // connections would hold up the end of etcd

	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	running.Go(func() {
		if err := s.database.await(ctx); err != nil {
			cancel(err)
		}
	})
	running.Go(func() { s.database.keep(ctx) })
	running.Go(func() {
		if !s.awaitReady(ctx) {
			return
		}
		running.Go(func() { a.defaults.run(ctx, s.log) })
		running.Go(func() { a.services.Run(ctx, a.objects.client, s.log) })
		a.objects.keep(ctx, s.log)
	})
	if err := a.prepared.RunWithContext(ctx); err != nil {
		return fmt.Errorf("API server: %w", err)
	}
	if parent.Err() == nil {
		return context.Cause(ctx)
	}
	return nil
}

// awaitReady closes ready when the server says that it is, or returns false when ctx ends.
func (s *Server) awaitReady(ctx context.Context) bool {
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for {
		if err := s.checkReady(ctx); err == nil {
			close(s.ready)
			return true
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return false
		}
	}
}

func (s *Server) checkReady(ctx context.Context) error {
	client, err := restclient.HTTPClientFor(s.loopback)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url()+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", response.Status)
	}
	return nil
}

func (s *Server) pkiDir() string { return filepath.Join(s.config.Dir, "pki") }
