package graceful

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// served runs a Server on loopback; order gives it the order to stop, and ended has what Serve returned.
func served(t *testing.T, s *Server) (address string, order func(), ended chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	return l.Addr().String(), cancel, ended
}

func wait(t *testing.T, ended chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("Serve did not return")
		return nil
	}
}

// connect opens a connection and asks once in it, so that it is kept alive from then on.
func connect(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r := bufio.NewReader(c)
	if resp := ask(t, c, r); resp.Close {
		t.Fatal("told to close before the order to stop")
	}
	return c, r
}

func ask(t *testing.T, c net.Conn, r *bufio.Reader) *http.Response {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}

var nothing = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})

// An idle connection stays usable after the order, is told to close with its next answer, and its end ends the server
// long before Limit.
func TestIdleConnectionMayStillAsk(t *testing.T) {
	t.Parallel()
	s := &Server{Handler: nothing, Limit: time.Hour}
	address, order, ended := served(t, s)
	c, r := connect(t, address)
	order()
	until(t, "draining", s.Draining)
	if resp := ask(t, c, r); resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("%s, close=%v", resp.Status, resp.Close)
	}
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
}

// A connection on which nobody asks any more does not hold the server longer than Limit.
func TestIdleConnectionIsClosedAtLimit(t *testing.T) {
	t.Parallel()
	s := &Server{Handler: nothing, Limit: 50 * time.Millisecond}
	address, order, ended := served(t, s)
	_, r := connect(t, address)
	order()
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("the connection ended with %v, want EOF", err)
	}
}

// A request that is in flight at Limit is answered in full.
func TestRequestInFlightIsFinished(t *testing.T) {
	t.Parallel()
	reached, release := make(chan struct{}), make(chan struct{})
	s := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(reached)
		<-release
		_, _ = io.WriteString(w, "whole")
	})}
	address, order, ended := served(t, s)
	body := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + address)
		if err != nil {
			body <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		body <- string(b)
	}()
	<-reached
	order()
	// Linger and Limit are zero, so the listener is closed at once, and with it the way for new requests.
	until(t, "the listener to be closed", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(release)
	if got := <-body; got != "whole" {
		t.Errorf("answer %q", got)
	}
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
}
