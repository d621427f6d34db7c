package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// script is a backend that is driven by hand: for each connection it calls fn, which reads and writes as it likes.
func script(t *testing.T, fn func(n int, c net.Conn, br *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				fn(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// readRequest reads one request whole and gives its body.
func readRequest(br *bufio.Reader) (*http.Request, string, error) {
	r, err := http.ReadRequest(br)
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(r.Body)
	return r, string(b), err
}

const ok2 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// refusing is an address on which nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestDeadEndpointCostsNoRequest: nothing has left, so every method goes to the next endpoint.
func TestDeadEndpointCostsNoRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = rw.Write(b)
	})
	w.route(a, refusing(t), refusing(t))
	c := w.client()
	for _, size := range []int{5, replayLimit * 2} {
		for range 6 {
			res, err := c.Post("http://a.test/", "text/plain", strings.NewReader(strings.Repeat("x", size)))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != 200 || len(b) != size || err != nil {
				t.Errorf("%d bytes: %d, %d back, %v", size, res.StatusCode, len(b), err)
			}
		}
	}
}

func TestAllEndpointsDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.route(refusing(t), refusing(t))
	code, body := get(t, w.client(), "http://a.test/")
	if code != 502 || !strings.Contains(body, "service default/web") || strings.Contains(body, "127.0.0.1") {
		t.Errorf("%d %q: want 502 with the Service and without addresses", code, body)
	}
}

// TestReusedConnectionThatEnds: the first connection answers once and, at the second request, ends without a byte. What is
// idempotent is sent again; what is not is told.
func TestReusedConnectionThatEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method, body string
		code         int
	}{{"GET", "", 200}, {"PUT", "data", 200}, {"DELETE", "", 200}, {"POST", "data", 502}} {
		t.Run(tt.method, func(t *testing.T) {
			t.Parallel()
			var seen atomic.Int64
			a := script(t, func(n int, c net.Conn, br *bufio.Reader) {
				for k := 0; ; k++ {
					_, body, err := readRequest(br)
					if err != nil {
						return
					}
					if k == 1 && n == 0 {
						seen.Add(1)
						return
					}
					if k == 0 && n == 1 && body != tt.body {
						t.Errorf("the repeated body is %q", body)
					}
					_, _ = io.WriteString(c, ok2)
				}
			})
			w := newWorld(t, nil)
			w.route(a)
			c := w.client()
			get(t, c, "http://a.test/")
			req, _ := http.NewRequest(tt.method, "http://a.test/", strings.NewReader(tt.body))
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != tt.code || seen.Load() != 1 {
				t.Errorf("%d after %d ended connections, want %d after 1", res.StatusCode, seen.Load(), tt.code)
			}
		})
	}
}

// TestIdleConnectionClosedByTheBackend is found out before the request leaves, so that a POST is safe too.
func TestIdleConnectionClosedByTheBackend(t *testing.T) {
	t.Parallel()
	first := make(chan net.Conn, 1)
	a := script(t, func(n int, c net.Conn, br *bufio.Reader) {
		for {
			if _, _, err := readRequest(br); err != nil {
				return
			}
			_, _ = io.WriteString(c, ok2)
			if n == 0 {
				first <- c
			}
		}
	})
	w := newWorld(t, nil)
	w.route(a)
	c := w.client()
	get(t, c, "http://a.test/")
	(<-first).Close()
	res, err := c.Post("http://a.test/", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("POST after the idle connection ended: %d", res.StatusCode)
	}
}

// TestBackendFailures: what a backend may do wrong, and what the client is told.
func TestBackendFailures(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer string
		code         int // 0: the answer must break off
	}{
		{"no answer", "", 502},
		{"not HTTP", "SSH-2.0-OpenSSH\r\n", 502},
		{"head breaks off", "HTTP/1.1 200 OK\r\nContent-", 502},
		{"no such status", "HTTP/1.1 042 What\r\nContent-Length: 0\r\n\r\n", 502},
		{"switches unasked", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", 502},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", 502},
		{"head without end", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Pad: "+strings.Repeat("x", 1000)+"\r\n", 200), 502},
		{"informational without end", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100), 502},
		{"body breaks off", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc", 0},
		{"chunks break off", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 0},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := script(t, func(_ int, c net.Conn, br *bufio.Reader) {
				if _, _, err := readRequest(br); err == nil {
					_, _ = io.WriteString(c, tt.answer)
				}
			})
			w := newWorld(t, nil)
			w.route(a)
			for _, scheme := range []string{"http", "https"} {
				res, err := w.client().Get(scheme + "://a.test/")
				if err == nil {
					_, err = io.ReadAll(res.Body)
					res.Body.Close()
				}
				if tt.code == 0 && err == nil {
					t.Errorf("%s: a broken answer arrived as whole", scheme)
				}
				if tt.code != 0 && (err != nil || res.StatusCode != tt.code) {
					t.Errorf("%s: %v %v, want %d", scheme, res, err, tt.code)
				}
			}
		})
	}
}

func TestSlowBackendIs504(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.ResponseTimeout = 200 * time.Millisecond })
	a := script(t, func(_ int, c net.Conn, br *bufio.Reader) {
		_, _, _ = readRequest(br)
		_, _ = br.ReadByte() // says nothing until the other side gives up
	})
	w.route(a)
	if code, body := get(t, w.client(), "http://a.test/"); code != 504 || !strings.Contains(body, "time") {
		t.Errorf("%d %q", code, body)
	}
}

// TestClientLeaves: the backend's connection ends when the client goes, so that work for nobody can stop.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	begun, ended := make(chan struct{}), make(chan struct{})
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(ended)
	})
	w := newWorld(t, nil)
	w.route(a)
	c, err := net.Dial("tcp", w.plain)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	<-begun
	c.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the backend still works for a client that has gone")
	}
}
