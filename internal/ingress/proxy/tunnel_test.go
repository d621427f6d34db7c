package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/store"
)

// echo switches to a protocol of lines and sends each one back, the first together with the 101.
func echo(t *testing.T) string {
	return script(t, func(_ int, c net.Conn, br *bufio.Reader) {
		r, err := http.ReadRequest(br)
		if err != nil || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" {
			fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return
		}
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+
			r.Header.Get("Sec-WebSocket-Key")+"\r\n\r\nwelcome\n")
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				fmt.Fprint(c, "bye\n") // the other direction is still open
				return
			}
			fmt.Fprint(c, "echo "+line)
		}
	})
}

const wsRequest = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"

// upgradeConn makes an upgraded connection; the first line was sent before the 101 arrived.
func upgradeConn(t *testing.T, c net.Conn) *bufio.Reader {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(c, wsRequest, "early\n")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Sec-Websocket-Accept") != "k" {
		t.Fatalf("%s %v", res.Status, res.Header)
	}
	expectLine(t, br, "welcome\n")
	expectLine(t, br, "echo early\n")
	return br
}

func expectLine(t *testing.T, br *bufio.Reader, want string) {
	t.Helper()
	if line, err := br.ReadString('\n'); line != want || err != nil {
		t.Fatalf("got %q %v, want %q", line, err, want)
	}
}

// TestUpgradedConnection goes on while its endpoint leaves, over HTTP and HTTPS, and each direction ends by itself.
func TestUpgradedConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.route(echo(t))
	plain, err := net.Dial("tcp", w.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	secure, _ := w.dial("a.test", "http/1.1")
	var readers []*bufio.Reader
	conns := []net.Conn{plain, secure}
	for _, c := range conns {
		readers = append(readers, upgradeConn(t, c))
	}
	w.write(func(x *store.Txn) { putEndpoints(x, "web") })
	for i, c := range conns {
		fmt.Fprint(c, "after\n")
		expectLine(t, readers[i], "echo after\n")
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		expectLine(t, readers[i], "bye\n")
		if _, err := readers[i].ReadByte(); err != io.EOF {
			t.Errorf("end: %v", err)
		}
	}
}

// TestUpgradeRefused: a backend that does not switch answers as to any request.
func TestUpgradeRefused(t *testing.T) {
	t.Parallel()
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) { http.Error(rw, "no", http.StatusUpgradeRequired) })
	w := newWorld(t, nil)
	w.route(a)
	if got := w.raw(wsRequest); !strings.HasPrefix(got, "HTTP/1.1 426") {
		t.Errorf("answered %q", got)
	}
}

// TestStopEndsUpgradedConnections at the drain deadline, not before and not never.
func TestStopEndsUpgradedConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.DrainTimeout = 100 * time.Millisecond })
	w.route(echo(t))
	c, err := net.Dial("tcp", w.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := upgradeConn(t, c)
	if err := w.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := io.ReadAll(br); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("end: %v", err)
	}
}
