package forward

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fairway.dev/fairway/internal/dns/wire"
)

// Transport says how a server is asked.
type Transport uint8

// The transports. UDP goes over to TCP when a response is truncated.
const (
	UDP Transport = iota
	TCP
	TLS
)

// Address is one server and how it is asked.
type Address struct {
	netip.AddrPort
	Transport Transport
	// Name is what the certificate must be good for; "" is the address. Only for TLS.
	Name string
}

// ParseAddress reads ADDRESS[:PORT], tcp://ADDRESS[:PORT] or tls://ADDRESS[:PORT][@NAME]. The port is 53, or 853 with TLS.
func ParseAddress(s string) (a Address, err error) {
	rest, port := s, uint16(53)
	if scheme, after, ok := strings.Cut(s, "://"); ok {
		rest = after
		switch scheme {
		case "udp", "dns":
		case "tcp":
			a.Transport = TCP
		case "tls":
			a.Transport, port = TLS, 853
			var named bool
			if rest, a.Name, named = strings.Cut(after, "@"); named && a.Name == "" {
				return a, fmt.Errorf("%q: no name behind the @", s)
			}
		default:
			return a, fmt.Errorf("%q: %s:// is not known; give ADDRESS[:PORT], tcp://ADDRESS[:PORT] or tls://ADDRESS[:PORT][@NAME]", s, scheme)
		}
	}
	if ip, e := netip.ParseAddr(strings.Trim(rest, "[]")); e == nil {
		a.AddrPort = netip.AddrPortFrom(ip.Unmap(), port)
	} else if ap, e := netip.ParseAddrPort(rest); e == nil && ap.Port() != 0 {
		a.AddrPort = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	} else {
		return a, fmt.Errorf("%q is no address; give ADDRESS[:PORT], tcp://ADDRESS[:PORT] or tls://ADDRESS[:PORT][@NAME]", s)
	}
	return a, nil
}

// String writes an address as ParseAddress reads it.
func (a Address) String() string {
	switch {
	case a.Transport == TCP:
		return "tcp://" + a.AddrPort.String()
	case a.Transport == TLS && a.Name != "":
		return "tls://" + a.AddrPort.String() + "@" + a.Name
	case a.Transport == TLS:
		return "tls://" + a.AddrPort.String()
	}
	return a.AddrPort.String()
}

// server is one server's state.
type server struct {
	Address
	tls *tls.Config

	fails    atomic.Int32 // in a row
	down     atomic.Bool
	self     atomic.Bool // an address of ours
	loops    atomic.Bool // it has sent us one of our own questions
	keepCase atomic.Bool // it repeats the case of letters, as far as is known

	mu     sync.Mutex
	idle   []idleConn
	closed bool

	rcodes              [rcodeSlots]atomic.Uint64
	failures            atomic.Uint64
	checkFailures       atomic.Uint64
	connHits, connDials atomic.Uint64
	forged              atomic.Uint64
	took                Histogram
}

// rcodeSlots are for the codes 0 to 15; the others cannot be told apart without looking into the OPT.
const rcodeSlots = 16

type idleConn struct {
	net.Conn
	since time.Time
}

func newServer(a Address, roots *x509.CertPool) *server {
	s := &server{Address: a}
	s.keepCase.Store(true)
	if a.Transport == TLS {
		name := a.Name
		if name == "" {
			name = a.Addr().String()
		}
		s.tls = &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	}
	return s
}

// usable tells whether the server may be asked at all.
func (s *server) usable() bool { return !s.self.Load() && !s.loops.Load() }

// take gives an idle connection that is not older than keep, or nil.
func (s *server) take(keep time.Duration, now time.Time) net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := len(s.idle); n > 0; n = len(s.idle) {
		c := s.idle[n-1]
		s.idle = s.idle[:n-1]
		if now.Sub(c.since) < keep {
			return c.Conn
		}
		c.Close()
	}
	return nil
}

// maxIdle is how many idle connections are kept for each server.
const maxIdle = 32

func (s *server) giveBack(c net.Conn, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.idle) >= maxIdle {
		c.Close()
		return
	}
	s.idle = append(s.idle, idleConn{c, now})
}

// expire closes idle connections older than keep.
func (s *server) expire(keep time.Duration, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := 0
	for ; i < len(s.idle) && now.Sub(s.idle[i].since) >= keep; i++ {
		s.idle[i].Close()
	}
	s.idle = append(s.idle[:0], s.idle[i:]...)
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.idle {
		c.Close()
	}
	s.idle = nil
}

func (s *server) count(reply []byte, took time.Duration) {
	s.rcodes[wire.ResponseCode(reply)&(rcodeSlots-1)].Add(1)
	s.took.Observe(took)
}
