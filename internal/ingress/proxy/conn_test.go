package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// TestUnread: an orderly end says "not read" only if the other side closed before it got the request.
func TestUnread(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		read bool // the backend reads the second request before it closes
	}{{"closed before", false}, {"closed after reading", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			closed := make(chan struct{})
			a := script(t, func(_ int, c net.Conn, br *bufio.Reader) {
				if _, _, err := readRequest(br); err != nil {
					return
				}
				_, _ = io.WriteString(c, ok2)
				if tt.read {
					_, _, _ = readRequest(br)
				}
				c.Close()
				close(closed)
			})
			ep := newEndpoint(netip.MustParseAddrPort(a))
			c, err := ep.get(context.Background(), time.Second, time.Now().Add(10*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			c.budget = unbounded
			ask := func() (*http.Response, error) {
				_, _ = c.bw.WriteString("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx")
				if err := c.bw.Flush(); err != nil {
					t.Fatal(err)
				}
				return http.ReadResponse(c.br, nil)
			}
			res, err := ask()
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			if !tt.read {
				<-closed
			}
			c.before += c.sent // as get does for a connection from the pool
			c.sent = 0
			if _, err := ask(); err != io.ErrUnexpectedEOF {
				t.Fatalf("the second request: %v", err)
			}
			if got := c.unread(); got == tt.read {
				t.Errorf("unread says %v", got)
			}
		})
	}
}

// TestIdleConnectionsAge: what has not been used for BackendIdleTimeout is closed.
func TestIdleConnectionsAge(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	a := script(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, _, err := readRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, ok2)
		_, _ = br.ReadByte()
		close(ended)
	})
	w := newWorld(t, func(c *Config) { c.BackendIdleTimeout = 20 * time.Millisecond })
	w.route(a)
	get(t, w.client(), "http://a.test/")
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the idle connection is kept for ever")
	}
}
