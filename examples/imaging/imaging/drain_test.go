package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fairway.dev/fairway/examples/imaging/photos"
)

// TestNoRequestFailsWhenTold builds the real program, keeps it busy over new and over kept-alive connections, sends SIGTERM
// in the middle, and takes the address away from the clients, as a cluster does, only a while after. Not one request may
// fail, every kept-alive connection must be told to close, and the exit code must be 0.
func TestNoRequestFailsWhenTold(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "imaging")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	address := freeAddress(t)
	cmd := exec.CommandContext(t.Context(), bin, "-listen", address, "-linger", "2s", "-limit", "10s")
	cmd.Env = append(os.Environ(), "POD_NAME=imaging-0")
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	until(t, "the server to be ready", func() bool { return get("http://"+address+"/readyz") == http.StatusOK })

	var (
		withdrawn        = make(chan struct{}) // closed when the address is withdrawn from the clients
		clients          sync.WaitGroup
		done, after, bad atomic.Int64
		told             atomic.Bool
	)
	for i := range 6 {
		transport := &http.Transport{DisableKeepAlives: i%2 == 0}
		client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
		clients.Go(func() {
			defer transport.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-withdrawn:
					return
				default:
				}
				startedAfter := told.Load()
				p := photos.All()[n%len(photos.All())]
				closing, err := post(client, "http://"+address+"/?op=thumbnail", p.Bytes)
				switch {
				case err != nil:
					bad.Add(1)
					t.Errorf("request %d of client %d: %v", n, i, err)
				case startedAfter && !closing:
					bad.Add(1)
					t.Errorf("request %d of client %d: began after the order to stop and was not told to close", n, i)
				}
				done.Add(1)
				if startedAfter {
					after.Add(1)
				}
			}
		})
	}
	until(t, "requests to be answered", func() bool { return done.Load() > 30 })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, "the server to drain", func() bool { return get("http://"+address+"/readyz") == http.StatusServiceUnavailable })
	told.Store(true)
	until(t, "requests that came after the order", func() bool { return after.Load() > 5 || bad.Load() > 0 })
	close(withdrawn)
	clients.Wait()
	select {
	case err := <-exited:
		if err != nil {
			t.Errorf("exit: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("still running long after the last client left")
	}
	t.Logf("%d requests, %d of them after the order to stop, %d bad", done.Load(), after.Load(), bad.Load())
}

// post tells whether the server asked to close the connection.
func post(c *http.Client, url string, body []byte) (closing bool, err error) {
	resp, err := c.Post(url, "image/any", bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return false, err
	}
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("status %s", resp.Status)
	}
	return resp.Close, nil
}

// get is the status over a new connection, 0 if there is none.
func get(url string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}
