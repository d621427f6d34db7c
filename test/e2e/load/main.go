// Command load is both ends of the load test: `load serve` answers in a Pod, and ends when told to as a well-behaved server does; `load ask` is many
// clients in one process, and counts. Nothing is tried twice: a request that fails has failed.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"fairway.dev/fairway/examples/imaging/graceful"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if len(os.Args) < 2 {
		log.Fatal("usage: load serve | load ask FLAGS ADDRESS...")
	}
	do := map[string]func(context.Context, []string) error{"serve": serve, "ask": ask}[os.Args[1]]
	if do == nil {
		log.Fatalf("load %s: no such command", os.Args[1])
	}
	if err := do(ctx, os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

// serve answers with the Pod's name. When it is told to stop it lingers just long enough to count whom it has accepted last: nobody new may come any
// more by then. Who holds a connection is told to leave with the next answer.
func serve(ctx context.Context, _ []string) error {
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	name := os.Getenv("POD_NAME")
	s := &graceful.Server{Linger: 100 * time.Millisecond, Limit: 15 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) })}
	return s.Serve(ctx, l)
}

// Report is what a process of clients has seen; it answers with it to /report, and to /end when the last request is over.
type Report struct {
	Requests, Connections int
	Failed                int
	Failures              []string // the first ones
	Slowest               time.Duration
	Servers               []string // who answered
}

type clients struct {
	mu      sync.Mutex
	report  Report
	servers map[string]bool
}

// patience is how long one request may take. A client's SYN that gets lost is sent again after a second.
const patience = 10 * time.Second

func ask(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("ask", flag.ExitOnError)
	report := flags.String("report", ":8080", "where to tell what was seen")
	fresh := flags.Int("fresh", 1, "clients of each address that open a connection for each request")
	held := flags.Int("held", 1, "clients of each address that hold one as long as the server lets them")
	every := flags.Duration("every", 50*time.Millisecond, "from one request of a client to its next")
	if err := flags.Parse(args); err != nil {
		return err
	}
	asking, stop := context.WithCancel(ctx)
	defer stop()
	c := &clients{servers: map[string]bool{}}
	var busy sync.WaitGroup
	for _, addr := range flags.Args() {
		for i := range *fresh + *held {
			busy.Go(func() { c.client(asking, addr, i >= *fresh, *every) })
		}
	}
	http.HandleFunc("/report", c.tell)
	http.HandleFunc("/end", func(w http.ResponseWriter, r *http.Request) {
		stop()
		busy.Wait()
		c.tell(w, r)
	})
	return (&http.Server{Addr: *report, ReadHeaderTimeout: patience}).ListenAndServe()
}

func (c *clients) tell(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Servers = slices.Sorted(maps.Keys(c.servers))
	_ = json.NewEncoder(w).Encode(c.report)
}

// client asks until ctx ends. Where it holds a connection it leaves when the server says so.
func (c *clients) client(ctx context.Context, addr string, hold bool, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var conn *connection
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		begin := time.Now()
		var err error
		opened := conn == nil
		if opened {
			conn, err = open(addr)
		}
		var who string
		last := !hold
		if err == nil {
			who, last, err = conn.request(addr, !hold)
		}
		if err != nil {
			err = fmt.Errorf("%s %s (connection held: %v, its %s): %w", time.Now().Format(time.RFC3339Nano), addr, !opened, conn, err)
		}
		c.count(who, opened, time.Since(begin), err)
		if conn != nil && (last || err != nil) {
			conn.Close()
			conn = nil
		}
	}
}

func (c *clients) count(who string, opened bool, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Requests++
	if opened {
		c.report.Connections++
	}
	c.report.Slowest = max(c.report.Slowest, took)
	if err == nil {
		c.servers[who] = true
		return
	}
	if c.report.Failed++; len(c.report.Failures) < 10 {
		c.report.Failures = append(c.report.Failures, err.Error())
	}
}

type connection struct {
	net.Conn
	in   *bufio.Reader
	last string // who answered last
}

func (c *connection) String() string {
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("port %s, last answered by %q", c.LocalAddr(), c.last)
}

func open(addr string) (*connection, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: conn, in: bufio.NewReader(conn)}, nil
}

// request gives who answered, and whether that was the last answer on this connection.
func (c *connection) request(host string, last bool) (who string, closes bool, err error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", false, err
	}
	req := "GET / HTTP/1.1\r\nHost: " + host + "\r\n"
	if last {
		req += "Connection: close\r\n"
	}
	if _, err := io.WriteString(c, req+"\r\n"); err != nil {
		return "", false, err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return "", false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", false, err
	}
	if resp.StatusCode != http.StatusOK {
		return "", false, fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	c.last = string(body)
	return c.last, resp.Close, nil
}
