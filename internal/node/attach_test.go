package node_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

// dialogue is a client that is attached to a container, or runs a program in one.
type dialogue struct {
	*testing.T
	in     *io.PipeWriter
	out    chan string // pieces of the output; closed at the end
	seen   string
	ended  chan error
	cancel context.CancelFunc
}

// talk opens a stream and returns at once.
func talk(t *testing.T, config *rest.Config, address string, tty bool, sizes remotecommand.TerminalSizeQueue) *dialogue {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	query := target.Query()
	query.Set("input", "1")
	query.Set("output", "1")
	if tty {
		query.Set("tty", "1")
	}
	target.RawQuery = query.Encode()
	executor, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, target)
	if err != nil {
		t.Fatal(err)
	}
	in, typed := io.Pipe()
	printed, out := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	d := &dialogue{T: t, in: typed, out: make(chan string), ended: make(chan error, 1), cancel: cancel}
	go func() {
		err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: in, Stdout: out, Tty: tty, TerminalSizeQueue: sizes})
		d.ended <- err
		in.CloseWithError(fmt.Errorf("the stream has ended: %v", err))
		out.Close()
	}()
	go func() {
		defer close(d.out)
		for buffer := make([]byte, 4096); ; {
			n, err := printed.Read(buffer)
			if n > 0 {
				d.out <- string(buffer[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		typed.Close()
		for range d.out {
		}
	})
	return d
}

func (d *dialogue) say(text string) {
	d.Helper()
	if _, err := io.WriteString(d.in, text); err != nil {
		d.Fatal(err)
	}
}

// expect waits until the text has been printed, after what was expected before.
func (d *dialogue) expect(text string) {
	d.Helper()
	late := time.After(patience)
	for !strings.Contains(d.seen, text) {
		select {
		case piece, more := <-d.out:
			if d.seen += piece; !more {
				d.Fatalf("the end came before %q, with %v; the last was %q", text, <-d.ended, d.seen)
			}
		case <-late:
			d.Fatalf("%q was never printed; the last was %q", text, d.seen)
		}
	}
	_, d.seen, _ = strings.Cut(d.seen, text)
}

func (d *dialogue) end() {
	d.Helper()
	late := time.After(patience)
	for {
		select {
		case piece, more := <-d.out:
			if d.seen += piece; more {
				continue
			}
		case <-late:
			d.Fatal("the stream does not end")
		}
		if err := <-d.ended; err != nil {
			d.Errorf("the stream ended with %v", err)
		}
		return
	}
}

// What is typed reaches the container, what it prints comes back before its line has an end, and the input's end is the first client's.
func TestAttachToStandardInput(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	base, config := withAPI(m)
	pod := m.run("shell", "answer", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Spec.Containers[0].Stdin, p.Spec.Containers[0].StdinOnce = true, true
	})
	m.until("shell", "ready", ready)
	d := talk(t, config, base+"/attach/default/shell/main", false, nil)
	d.say("one\n")
	d.expect("you said one\n> ")
	d.say("two\n")
	d.expect("you said two\n> ")
	d.in.Close()
	d.expect("bye\n")
	d.end()
	m.until("shell", "at its end", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	if got := m.log(pod, "main", 0); got != "> you said one\n> you said two\n> bye\n" {
		t.Errorf("logged %q", got)
	}
}

// A terminal has a size, echoes, and is there for the next client when one has gone; also for one of the next Fairway.
func TestAttachToTerminal(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	base, config := withAPI(m)
	m.run("shell", "size answer", func(p *corev1.Pod) {
		p.Spec.Containers[0].Stdin, p.Spec.Containers[0].TTY = true, true
	})
	m.until("shell", "ready", ready)
	first := talk(t, config, base+"/attach/default/shell/main", true, &oneSize{remotecommand.TerminalSize{Width: 120, Height: 40}})
	first.expect("120x40\r\n")
	first.say("one\n")
	first.expect("one\r\n")
	first.expect("you said one\r\n> ")
	second := talk(t, config, base+"/attach/default/shell/main", true, nil)
	second.say("two\n")
	second.expect("you said two\r\n> ")
	first.expect("you said two\r\n> ") // both look at the same terminal
	first.cancel()
	m.halt()
	m.start()
	awaitAPI(m, base, config)
	third := talk(t, config, base+"/attach/default/shell/main", true, nil)
	third.say("three\n")
	third.expect("you said three\r\n> ")
	third.say("\x04") // end of file, as typed
	third.expect("bye\r\n")
	third.end()
}

type oneSize struct{ size remotecommand.TerminalSize }

// Next implements remotecommand.TerminalSizeQueue.
func (s *oneSize) Next() *remotecommand.TerminalSize {
	if s.size.Width == 0 {
		return nil
	}
	size := s.size
	s.size = remotecommand.TerminalSize{}
	return &size
}

// Without a standard input of its own, a container's program has none, whoever types.
func TestAttachWithoutStandardInput(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	base, config := withAPI(m)
	m.run("web", "answer serve=:8080", nil)
	m.until("web", "ready", ready)
	d := talk(t, config, base+"/attach/default/web/main", false, nil)
	d.say("one\n")
	m.markDeleted("web", 30)
	d.expect("terminated\n")
	d.end()
	if strings.Contains(d.seen, "one") {
		t.Errorf("the program read %q", d.seen)
	}
}

// A client that goes away takes along what it had started.
func TestClientGone(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	base, config := withAPI(m)
	m.run("web", "serve=:8080", nil)
	m.until("web", "ready", ready)
	query := url.Values{"command": {"/app", "say=begun", "stubborn"}}
	d := talk(t, config, base+"/exec/default/web/main?"+query.Encode(), false, nil)
	d.expect("stubborn\n")
	if !running(t, "say=begun") {
		t.Fatal("the program is not found among the processes")
	}
	d.cancel()
	for deadline := time.Now().Add(patience); running(t, "say=begun"); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the program goes on without its client")
		}
	}
}

// running tells whether a process of the test program has that argument.
func running(t *testing.T, argument string) bool {
	t.Helper()
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range commands {
		data, err := os.ReadFile(path)
		if err == nil && strings.HasPrefix(string(data), "/app\x00") && strings.Contains(string(data), "\x00"+argument+"\x00") {
			return true
		}
	}
	return false
}
