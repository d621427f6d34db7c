package node

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"fairway.dev/fairway/internal/node/logs"
	"fairway.dev/fairway/internal/node/network"
	"fairway.dev/fairway/internal/node/runtime"
)

// streams connects a client's streams with one container or Pod.
type streams struct {
	ctx context.Context // of the client's connection
	target
}

// ExecInContainer runs a command; an exit code other than 0 comes back as an utilexec.ExitError, which the client is told.
func (s *streams) ExecInContainer(ctx context.Context, _, _, _ string, cmd []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	o := runtime.ExecOptions{Args: cmd, Stdin: in, Terminal: tty}
	if out != nil { // a nil pointer in an interface is not nil
		o.Stdout = out
	}
	if errOut != nil {
		o.Stderr = errOut
	}
	if tty {
		sizes := make(chan runtime.Size)
		o.Sizes = sizes
		done := make(chan struct{})
		defer close(done)
		go passSizes(resize, sizes, done)
	}
	code, err := s.handle.running.Exec(ctx, o)
	if err != nil {
		return err
	}
	if code != 0 {
		return utilexec.CodeExitError{Code: code, Err: fmt.Errorf("command terminated with exit code %d", code)}
	}
	return nil
}

func passSizes(from <-chan remotecommand.TerminalSize, to chan<- runtime.Size, done <-chan struct{}) {
	defer close(to)
	for {
		select {
		case size, more := <-from:
			if !more {
				return
			}
			select {
			case to <- runtime.Size{Width: size.Width, Height: size.Height}:
			case <-done:
				return
			}
		case <-done:
			return
		}
	}
}

// AttachContainer connects with the container's own process. What is typed reaches only a container whose manifest asks for a standard input.
func (s *streams) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	var o runtime.AttachOptions
	if in != nil && s.container.spec.Stdin {
		o.Stdin = in
	}
	if out != nil { // a nil pointer in an interface is not nil
		o.Stdout = out
	}
	if errOut != nil {
		o.Stderr = errOut
	}
	if resize != nil && s.container.spec.TTY {
		sizes := make(chan runtime.Size)
		o.Sizes = sizes
		done := make(chan struct{})
		defer close(done)
		go passSizes(resize, sizes, done)
	}
	return s.handle.running.Attach(ctx, o)
}

// PortForward connects a stream with a port of the Pod, from inside its network, where loopback is the Pod's. It ends with the client's
// connection, which the context that it is given knows nothing of.
func (s *streams) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	conn, err := network.DialLoopback(s.ctx, s.netns, uint16(port))
	if err != nil {
		return fmt.Errorf("pod %s/%s: connect to port %d: %w", s.pod.Namespace, s.pod.Name, port, err)
	}
	defer conn.Close()
	defer context.AfterFunc(s.ctx, func() { conn.Close() })()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(conn, stream)
		_ = conn.CloseWrite()
	}()
	_, err = io.Copy(stream, conn)
	stream.Close()
	<-sent
	if s.ctx.Err() != nil {
		return nil
	}
	return err
}

// serveLogs answers a request for a container's log.
func (n *Node) serveLogs(w http.ResponseWriter, r *http.Request) {
	t, found := n.find(w, r)
	if !found {
		return
	}
	query := r.URL.Query()
	o, err := logOptions(query, time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	attempt := t.container.restarts
	if t.handle != nil {
		attempt = t.handle.attempt
	}
	previous := query.Get("previous") == "true"
	if previous {
		attempt--
	}
	path := n.logPath(string(t.pod.UID), t.container.spec.Name, attempt)
	if _, err := os.Stat(path); err != nil {
		message := fmt.Sprintf("container %q in pod %q is waiting to start: %s", t.container.spec.Name, t.pod.Name, waitingReason(t.container))
		if previous {
			message = fmt.Sprintf("previous terminated container %q in pod %q not found", t.container.spec.Name, t.pod.Name)
		}
		http.Error(w, message, http.StatusBadRequest)
		return
	}
	ended := make(chan struct{})
	if t.handle != nil && !previous {
		ended = t.handle.exited
	} else {
		close(ended)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out := &flushing{w, http.NewResponseController(w)}
	out.Flush() // the headers: a client that follows waits for them
	if err := logs.Read(r.Context(), path, o, ended, out); err != nil {
		n.Logger.Debug("log not read to its end", "path", path, "error", err)
	}
}

func waitingReason(c *container) string {
	if c.waitReason != "" {
		return c.waitReason
	}
	return "ContainerCreating"
}

// flushing sends what was written when it is told to.
type flushing struct {
	http.ResponseWriter
	controller *http.ResponseController
}

func (f *flushing) Flush() { _ = f.controller.Flush() }

// logOptions reads the options of the Pod log API from a query.
func logOptions(query url.Values, now time.Time) (logs.Options, error) {
	o := logs.Options{
		Tail: logs.All, Follow: query.Get("follow") == "true", Timestamps: query.Get("timestamps") == "true",
	}
	switch query.Get("stream") {
	case "", "All":
	case "Stdout":
		o.Stream = "stdout"
	case "Stderr":
		o.Stream = "stderr"
	default:
		return o, fmt.Errorf("stream %q: must be All, Stdout or Stderr", query.Get("stream"))
	}
	number := func(name string) (int64, bool, error) {
		text := query.Get(name)
		if text == "" {
			return 0, false, nil
		}
		value, err := strconv.ParseInt(text, 10, 64)
		if err == nil && value < 0 {
			err = fmt.Errorf("must not be negative")
		}
		if err != nil {
			return 0, false, fmt.Errorf("%s %q: %w", name, text, err)
		}
		return value, true, nil
	}
	if lines, given, err := number("tailLines"); err != nil {
		return o, err
	} else if given {
		o.Tail = lines
	}
	if bytes, given, err := number("limitBytes"); err != nil {
		return o, err
	} else if given {
		o.Limit = bytes
	}
	if seconds, given, err := number("sinceSeconds"); err != nil {
		return o, err
	} else if given {
		o.Since = now.Add(-time.Duration(seconds) * time.Second)
	}
	if text := query.Get("sinceTime"); text != "" {
		since, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return o, fmt.Errorf("sinceTime %q: %w", text, err)
		}
		o.Since = since
	}
	return o, nil
}
