package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fairway.dev/fairway/examples/imaging/photos"
)

// imagingURL is the real backend, built once and run as two replicas would be: here it is one process.
var imagingURL string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "gallery-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		bin := filepath.Join(dir, "imaging")
		if out, err := exec.Command("go", "build", "-o", bin, "../imaging").CombinedOutput(); err != nil {
			panic(string(out))
		}
		cmd := exec.Command(bin, "-listen", "127.0.0.1:0", "-linger", "0s", "-limit", "1s")
		cmd.Env = append(os.Environ(), "POD_NAME=imaging-0")
		log, err := cmd.StderrPipe()
		if err != nil {
			panic(err)
		}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		line, err := bufio.NewReader(log).ReadString('\n') // "… serving address=127.0.0.1:NNN …"
		if err != nil {
			panic(err)
		}
		_, rest, _ := strings.Cut(line, "address=")
		address, _, _ := strings.Cut(rest, " ")
		imagingURL = "http://" + address + "/"
		return m.Run()
	}())
}

func testBackend(t *testing.T, url string) *backend {
	t.Helper()
	b, err := newBackend(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.http.CloseIdleConnections)
	return b
}

func TestPageShowsEveryPictureAndWhoMadeIt(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	(&page{backend: testBackend(t, imagingURL), pod: "gallery-0"}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
	body := w.Body.String()
	pictures := len(photos.All()) * len(operations)
	if w.Code != http.StatusOK || w.Header().Get("X-Pictures-Failed") != "0" {
		t.Fatalf("status %d, %s pictures failed", w.Code, w.Header().Get("X-Pictures-Failed"))
	}
	if n := strings.Count(body, `src="data:image/`); n != pictures {
		t.Errorf("%d pictures, want %d", n, pictures)
	}
	if n := strings.Count(body, `>imaging-0 v1</code>`); n != pictures {
		t.Errorf("%d pictures name their Pod, want %d", n, pictures)
	}
	if file := os.Getenv("GALLERY_PAGE"); file != "" { // to look at it in a browser
		if err := os.WriteFile(file, w.Body.Bytes(), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func TestPageWithoutBackendSaysSo(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	(&page{backend: testBackend(t, deadURL(t)), pod: "gallery-0"}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
	if w.Code != http.StatusBadGateway || w.Header().Get("X-Pictures-Failed") != "15" || !strings.Contains(w.Body.String(), "connection refused") {
		t.Errorf("status %d, %s failed", w.Code, w.Header().Get("X-Pictures-Failed"))
	}
}

func TestAskerCounts(t *testing.T) {
	t.Parallel()
	a := newAsker(testBackend(t, imagingURL), 200, 3)
	s := askFor(t, a, func(s Stats) bool { return s.Requests >= 20 })
	if s.Failures != 0 || s.Early != 0 || s.Servers["imaging-0"] != s.Requests || s.Versions["v1"] != s.Requests {
		t.Errorf("imaging is there: %+v", s)
	}
	// The same gallery, with imaging gone: failures, the last ones told in full.
	a.backend = testBackend(t, deadURL(t))
	s = askFor(t, a, func(s Stats) bool { return s.Failures >= keptFailures+10 })
	if s.Requests != s.Servers["imaging-0"]+s.Failures || len(s.Errors) != keptFailures || !strings.Contains(s.Errors[0].Error, "connection refused") {
		t.Errorf("imaging has gone: %+v", s)
	}
	// A gallery that starts before imaging does.
	a = newAsker(testBackend(t, deadURL(t)), 200, 3)
	s = askFor(t, a, func(s Stats) bool { return s.Early >= 5 })
	if s.Requests != 0 || s.Failures != 0 || len(s.Errors) != 0 {
		t.Errorf("imaging has not come yet: %+v", s)
	}
}

// askFor lets a ask until enough, and gives what /stats says then.
func askFor(t *testing.T, a *asker, enough func(Stats) bool) Stats {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { a.run(ctx) })
	for deadline := time.Now().Add(30 * time.Second); !enough(a.snapshot()) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	running.Wait()
	w := httptest.NewRecorder()
	a.serveStats(w, nil)
	var s Stats
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if !enough(s) {
		t.Fatalf("not enough after 30 s: %+v", s)
	}
	return s
}

// A server may close a kept-alive connection just when the next request is written into it. The request must be made again
// over another connection, although it is a POST.
func TestRequestSurvivesClosedConnection(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	serving.Go(func() {
		for conn := 0; ; conn++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			requests := bufio.NewReader(c)
			for n := 0; ; n++ {
				req, err := http.ReadRequest(requests)
				if err != nil || (conn == 0 && n == 1) {
					break // the second request of the first connection is read and never answered
				}
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1\r\nX-Served-By: c\r\n\r\n!")
			}
			c.Close()
		}
	})
	b := testBackend(t, "http://"+l.Addr().String()+"/")
	for i := range 2 {
		if _, err := b.ask(t.Context(), photos.All()[0], "op=gray"); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
	}
	b.http.CloseIdleConnections()
	l.Close()
}

func TestProbe(t *testing.T) {
	address := strings.TrimSuffix(strings.TrimPrefix(imagingURL, "http://"), "/")
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("IMAGING_SERVICE_HOST", host)
	t.Setenv("IMAGING_SERVICE_PORT", port)
	var out bytes.Buffer
	if !probe(t.Context(), &out, []string{"-env", "IMAGING"}) {
		t.Errorf("probe by environment: %s", out.String())
	}
	var s Sighting
	if err := json.Unmarshal(out.Bytes(), &s); err != nil || s.ServedBy != "imaging-0" || s.Bytes == 0 || s.Host != address {
		t.Errorf("sighting %+v, %v", s, err)
	}
	out.Reset()
	if probe(t.Context(), &out, []string{"-env", "NOBODY", "no-such-name.invalid"}) {
		t.Errorf("a probe of nothing succeeded: %s", out.String())
	}
	if n := strings.Count(out.String(), `"error":`); n != 2 {
		t.Errorf("%d errors told, want 2: %s", n, out.String())
	}
}

func TestBadURL(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"imaging", "ftp://imaging/", "http://", "http://%zz/"} {
		if _, err := newBackend(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func deadURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String() + "/"
}
