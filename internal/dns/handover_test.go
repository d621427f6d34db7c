package dns_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/store"
)

// asking are clients that ask all the time, over UDP, each with one question under way and a patience far beyond anything that works; they
// never ask twice.
type asking struct {
	asked, bad atomic.Int64
	first      sync.Once
	stop       chan struct{}
	gate       sync.RWMutex // held for reading while a question is under way
	wg         sync.WaitGroup
}

func startAsking(t testing.TB, srv netip.AddrPort, clients int) *asking {
	a := &asking{stop: make(chan struct{})}
	for range clients {
		a.wg.Go(func() {
			c := &miekg.Client{Timeout: 30 * time.Second}
			for {
				select {
				case <-a.stop:
					return
				default:
				}
				a.gate.RLock()
				in, _, err := c.Exchange(message("svc1.testns.svc.cluster.local", "A"), srv.String())
				a.gate.RUnlock()
				a.asked.Add(1)
				if err != nil || in.Rcode != miekg.RcodeSuccess || len(in.Answer) != 1 {
					a.bad.Add(1)
					a.first.Do(func() { t.Errorf("first bad answer: %v %v", in, err) })
				}
			}
		})
	}
	return a
}

func (a *asking) end(t testing.TB) {
	close(a.stop)
	a.wg.Wait()
	t.Logf("%d questions", a.asked.Load())
	if n := a.bad.Load(); n > 0 {
		t.Errorf("%d of %d questions lost or wrong", n, a.asked.Load())
	}
}

// more waits until that many questions more have been answered.
func (a *asking) more(t testing.TB, n int64) {
	t.Helper()
	from := a.asked.Load()
	eventually(t, "more answers", func() bool { return a.asked.Load() >= from+n })
}

// TestReplace: one server after the other takes the sockets over, and no question is lost. A successor without names leaves answering to
// its predecessor.
func TestReplace(t *testing.T) {
	t.Parallel()
	st := store.New()
	load(st, fixture(), false)
	cfg := dns.Config{Listen: []netip.AddrPort{deadPort(t)}, Handover: filepath.Join(t.TempDir(), "run", "dns.sock")}
	start := func(st *store.Store) (end func()) {
		s, err := dns.New(st, cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		return func() {
			cancel()
			if err := <-ran; err != nil {
				t.Error(err)
			}
		}
	}
	end := start(st)
	srv := cfg.Listen[0]
	eventually(t, "names", func() bool { return rcode(t, srv, "svc1.testns.svc.cluster.local") == "NOERROR" })
	a := startAsking(t, srv, 8)
	a.more(t, 100)
	for range 3 {
		late := store.New()
		synced := late.Announce("services")
		next := start(late)
		a.more(t, 200) // the successor knows nothing yet
		load(late, fixture(), false)
		synced()
		a.more(t, 200) // both answer
		end()
		end = next
		a.more(t, 200)
	}
	a.end(t)
	if got := brief(ask(t, srv, "tcp", "svc1.testns.svc.cluster.local", "A")); got != "NOERROR 10.0.0.1" {
		t.Error(got)
	}
	end()
	if i, err := os.Stat(cfg.Handover); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", i, err)
	}
	// A dead one's socket is no obstacle.
	start(st)()
}

// TestTakeOver: who waits for its predecessor's end finds the questions that came meanwhile.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	st := store.New()
	load(st, fixture(), false)
	path := filepath.Join(t.TempDir(), "dns.sock")
	cfg := dns.Config{Listen: []netip.AddrPort{deadPort(t)}, Handover: path, Checkpoint: filepath.Join(t.TempDir(), "names")}
	s, err := dns.New(st, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	srv := cfg.Listen[0]
	eventually(t, "names", func() bool { return rcode(t, srv, "svc1.testns.svc.cluster.local") == "NOERROR" })
	eventually(t, "file", func() bool { _, err := os.Stat(cfg.Checkpoint); return err == nil })
	a := startAsking(t, srv, 4)
	type taken struct {
		in  *dns.Inherited
		err error
	}
	got := make(chan taken, 1)
	go func() {
		in, err := dns.TakeOver(context.Background(), path)
		got <- taken{in, err}
	}()
	eventually(t, "the sockets are handed over", s.HandedOver)
	a.more(t, 100)
	select {
	case <-got:
		t.Error("it does not wait")
	default:
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	next := <-got
	if next.err != nil {
		t.Fatal(next.err)
	}
	cfg.Inherited = next.in
	late := store.New()
	defer late.Announce("services")()
	if s, err = dns.New(late, cfg); err != nil {
		t.Fatal(err)
	}
	run(t, s)
	a.more(t, 200)
	a.end(t)
	// Where there is nobody, there is nothing to wait for.
	if in, err := dns.TakeOver(context.Background(), filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	} else {
		in.Close()
	}
	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	if _, err := dns.TakeOver(ctx, path); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

const (
	childEnv   = "FAIRWAY_DNS_TEST_CHILD"
	childNames = "FAIRWAY_DNS_TEST_NAMES"
)

// childServer is the process that TestKill kills.
func childServer(where string) error {
	if os.Getenv("LISTEN_FDS") != "" { // whoever starts a process knows its number only then
		if err := os.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid())); err != nil {
			return err
		}
	}
	st := store.New()
	load(st, fixture(), false)
	s, err := dns.New(st, dns.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort(where)}, Checkpoint: os.Getenv(childNames)})
	if err != nil {
		return err
	}
	return s.Run(context.Background())
}

// TestKill: with a service manager that keeps the sockets, as systemd does, no question that comes after a kill -9 is lost.
func TestKill(t *testing.T) {
	t.Parallel()
	srv := deadPort(t)
	notify, names := filepath.Join(t.TempDir(), "notify"), filepath.Join(t.TempDir(), "names")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var kept []*os.File
	defer func() {
		for _, f := range kept {
			f.Close()
		}
	}()
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+srv.String(), childNames+"="+names, "NOTIFY_SOCKET="+notify, "FDSTORE=64")
		if len(kept) > 0 {
			cmd.ExtraFiles = kept
			cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(kept)), "LISTEN_FDNAMES="+strings.TrimSuffix(strings.Repeat("fairway-dns:", len(kept)), ":"))
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	// keep does what the manager does with one message.
	keep := func() error {
		b, oob := make([]byte, 4096), make([]byte, 4096)
		n, oobn, _, _, err := l.ReadMsgUnix(b, oob)
		if err != nil {
			return err
		}
		if strings.HasPrefix(string(b[:n]), "FDSTOREREMOVE=1") {
			for _, f := range kept {
				f.Close()
			}
			kept = nil
			return nil
		}
		if !strings.HasPrefix(string(b[:n]), "FDSTORE=1\n") || !strings.HasSuffix(string(b[:n]), "FDNAME=fairway-dns") {
			return errors.New(string(b[:n]))
		}
		m, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return err
		}
		fds, err := unix.ParseUnixRights(&m[0])
		if err != nil {
			return err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			kept = append(kept, os.NewFile(uintptr(fd), "kept"))
		}
		return nil
	}
	// gather takes messages until the TCP socket, which comes last, is there.
	gather := func() {
		t.Helper()
		if err := l.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for {
			if err := keep(); err != nil {
				t.Fatal(err)
			}
			if n := len(kept); n > 0 {
				if typ, err := unix.GetsockoptInt(int(kept[n-1].Fd()), unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
					t.Fatal(err)
				} else if typ == unix.SOCK_STREAM {
					return
				}
			}
		}
	}
	cmd := start()
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	gather()
	eventually(t, "names", func() bool {
		in, err := miekg.Exchange(message("svc1.testns.svc.cluster.local", "A"), srv.String())
		return err == nil && in.Rcode == miekg.RcodeSuccess
	})
	eventually(t, "the file of names", func() bool { _, err := os.Stat(names); return err == nil })
	a := startAsking(t, srv, 4)
	for range 3 {
		a.more(t, 100)
		// Nobody can answer what a process has read when it is killed: between questions, it has read none.
		a.gate.Lock()
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		a.gate.Unlock()
		cmd = start()
		gather()
	}
	a.more(t, 100)
	a.end(t)
}
