package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// pod is a backend that can stop as a Pod does.
type pod struct {
	*httptest.Server
	open atomic.Int64 // connections
}

func startPod(h http.HandlerFunc) *pod {
	p := &pod{Server: httptest.NewUnstartedServer(h)}
	p.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			p.open.Add(1)
		case http.StateClosed:
			p.open.Add(-1)
		}
	}
	p.Start()
	return p
}

// terminate lets what was sent to the pod finish and then stops it. It does not ask clients to go: that the connections end is the proxy's
// doing.
func (p *pod) terminate(t *testing.T) {
	deadline := time.Now().Add(10 * time.Second)
	for quiet := 0; quiet < 3; { // a connection may stand in the listener's queue, not yet counted
		if p.open.Load() == 0 {
			quiet++
		} else {
			quiet = 0
		}
		if time.Now().After(deadline) {
			t.Errorf("%d connections stay open on an endpoint that has left", p.open.Load())
			break
		}
		time.Sleep(time.Millisecond)
	}
	p.CloseClientConnections()
	p.Close()
}

// load sends requests from several clients until finish is called, and counts.
type load struct {
	t         *testing.T
	sent, bad atomic.Int64
	stop      chan struct{}
	wg        sync.WaitGroup
}

func (w *world) load(t *testing.T, methods ...string) *load {
	l := &load{t: t, stop: make(chan struct{})}
	for i := range 6 {
		c := w.client()
		l.wg.Go(func() {
			for n := i; ; n++ {
				select {
				case <-l.stop:
					return
				default:
				}
				l.one(c, methods[n%len(methods)])
			}
		})
	}
	return l
}

func (l *load) one(c *http.Client, method string) {
	var body io.Reader
	if method != "GET" {
		body = strings.NewReader("hello")
	}
	req, err := http.NewRequest(method, "http://a.test/x", body)
	if err != nil {
		l.t.Error(err)
		return
	}
	res, err := c.Do(req)
	if err == nil {
		var b []byte
		b, err = io.ReadAll(res.Body)
		res.Body.Close()
		if err == nil && res.StatusCode != 200 {
			err = fmt.Errorf("%d %s", res.StatusCode, b)
		}
	}
	if err != nil {
		l.bad.Add(1)
		l.t.Errorf("%s: %v", method, err)
	}
	l.sent.Add(1)
}

// more waits until n more requests have ended.
func (l *load) more(n int64) {
	l.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for want := l.sent.Load() + n; l.sent.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatal("requests do not go on")
		}
	}
}

func (l *load) finish() {
	close(l.stop)
	l.wg.Wait()
	l.t.Logf("%d requests, %d failed", l.sent.Load(), l.bad.Load())
}

// TestNoFailureWhileEndpointsChange rolls a Service through generations of backends, as a Deployment does: a new one joins, an old one
// leaves the ready set and then stops, while GET and POST go on and routes change too. Every request must be answered.
func TestNoFailureWhileEndpointsChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	start := func(gen int) *pod {
		return startPod(func(rw http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(rw, "gen %d got %d", gen, len(b))
		})
	}
	live := []*pod{start(0), start(1), start(2)}
	addrs := func() (out []string) {
		for _, p := range live {
			out = append(out, p.Listener.Addr().String())
		}
		return out
	}
	w.route(addrs()...)
	l := w.load(t, "GET", "POST")
	for gen := 3; gen < 40; gen++ {
		l.more(50)
		old := live[0]
		live = append(live[1:], start(gen))
		w.write(func(x *store.Txn) {
			putEndpoints(x, "web", addrs()...)
			if gen%5 == 0 {
				x.PutIngress(ingress(fmt.Sprint("other-", gen), "b.test", "/", "web"))
			}
		})
		old.terminate(t)
	}
	l.finish()
	for _, p := range live {
		p.Close()
	}
}

// TestKilledBackend: backends die without a word while the table still has them, and come back. Idempotent requests must not
// notice.
func TestKilledBackend(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	h := func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(rw, "ok")
	}
	stay, _ := serve(t, h)
	l := (*load)(nil)
	for range 10 {
		victim := startPod(h)
		w.route(stay, victim.Listener.Addr().String())
		if l == nil {
			l = w.load(t, "GET", "PUT", "DELETE")
		}
		l.more(100)
		victim.Listener.Close()
		victim.CloseClientConnections()
		l.more(100)
		victim.Close()
	}
	l.finish()
}

// TestRoutesMoveWithoutFailure moves a path from one Service to another and back, the former Service being taken away each time.
func TestRoutesMoveWithoutFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "ok") })
	b, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "ok") })
	w.write(func(x *store.Txn) {
		putService(x, "one", a)
		putService(x, "two", b)
		x.PutIngress(ingress("web", "a.test", "/", "one"))
	})
	l := w.load(t, "GET")
	for i := range 60 {
		l.more(5)
		w.write(func(x *store.Txn) { x.PutIngress(ingress("web", "a.test", "/", []string{"two", "one"}[i%2])) })
	}
	l.finish()
}

// TestIdleConnectionsCloseWhenTheEndpointLeaves: the backend sees its idle connection end although nobody closed it there.
func TestIdleConnectionsCloseWhenTheEndpointLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	closed := make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "ok") }))
	var once sync.Once
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			once.Do(func() { close(closed) })
		}
	}
	s.Start()
	defer s.Close()
	w.route(s.Listener.Addr().String())
	get(t, w.client(), "http://a.test/")
	select {
	case <-closed:
		t.Fatal("the connection was not kept")
	default:
	}
	w.write(func(x *store.Txn) { putEndpoints(x, "web") })
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("the connection is still open")
	}
}

// TestOpenRequestFinishesOnLeavingEndpoint: one that is being answered goes on, a new one goes elsewhere.
func TestOpenRequestFinishesOnLeavingEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	begun, finish := make(chan struct{}), make(chan struct{})
	old, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		close(begun)
		<-finish
		fmt.Fprint(rw, "old")
	})
	next, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "new") })
	w.route(old)
	result := make(chan string, 1)
	c := w.client()
	go func() {
		res, err := c.Get("http://a.test/")
		if err != nil {
			result <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		result <- string(b)
	}()
	<-begun
	w.write(func(x *store.Txn) { putEndpoints(x, "web", next) })
	if _, body := get(t, c, "http://a.test/"); body != "new" {
		t.Errorf("a new request got %q", body)
	}
	close(finish)
	if got := <-result; got != "old" {
		t.Errorf("the open request got %q", got)
	}
}

// TestStopDrains: a request that is open when Run's context ends is answered before Run returns.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	begun, finish := make(chan struct{}), make(chan struct{})
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		close(begun)
		<-finish
		fmt.Fprint(rw, "done")
	})
	w.route(a)
	c := w.client()
	result := make(chan error, 1)
	go func() {
		res, err := c.Get("http://a.test/")
		if err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
		}
		result <- err
	}()
	<-begun
	returned := make(chan error, 1)
	go func() { returned <- w.stop() }()
	// The socket must be closed while the request is still open.
	deadline := time.Now().Add(10 * time.Second)
	for {
		probe, err := net.Dial("tcp", w.plain)
		if err != nil {
			break
		}
		probe.Close()
		if time.Now().After(deadline) {
			t.Fatal("the listener still accepts")
		}
	}
	select {
	case <-returned:
		t.Fatal("Run returned with a request open")
	default:
	}
	close(finish)
	if err := <-result; err != nil {
		t.Errorf("the open request: %v", err)
	}
	if err := <-returned; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestNothingIsAnsweredBeforeTheFirstSnapshot: a client that comes early waits and is not told 404.
func TestNothingIsAnsweredBeforeTheFirstSnapshot(t *testing.T) {
	t.Parallel()
	st := store.New()
	done := st.Announce("slow")
	srv, err := New(st, Config{HTTP: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, WithoutClass: true, LoopbackEndpoints: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	plain, _ := srv.Addrs()
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "ok") })

	conn, err := net.Dial("tcp", plain[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Update(func(x *store.Txn) error {
		x.PutIngress(&model.Ingress{Name: model.Name{Namespace: "default", Name: "not-yet-whole"}})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Update(func(x *store.Txn) error {
		putService(x, "web", a)
		x.PutIngress(ingress("web", "a.test", "/", "web"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	done()
	b, _ := io.ReadAll(conn)
	if !strings.Contains(string(b), "200 OK") {
		t.Errorf("answered %q", b)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	st := store.New()
	_, err = New(st, Config{HTTP: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort(l.Addr().String())}})
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("error %v does not name %s", err, l.Addr())
	}
	if len(st.Statuses()) != 0 {
		t.Error("a Server that could not be made is a consumer")
	}
	if errors.Is(err, net.ErrClosed) {
		t.Error("wrong error")
	}
}
