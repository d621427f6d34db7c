package node

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
)

// connections are a listener with all that it has accepted and that is not closed. An HTTP server forgets a connection that becomes a stream:
// it neither closes it at its end nor tells anybody that the client has gone.
type connections struct {
	net.Listener

	mu       sync.Mutex
	open     map[*connection]struct{}
	closed   bool
	requests sync.WaitGroup
}

func newConnections(l net.Listener) *connections {
	return &connections{Listener: l, open: map[*connection]struct{}{}}
}

// Accept implements net.Listener.
func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	one := &connection{Conn: conn, of: c, ctx: ctx, gone: cancel}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[one] = struct{}{}
	return one, nil
}

// counted makes close wait for the handler's requests.
func (c *connections) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		closed := c.closed
		if !closed {
			c.requests.Add(1)
		}
		c.mu.Unlock()
		if closed {
			return
		}
		defer c.requests.Done()
		h.ServeHTTP(w, r)
	})
}

// close closes all that is open, and returns when all requests have ended.
func (c *connections) close() {
	c.mu.Lock()
	c.closed = true
	var all []*connection
	for one := range c.open {
		all = append(all, one)
	}
	c.mu.Unlock()
	for _, one := range all {
		one.Close()
	}
	c.requests.Wait()
}

// connection knows when its client has gone: whoever serves a stream reads from it all the time.
type connection struct {
	net.Conn
	of   *connections
	ctx  context.Context // ends when the client has gone or the connection is closed
	gone context.CancelFunc
}

func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.gone()
	}
	return n, err
}

func (c *connection) Close() error {
	c.gone()
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// connContext makes the context of a connection's requests end with the connection.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	if over, ok := conn.(*tls.Conn); ok {
		conn = over.NetConn()
	}
	one, ok := conn.(*connection)
	if !ok {
		return ctx
	}
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(one.ctx, cancel)
	return ctx
}
