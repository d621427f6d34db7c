package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHeadersEndToEnd: what stops here, what goes through, and what is said about the client.
func TestHeadersEndToEnd(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		seen <- r
		h := rw.Header()
		h["Connection"] = []string{"X-Private"}
		h["X-Private"] = []string{"1"}
		h["Keep-Alive"] = []string{"timeout=5"}
		h["X-Public"] = []string{"one", "two"}
		h["Content-Type"] = nil
		h["Server"] = []string{"theirs"}
	})
	strict, trusting := newWorld(t, nil), newWorld(t, func(c *Config) { c.TrustedCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	for _, w := range []*world{strict, trusting} {
		w.route(a)
		req, _ := http.NewRequest("GET", "http://a.test/", nil)
		req.Header = http.Header{
			"Connection": {"close, X-Hop"}, "X-Hop": {"1"}, "Te": {"trailers, deflate"}, "Proxy-Authorization": {"secret"}, "Proxy": {"http://evil"},
			"X-Forwarded-For": {"1.2.3.4"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"evil"}, "X-Forwarded-Prefix": {"/evil"},
			"X_forwarded_for": {"5.6.7.8"}, "X-Real-Ip": {"1.2.3.4"}, "Forwarded": {"for=1.2.3.4"}, "X-Keep": {"a", "b"}, "User-Agent": nil,
		}
		res, err := w.client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		r := <-seen
		want := map[string][]string{
			"Connection": nil, "X-Hop": nil, "Te": {"trailers"}, "Proxy-Authorization": nil, "Proxy": nil, "X-Keep": {"a", "b"}, "User-Agent": nil,
			"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"a.test"}, "X-Forwarded-Prefix": nil,
			"X_forwarded_for": nil, "X-Real-Ip": nil, "Forwarded": nil,
		}
		if w == trusting {
			want["X-Forwarded-For"], want["X-Forwarded-Proto"] = []string{"1.2.3.4, 127.0.0.1"}, []string{"https"}
			want["X-Forwarded-Host"], want["X-Forwarded-Prefix"] = []string{"evil"}, []string{"/evil"}
			want["X_forwarded_for"] = []string{"5.6.7.8"}
			want["X-Real-Ip"], want["Forwarded"] = []string{"1.2.3.4"}, []string{"for=1.2.3.4"}
		}
		for k, v := range want {
			if !slices.Equal(r.Header[k], v) {
				t.Errorf("trusting %v: backend got %s %q, want %q", w == trusting, k, r.Header[k], v)
			}
		}
		if r.Host != "a.test" {
			t.Errorf("Host %q", r.Host)
		}
		for k, v := range map[string][]string{"X-Private": nil, "Keep-Alive": nil, "X-Public": {"one", "two"}, "Content-Type": nil, "Server": {"theirs"}} {
			if !slices.Equal(res.Header[k], v) {
				t.Errorf("client got %s %q, want %q", k, res.Header[k], v)
			}
		}
	}
}

// TestSmuggling sends what two parsers may read differently. Each must be refused, or reach the backend as exactly one request with one
// length; what hides in its body must never be a request.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	got := make(chan string, 64)
	a := script(t, func(_ int, c net.Conn, br *bufio.Reader) {
		for {
			r, body, err := readRequest(br)
			if err != nil {
				return
			}
			got <- r.Method + " " + r.RequestURI + " " + body
			_, _ = io.WriteString(c, ok2)
		}
	})
	w := newWorld(t, nil)
	w.route(a)
	const hidden = "GET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n"
	post := func(headers, body string) string {
		return "POST /x HTTP/1.1\r\nHost: a.test\r\n" + headers + "\r\n" + body
	}
	for _, tt := range []struct {
		name, request string
		passed        string // what the backend may see, or "" for nothing
	}{
		{"both lengths, chunked short", post("Content-Length: 60\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n", "0\r\n\r\n"), "POST /x "},
		{"both lengths, hiding", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "25\r\n"+hidden[:0x25]+"\r\n0\r\n\r\n"), "POST /x " + hidden[:0x25]},
		{"two lengths", post("Content-Length: 4\r\nContent-Length: 5\r\n", "abcde"), ""},
		{"length list", post("Content-Length: 4, 5\r\n", "abcde"), ""},
		{"signed length", post("Content-Length: +4\r\n", "abcd"), ""},
		{"negative length", post("Content-Length: -4\r\n", "abcd"), ""},
		{"two encodings", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"), ""},
		{"unknown encoding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), ""},
		{"encoding list", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), ""},
		{"encoding with a tab", post("Transfer-Encoding:\tchunked\x0b\r\n", "0\r\n\r\n"), ""},
		{"space before the colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), ""},
		{"bad chunk size", post("Transfer-Encoding: chunked\r\n", "zz\r\nabc\r\n0\r\n\r\n"), ""},
		{"chunk size with a sign", post("Transfer-Encoding: chunked\r\n", "+3\r\nabc\r\n0\r\n\r\n"), ""},
		{"chunk longer than its size", post("Transfer-Encoding: chunked\r\n", "3\r\nabcd\r\n0\r\n\r\n"), ""},
		{"chunk size ended by a bare LF", post("Transfer-Encoding: chunked\r\n", "3\nabc\r\n0\r\n\r\n"), ""},
		{"huge chunk size", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"), ""},
		{"folded header", "GET /x HTTP/1.1\r\nHost: a.test\r\nX: a\r\n Transfer-Encoding: chunked\r\n\r\n", "GET /x "},
		{"two hosts", "GET /x HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", ""},
		{"no host", "GET /x HTTP/1.1\r\n\r\n", ""},
		{"host with a path", "GET /x HTTP/1.1\r\nHost: a.test/y\r\n\r\n", ""},
		{"host with a user", "GET /x HTTP/1.1\r\nHost: u@a.test\r\n\r\n", ""},
		{"bare CR in a value", "GET /x HTTP/1.1\r\nHost: a.test\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n", ""},
		{"NUL in a value", "GET /x HTTP/1.1\r\nHost: a.test\r\nX: a\x00b\r\n\r\n", ""},
		{"space in the target", "GET /x y HTTP/1.1\r\nHost: a.test\r\n\r\n", ""},
		{"absolute target for another host", "GET http://b.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n", ""},
		{"absolute target", "GET http://a.test/x HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n", "GET /x "},
		{"fragment", "GET /x#y HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", "GET /x%23y "},
		{"CONNECT", "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n" + hidden, ""},
		{"TRACE", "TRACE /x HTTP/1.1\r\nHost: a.test\r\n\r\n", ""},
		{"HTTP/2 in the clear", "GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", "GET /x "},
	} {
		answer := w.raw(tt.request)
		var all []string
		for len(got) > 0 {
			all = append(all, <-got)
		}
		hiddenServed := slices.ContainsFunc(all, func(s string) bool { return strings.HasPrefix(s, "GET /hidden") })
		switch {
		case tt.passed == "" && len(all) > 0 && tt.name != "CONNECT":
			// A body that is wrong may be found out after the head has gone; then the backend must not take it for whole.
			t.Errorf("%s: reached the backend as %q, answered %q", tt.name, all, answer)
		case tt.passed == "" && !strings.HasPrefix(answer, "HTTP/1.1 4") && !strings.HasPrefix(answer, "HTTP/1.1 501"):
			t.Errorf("%s: answered %q", tt.name, answer)
		case tt.passed != "" && (len(all) != 1 || all[0] != tt.passed):
			t.Errorf("%s: the backend read %q, want %q", tt.name, all, tt.passed)
		case hiddenServed && tt.name != "CONNECT":
			t.Errorf("%s: the hidden request was served", tt.name)
		}
	}
}

// TestEarlyAnswerEndsTheConnection: the backend answers, or fails, while the body is still on its way. What is left of it must never
// be read as a request.
func TestEarlyAnswerEndsTheConnection(t *testing.T) {
	t.Parallel()
	const hidden = "GET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n"
	for name, early := range map[string]string{
		"answers": "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "closes": "", "answers wrongly": "nonsense\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := script(t, func(_ int, c net.Conn, br *bufio.Reader) {
				r, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				if r.URL.Path == "/hidden" {
					t.Error("the rest of the body was served as a request")
				}
				_, _ = io.WriteString(c, early)
			})
			w := newWorld(t, nil)
			w.route(a)
			c, err := net.Dial("tcp", w.plain)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			fmt.Fprintf(c, "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", 100000, strings.Repeat("x", 1000))
			br := bufio.NewReader(c)
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			if res.StatusCode < 400 || !res.Close {
				t.Errorf("answered %s, close %v", res.Status, res.Close)
			}
			fmt.Fprint(c, strings.Repeat(hidden, 100))
			if rest, _ := io.ReadAll(br); len(rest) > 0 {
				t.Errorf("after the answer: %q", rest)
			}
		})
	}
}

// TestStreamsBothWays: each line must come back before the next is sent, over a request that has not ended.
func TestStreamsBothWays(t *testing.T) {
	t.Parallel()
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(rw)
		_ = rc.EnableFullDuplex()
		rw.WriteHeader(200)
		_ = rc.Flush()
		br := bufio.NewReader(r.Body)
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(rw, "echo ", line)
			_ = rc.Flush()
		}
	})
	w := newWorld(t, nil)
	w.route(a)
	for _, scheme := range []string{"http", "https"} { // HTTP/1.1 and HTTP/2
		pr, pw := io.Pipe()
		req, _ := http.NewRequest("POST", scheme+"://a.test/", pr)
		res, err := w.client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		br := bufio.NewReader(res.Body)
		for i := range 5 {
			fmt.Fprintf(pw, "line %d\n", i)
			line, err := br.ReadString('\n')
			if err != nil || line != fmt.Sprintf("echo line %d\n", i) {
				t.Fatalf("%s: %q %v", scheme, line, err)
			}
		}
		pw.Close()
		if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
			t.Errorf("%s: end: %q %v", scheme, rest, err)
		}
		res.Body.Close()
	}
}

func TestTrailersAndInformationalAnswers(t *testing.T) {
	t.Parallel()
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Link", "</style.css>; rel=preload")
		rw.WriteHeader(http.StatusEarlyHints)
		rw.Header().Del("Link")
		_, _ = io.Copy(io.Discard, r.Body)
		rw.Header().Set("Trailer", "X-Sum")
		fmt.Fprint(rw, "body")
		rw.Header().Set("X-Sum", r.Trailer.Get("X-Client-Sum"))
		rw.Header().Set(http.TrailerPrefix+"X-Late", "late")
	})
	w := newWorld(t, nil)
	w.route(a)
	for _, scheme := range []string{"http", "https"} {
		var hints []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, h.Get("Link")))
			return nil
		}}
		req, _ := http.NewRequest("POST", scheme+"://a.test/", io.MultiReader(strings.NewReader("data")))
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), trace))
		req.Trailer = http.Header{"X-Client-Sum": {"42"}}
		res, err := w.client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(b) != "body" || res.Trailer.Get("X-Sum") != "42" || res.Trailer.Get("X-Late") != "late" {
			t.Errorf("%s: %q %v, trailer %v", scheme, b, err, res.Trailer)
		}
		if len(hints) != 1 || hints[0] != "103</style.css>; rel=preload" || res.Header.Get("Link") != "" {
			t.Errorf("%s: informational answers %q, final header %v", scheme, hints, res.Header)
		}
	}
}

// TestExpectContinue: the client's body is not asked for until the backend asks, and not at all when it refuses.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	a := script(t, func(_ int, c net.Conn, br *bufio.Reader) {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if r.URL.Path == "/refuse" {
			_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
			return
		}
		if r.URL.Path == "/ask" {
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
	})
	w := newWorld(t, nil)
	w.route(a)
	for _, tt := range []struct{ path, first, body string }{
		{"/ask", "HTTP/1.1 100", "hello"}, {"/ignore", "HTTP/1.1 100", "hello"}, {"/refuse", "HTTP/1.1 413", ""},
	} {
		c, err := net.Dial("tcp", w.plain)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n", tt.path)
		br := bufio.NewReader(c)
		line, err := br.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, tt.first) {
			t.Errorf("%s: first line %q %v, want %s", tt.path, line, err, tt.first)
		}
		if tt.body != "" {
			fmt.Fprint(c, tt.body)
			rest, _ := io.ReadAll(br)
			if !strings.Contains(string(rest), "200 OK") || !strings.HasSuffix(string(rest), tt.body) {
				t.Errorf("%s: %q", tt.path, rest)
			}
		}
		c.Close()
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			fmt.Fprint(rw, "whole")
		}
	})
	w := newWorld(t, func(c *Config) { c.MaxBodyBytes = 1000 })
	w.route(a)
	for _, tt := range []struct {
		name string
		body io.Reader
		code int
	}{
		{"within", strings.NewReader(strings.Repeat("x", 1000)), 200},
		{"known to be longer", strings.NewReader(strings.Repeat("x", 1001)), 413},
		{"found to be longer", io.MultiReader(strings.NewReader(strings.Repeat("x", 200000))), 413},
	} {
		res, err := w.client().Post("http://a.test/", "text/plain", tt.body)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		res.Body.Close()
		if res.StatusCode != tt.code {
			t.Errorf("%s: %d, want %d", tt.name, res.StatusCode, tt.code)
		}
	}
	if got := w.raw("GET / HTTP/1.1\r\nHost: a.test\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 431") {
		t.Errorf("large head: %.80q", got)
	}
	w = newWorld(t, func(c *Config) { c.ReadHeaderTimeout = 100 * time.Millisecond })
	w.route(a)
	c, err := net.Dial("tcp", w.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.")
	if b, err := io.ReadAll(c); err != nil || strings.HasPrefix(string(b), "HTTP/1.1 200") {
		t.Errorf("a head that never ends: %q %v, want the connection closed", b, err)
	}
}
