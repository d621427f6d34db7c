package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// maxIdle bounds the idle connections kept per endpoint.
const maxIdle = 256

// failureHold is how long an endpoint that refused a connection is passed over while others are left.
const failureHold = time.Second

// errGone means that the endpoint has left the ready set since it was picked.
var errGone = errors.New("the endpoint has been taken out of use")

// endpoint is one address and its pool, shared by all backends that contain it.
type endpoint struct {
	addr netip.AddrPort
	name string // addr as text
	refs int    // endpoint sets that hold it; touched by the follower only

	failedUntil atomic.Int64 // Unix nanoseconds
	sending     atomic.Int64 // requests that have been let in by get and are not written yet

	mu   sync.Mutex
	idle []*conn // the most recently used last: that one is the likeliest to be alive, and the rest may age out
	gone bool
}

func newEndpoint(addr netip.AddrPort) *endpoint { return &endpoint{addr: addr, name: addr.String()} }

// get gives a pooled connection that is still good, or a new one. deadline is put on the connection either way. The caller calls written
// once it has sent what it has to send at once.
func (e *endpoint) get(ctx context.Context, dialTimeout time.Duration, deadline time.Time) (*conn, error) {
	e.sending.Add(1)
	c, err := e.connect(ctx, dialTimeout, deadline)
	if err != nil {
		e.written()
	}
	return c, err
}

func (e *endpoint) written() { e.sending.Add(-1) }

func (e *endpoint) connect(ctx context.Context, dialTimeout time.Duration, deadline time.Time) (*conn, error) {
	for {
		e.mu.Lock()
		if e.gone {
			e.mu.Unlock()
			return nil, errGone
		}
		n := len(e.idle)
		if n == 0 {
			e.mu.Unlock()
			return e.dial(ctx, dialTimeout, deadline)
		}
		c := e.idle[n-1]
		e.idle[n-1] = nil
		e.idle = e.idle[:n-1]
		e.mu.Unlock()
		if c.nc.SetDeadline(deadline) == nil && c.usable() {
			c.before += c.sent
			c.reused, c.sent = true, 0
			return c, nil
		}
		c.close()
	}
}

func (e *endpoint) dial(ctx context.Context, timeout time.Duration, deadline time.Time) (*conn, error) {
	d := net.Dialer{Timeout: timeout}
	nc, err := d.DialContext(ctx, "tcp", e.name)
	if err != nil {
		return nil, err
	}
	c, err := newConn(nc.(*net.TCPConn), e)
	if err == nil {
		err = nc.SetDeadline(deadline)
	}
	e.mu.Lock()
	if e.gone {
		err = errGone
	}
	e.mu.Unlock()
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return c, nil
}

// put takes back a connection on which a request and its answer are complete.
func (e *endpoint) put(c *conn, now time.Time) {
	c.idleSince = now
	e.mu.Lock()
	if e.gone || len(e.idle) >= maxIdle {
		e.mu.Unlock()
		c.close()
		return
	}
	e.idle = append(e.idle, c)
	e.mu.Unlock()
}

// retire takes the endpoint out of use: nothing new starts on it, and its idle connections close now, so that a backend that is
// stopping does not wait for them.
func (e *endpoint) retire() {
	e.mu.Lock()
	e.gone = true
	e.mu.Unlock()
	e.drop()
}

// settle waits, after retire, for the requests that were let in just before to be written, or for limit.
func (e *endpoint) settle(limit time.Duration) {
	for end := time.Now().Add(limit); e.sending.Load() > 0 && time.Now().Before(end); {
		time.Sleep(50 * time.Microsecond)
	}
}

// drop closes the idle connections.
func (e *endpoint) drop() {
	e.mu.Lock()
	idle := e.idle
	e.idle = nil
	e.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

// reap closes the connections that have been idle since before t.
func (e *endpoint) reap(t time.Time) {
	e.mu.Lock()
	n := 0
	for n < len(e.idle) && e.idle[n].idleSince.Before(t) {
		n++
	}
	old := append([]*conn(nil), e.idle[:n]...)
	e.idle = append(e.idle[:0], e.idle[n:]...)
	clear(e.idle[len(e.idle):cap(e.idle)])
	e.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}

func (e *endpoint) failed(now time.Time) { e.failedUntil.Store(now.Add(failureHold).UnixNano()) }

func (e *endpoint) failing(now int64) bool { return e.failedUntil.Load() > now }
