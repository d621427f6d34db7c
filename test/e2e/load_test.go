package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairway.dev/fairway/internal/testkit"
)

// bothManifest is a Service of the web server over TCP and UDP, at one NodePort.
const bothManifest = `
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080, nodePort: 30081}
  - {name: ask, port: 80, targetPort: 8080, nodePort: 30081, protocol: UDP}
`

// load is clients that open new connections all the time and others that hold old ones, over TCP and UDP, in both families, to ClusterIPs from the
// second machine and to its NodePorts from the first. A datagram that gets no answer and a connection that is cut are failures.
type load struct {
	m       *machine
	clients sync.WaitGroup
	cancel  context.CancelFunc
	lines   []*line

	mu     sync.Mutex
	failed []error
}

// line is one client, and how often it has been answered.
type line struct {
	name    string
	answers atomic.Int64
}

// startLoad starts sixteen clients on the two machines; the Service "both" must be there.
func (b *second) startLoad() *load {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{m: b.machine, cancel: cancel}
	type target struct {
		from *testkit.NetNS
		addr string
	}
	var targets []target
	for _, ip := range b.clusterIPs("both") {
		targets = append(targets, target{b.ns, net.JoinHostPort(ip, "80")})
	}
	for _, ip := range []string{wireB4, wireB6} {
		targets = append(targets, target{b.machine.ns, net.JoinHostPort(ip, "30081")})
	}
	if len(targets) != 4 {
		b.t.Fatalf("the targets are %v; want both families", targets)
	}
	for _, to := range targets {
		for _, network := range []string{"tcp", "udp"} {
			for _, hold := range []bool{true, false} {
				kind := map[bool]string{true: "held ", false: "new "}[hold]
				one := &line{name: kind + network + " " + to.addr}
				l.lines = append(l.lines, one)
				l.clients.Go(func() { l.client(ctx, one, to.from, network, to.addr, hold) })
			}
		}
	}
	b.t.Cleanup(func() { cancel(); l.clients.Wait() })
	return l
}

// client exchanges messages until ctx ends, over one connection or over a new one each time.
func (l *load) client(ctx context.Context, one *line, from *testkit.NetNS, network, addr string, hold bool) {
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	var c *conversation
	for n := 0; ctx.Err() == nil; n++ {
		err := error(nil)
		if c == nil {
			c, err = converse(from, network, addr)
		}
		if err == nil {
			err = c.exchange(n)
		}
		if err != nil {
			l.mu.Lock()
			l.failed = append(l.failed, fmt.Errorf("%s, after %d answers: %w", one.name, one.answers.Load(), err))
			l.mu.Unlock()
		} else {
			one.answers.Add(1)
		}
		if c != nil && (err != nil || !hold) {
			_ = c.Close()
			c = nil
		}
		select {
		case <-ctx.Done():
		case <-pace.C:
		}
	}
	if c != nil {
		_ = c.Close()
	}
}

// more waits until every client has been answered often since now.
func (l *load) more(when string) {
	l.m.t.Helper()
	before := make([]int64, len(l.lines))
	for i, one := range l.lines {
		before[i] = one.answers.Load()
	}
	l.m.until("every client goes on "+when, func() error {
		for i, one := range l.lines {
			if n := one.answers.Load() - before[i]; n < 5 {
				return fmt.Errorf("%s has had %d answers; failures: %v", one.name, n, l.failures())
			}
		}
		return nil
	})
}

func (l *load) failures() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// end stops the clients and fails the test for every failure.
func (l *load) end() {
	l.m.t.Helper()
	l.cancel()
	l.clients.Wait()
	total := int64(0)
	for _, one := range l.lines {
		total += one.answers.Load()
	}
	l.m.t.Logf("%d answers, %d failures", total, len(l.failed))
	for _, err := range l.failed {
		l.m.t.Error(err)
	}
}

// conversation is one connection to the web server.
type conversation struct {
	net.Conn
	r   *bufio.Reader
	udp bool
}

func converse(from *testkit.NetNS, network, addr string) (*conversation, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience/3)
	defer cancel()
	c, err := from.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &conversation{c, bufio.NewReader(c), network == "udp"}, nil
}

// exchange asks once, and waits for the answer to this very question.
func (c *conversation) exchange(n int) error {
	if err := c.SetDeadline(time.Now().Add(patience / 3)); err != nil {
		return err
	}
	if c.udp {
		want := "q" + strconv.Itoa(n)
		if _, err := io.WriteString(c, want); err != nil {
			return err
		}
		b := make([]byte, 512)
		got, err := c.Read(b)
		if err == nil && !strings.HasSuffix(string(b[:got]), want) {
			err = fmt.Errorf("asked %q, answered %q", want, b[:got])
		}
		return err
	}
	want := "/asked?n=" + strconv.Itoa(n)
	if _, err := io.WriteString(c, "GET "+want+" HTTP/1.1\r\nHost: both\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && !strings.Contains(string(body), want+" ") {
		err = fmt.Errorf("asked %q, answered %q", want, body)
	}
	return err
}

// times is how often a test does something, unless the variable says otherwise: a run by hand may have more time.
func times(t testing.TB, variable string, otherwise int) int {
	v := os.Getenv(variable)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: give a number", variable, v)
	}
	return n
}
