package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// world is a running Server with the store that it follows.
type world struct {
	t     testing.TB
	st    *store.Store
	srv   *Server
	plain string // address of the HTTP listener
	tls   string
	stop  func() error // ends Run and gives what it returned
}

func newWorld(t testing.TB, tune func(*Config)) *world {
	t.Helper()
	cfg := Config{
		HTTP:  []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		HTTPS: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, WithoutClass: true, LoopbackEndpoints: true,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), DrainTimeout: 5 * time.Second,
	}
	if tune != nil {
		tune(&cfg)
	}
	st := store.New()
	srv, err := New(st, cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, st: st, srv: srv}
	plain, secure := srv.Addrs()
	w.plain, w.tls = plain[0].String(), secure[0].String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	stopped := false
	w.stop = func() error { stopped = true; cancel(); return <-done }
	t.Cleanup(func() {
		if stopped {
			return
		}
		if err := w.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return w
}

// write puts rows in the store and waits until the Server has them in force.
func (w *world) write(fn func(*store.Txn)) {
	w.t.Helper()
	rev, err := w.st.Update(func(t *store.Txn) error { fn(t); return nil })
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.st.Applied(ctx, rev, Consumer); err != nil {
		w.t.Fatalf("revision %d is not in force: %v", rev, err)
	}
}

func putService(t *store.Txn, name string, addrs ...string) {
	n := model.Name{Namespace: "default", Name: name}
	t.PutService(&model.Service{Name: n, Type: model.ClusterIP, Ports: []model.Port{{Name: "http", Protocol: model.TCP, Port: 80}}})
	putEndpoints(t, name, addrs...)
}

// putEndpoints makes one slice per endpoint, since test backends differ in their port.
func putEndpoints(t *store.Txn, name string, addrs ...string) {
	n := model.Name{Namespace: "default", Name: name}
	for i := range 16 {
		slice := model.Name{Namespace: "default", Name: fmt.Sprintf("%s-%d", name, i)}
		if i >= len(addrs) {
			t.DeleteSlice(slice)
			continue
		}
		ap := netip.MustParseAddrPort(addrs[i])
		t.PutSlice(&model.EndpointSlice{Name: slice, Service: n,
			Ports:     []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: ap.Port()}},
			Endpoints: []model.Endpoint{{Addr: ap.Addr(), Ready: true, Serving: true}}})
	}
}

func ingress(name, host, path, service string) *model.Ingress {
	return &model.Ingress{Name: model.Name{Namespace: "default", Name: name}, Annotations: map[string]string{},
		Rules: []model.IngressRule{{Host: host, Paths: []model.IngressPath{
			{Path: path, Type: model.PathPrefix, Backend: model.IngressBackend{Service: service, PortNumber: 80}}}}}}
}

// route makes one Service of the given endpoints and sends all of a.test to it.
func (w *world) route(addrs ...string) {
	w.t.Helper()
	w.write(func(t *store.Txn) {
		putService(t, "web", addrs...)
		t.PutIngress(ingress("web", "a.test", "/", "web"))
	})
}

// serve starts a backend and gives its address.
func serve(t testing.TB, h http.HandlerFunc) (addr string, s *httptest.Server) {
	t.Helper()
	s = httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), s
}

// client speaks to the listener whatever the host of the URL is.
func (w *world) client() *http.Client {
	var d net.Dialer
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasSuffix(addr, ":443") {
				return d.DialContext(ctx, network, w.tls)
			}
			return d.DialContext(ctx, network, w.plain)
		},
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the tests look at the certificate themselves
		ForceAttemptHTTP2: true, DisableCompression: true,
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// get gives status and body.
func get(t testing.TB, c *http.Client, url string) (int, string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: body: %v", url, err)
	}
	return res.StatusCode, string(b)
}

// raw sends bytes on a connection of its own, then a request that ends the connection, and gives all that comes back.
func (w *world) raw(request string) string {
	w.t.Helper()
	c, err := net.Dial("tcp", w.plain)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	const last = "GET /end HTTP/1.1\r\nHost: nowhere.test\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(c, request+last); err != nil {
		w.t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Errorf("%.60q: neither answered nor closed; so far %q", request, b)
	}
	return string(b)
}
