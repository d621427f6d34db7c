package story

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stand stands in for the cluster in front of real imaging and gallery processes: a dialer that picks one of several
// backends for the ClusterIP, and a proxy in place of the Ingress.
type stand struct {
	t   *testing.T
	bin binaries

	mu       sync.Mutex
	backends []string // addresses
	next     int
	gallery  string
	ingress  map[string]string // port to the address of the proxy
}

const standIP = "192.0.2.7" // never connected to: dial maps it

func newStand(t *testing.T) *stand {
	t.Helper()
	bin, err := build(t.Context(), "../../..", t.TempDir(), &teller{out: t.Output(), begin: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return &stand{t: t, bin: bin, ingress: map[string]string{}}
}

// run starts a program of the example and gives its address.
func (s *stand) run(file, name string, args ...string) (*exec.Cmd, string) {
	s.t.Helper()
	cmd := exec.Command(s.bin.path(file), append([]string{"-listen", "127.0.0.1:0", "-linger", "300ms", "-limit", "10s"}, args...)...)
	cmd.Env = append(os.Environ(), "POD_NAME="+name)
	log, err := cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewReader(log)
	line, err := lines.ReadString('\n')
	if err != nil {
		s.t.Fatal(err)
	}
	go func() {
		for err == nil { // or the program would block on a full pipe
			_, err = lines.ReadString('\n')
		}
	}()
	_, rest, _ := strings.Cut(line, "address=")
	address, _, _ := strings.Cut(rest, " ")
	return cmd, address
}

func (s *stand) add(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backends = append(s.backends, address)
}

func (s *stand) drop(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kept []string
	for _, b := range s.backends {
		if b != address {
			kept = append(kept, b)
		}
	}
	s.backends = kept
}

func (s *stand) backend() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return s.backends[s.next%len(s.backends)]
}

// dial is what the kernel and the Ingress listener would do.
func (s *stand) dial(ctx context.Context, network, address string) (net.Conn, error) {
	h, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	switch {
	case h == standIP:
		address = s.backend()
	case h == "127.0.0.1":
		address = s.ingress[port]
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// listen is the Ingress: a proxy that tries another backend where one refuses.
func (s *stand) listen(cert certificate) {
	s.t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		if address != standIP+":80" {
			return new(net.Dialer).DialContext(ctx, network, s.gallery)
		}
		for range 10 {
			if conn, err = s.dial(ctx, network, address); !errors.Is(err, syscall.ECONNREFUSED) {
				break
			}
		}
		return conn, err
	}}
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		to := "http://gallery:80"
		if strings.HasPrefix(r.In.URL.Path, "/api") {
			to = "http://" + standIP + ":80"
		}
		u, _ := url.Parse(to)
		r.SetURL(u)
	}}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
	plain := httptest.NewServer(proxy)
	secure := httptest.NewUnstartedServer(proxy)
	pair, err := tls.X509KeyPair(cert.cert, cert.key)
	if err != nil {
		s.t.Fatal(err)
	}
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	secure.StartTLS()
	s.t.Cleanup(func() { plain.Close(); secure.Close(); transport.CloseIdleConnections() })
	s.ingress["80"], s.ingress["443"] = plain.Listener.Addr().String(), secure.Listener.Addr().String()
}

func (s *stand) until(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("gave up waiting for %s", what)
		}
	}
}

// TestClientsCountWhatHappens plays the story's acts on real processes: another replica comes, one is drained and ends, one is
// killed. The clients must see each replica, must lose nothing but what the kill took with it, and must have counted all of it.
func TestClientsCountWhatHappens(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	cert, err := newCertificate(host)
	if err != nil {
		t.Fatal(err)
	}
	a, addressA := s.run("imaging-v1", "imaging-a")
	_, addressB := s.run("imaging-v1", "imaging-b")
	s.add(addressA)
	s.add(addressB)
	s.listen(cert)
	// The gallery has one address for imaging, so give it the proxy's.
	_, s.gallery = s.run("gallery", "gallery-0", "-imaging", "http://"+s.ingress["80"]+"/api", "-rate", "20")

	all := outside(s.dial, site{imaging: standIP}, cert, 25)
	l := newLedger(names(all)...)
	watch := &galleryWatch{l: l, asker: asker{&http.Transport{}, "http://" + s.gallery + "/stats"}}
	l.begin("two")
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for _, c := range all {
		clients.Go(func() { c.run(ctx, l) })
	}
	clients.Go(func() { watch.run(ctx) })
	heard := func(names ...string) func() bool {
		return func() bool {
			got := map[string]bool{}
			for _, a := range l.heard() {
				got[a.servedBy] = true
			}
			for _, n := range names {
				if !got[n] {
					return false
				}
			}
			return true
		}
	}
	s.until("both replicas", heard("imaging-a", "imaging-b"))

	l.begin("three")
	_, addressC := s.run("imaging-v2", "imaging-c")
	s.add(addressC)
	s.until("the third replica", heard("imaging-c"))
	// The gallery counts an answer's server and its version one after the other.
	s.until("the third replica's version", func() bool {
		return slices.Contains(l.phaseReport("three", nil).All.Versions, "v2")
	})

	l.begin("drain")
	if err := a.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.drop(addressA)
	if err := a.Wait(); err != nil {
		t.Errorf("imaging-a ended: %v", err)
	}
	watch.read(t.Context()) // what the gallery counted until now is no news after the mark
	l.mark()
	s.until("the others", heard("imaging-b", "imaging-c"))
	for _, got := range l.heard() {
		if got.servedBy == "imaging-a" {
			t.Errorf("%v answered after its end", got)
		}
	}

	l.begin("kill")
	victim, victimAddress := s.run("imaging-v1", "imaging-d")
	s.add(victimAddress)
	s.until("the victim", heard("imaging-d"))
	k := &kill{PID: victim.Process.Pid}
	if err := k.strike(); err != nil {
		t.Fatal(err)
	}
	s.drop(victimAddress)
	l.mark()
	s.until("the others again", heard("imaging-b", "imaging-c"))
	s.until("a request of every client", func() bool {
		for _, c := range reportOf(l, k).byClient() {
			if c.Requests == 0 {
				return false
			}
		}
		return true
	})
	stop()
	clients.Wait()
	watch.read(t.Context())

	r := reportOf(l, k)
	for _, p := range r.Phases {
		phase := p.Name
		if p.All.bad() > 0 {
			t.Errorf("%s: %d requests failed without excuse", phase, p.All.bad())
		}
		if phase != "kill" && p.All.Failures > 0 {
			t.Errorf("%s: %d requests failed", phase, p.All.Failures)
		}
	}
	if n := len(r.byClient()); n != len(all)+1 {
		t.Errorf("%d clients were counted, want %d", n, len(all)+1)
	}
	if !strings.Contains(strings.Join(r.Phases[1].All.Versions, " "), "v2") {
		t.Errorf("versions in phase three: %v", r.Phases[1].All.Versions)
	}
	if err := r.Print(t.Output()); err != nil {
		t.Error(err)
	}
}

func reportOf(l *ledger, k *kill) Report {
	var r Report
	for _, phase := range []string{"two", "three", "drain", "kill"} {
		r.Phases = append(r.Phases, l.phaseReport(phase, k))
	}
	return r
}

// A client must count every way in which a request can go wrong.
func TestClientNoticesWrongAnswers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		serve http.HandlerFunc
		want  string
	}{
		{"status", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no endpoints", http.StatusServiceUnavailable)
		}, "503 Service Unavailable: no endpoints"},
		{"not an image", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }, "no image"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // or the answer may be lost to a reset
				test.serve(w, r)
			}))
			t.Cleanup(server.Close)
			transport := &http.Transport{DisableKeepAlives: true}
			if _, err := (asker{transport, server.URL + "/"}).image(t.Context(), 0); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("image: %v, want %q", err, test.want)
			}
		})
	}
	// A cut connection shows as the end of the stream or as a reset, by chance; both have to be known as a cut.
	aborting := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(aborting.Close)
	if _, err := (asker{&http.Transport{DisableKeepAlives: true}, aborting.URL + "/"}).image(t.Context(), 0); err == nil || !cut(err.Error()) {
		t.Errorf("cut connection: %v", err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Pictures-Failed", "3") }))
	t.Cleanup(server.Close)
	if _, err := (asker{&http.Transport{DisableKeepAlives: true}, server.URL}).page(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "3 "+picturesMissing) {
		t.Errorf("page: %v", err)
	}
}

func TestProcessOfPod(t *testing.T) {
	t.Parallel()
	s := pod("imaging-x", first, true, false)
	s.UID = "7b1f2c3d-story-test"
	if _, err := processOf(s); err == nil {
		t.Error("a Pod that is not there has a process")
	}
	cmd := exec.Command("sleep", "60")
	cmd.Env = append(os.Environ(), "POD_UID="+string(s.UID))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	// Until the kernel has its new program in place, the process shows no environment of its own.
	for deadline := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		pid, err := processOf(s)
		if err == nil && pid == cmd.Process.Pid {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d, %v; want %d", pid, err, cmd.Process.Pid)
		}
	}
}

// What is left must be found: a link, a rule, a process, a file. And nothing where nothing is left.
func TestInventoryFindsWhatIsLeft(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("making a network namespace needs root")
	}
	ns, err := newNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	c := &cluster{ns: ns, dir: t.TempDir(), name: "inv-test", t: &teller{out: t.Output(), begin: time.Now()}}
	before, err := takeInventory(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := before.compare(t.Context(), c); err != nil || len(left) != 0 {
		t.Fatalf("left of nothing: %v, %v", left, err)
	}
	for _, command := range [][]string{
		{"ip", "link", "add", "left0", "type", "veth", "peer", "name", "left1"},
		{"nft", "add", "table", "inet", "left"},
		{"ip", "route", "add", "unreachable", "10.96.0.0/16"},
	} {
		if _, err := ns.output(t.Context(), command[0], command[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	sleep := exec.Command("sleep", "60")
	if err := ns.start(sleep); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
	if err := os.MkdirAll(c.runDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.runDir(), "state.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	left, err := before.compare(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(left, "\n")
	for _, want := range []string{"left0", "packet rules table inet left", "IPv4 route unreachable 10.96.0.0/16", fmt.Sprintf("process %d (sleep 60)", sleep.Process.Pid), "state.json"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not among what is left:\n%s", want, all)
		}
	}
}

// Connections begin inside the namespace, and the calling goroutine stays outside.
func TestNamespaceDial(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("making a network namespace needs root")
	}
	ns, err := newNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	var l net.Listener
	if err := ns.do(func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:0"); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	conn, err := ns.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatalf("dial inside: %v", err)
	}
	conn.Close()
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
		conn.Close()
		t.Error("the listener inside is reached from outside")
	}
}
