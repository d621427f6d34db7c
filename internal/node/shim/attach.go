package shim

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// attachSocket is where a shim lets others attach to its container.
const attachSocket = "attach.sock"

// Frame is the kind of a message between a shim and who is attached to its container: this byte, the length in four bytes (big-endian),
// and the content.
type Frame byte

const (
	// FrameHello is the first one, from who attaches; its content is empty, or one byte if standard input comes along.
	FrameHello Frame = iota
	// FrameInput is for the container's standard input or terminal.
	FrameInput
	// FrameEnd says that there is no more input.
	FrameEnd
	// FrameSize has the terminal's width and height, two bytes each.
	FrameSize
	// FrameStdout and FrameStderr are what the container has printed.
	FrameStdout
	FrameStderr
)

// maxFrame bounds the content of a frame.
const maxFrame = 64 << 10

// WriteFrame writes one frame, in one write.
func WriteFrame(w io.Writer, kind Frame, content []byte) error {
	frame := make([]byte, 5, 5+len(content))
	frame[0] = byte(kind)
	binary.BigEndian.PutUint32(frame[1:], uint32(len(content)))
	_, err := w.Write(append(frame, content...))
	return err
}

// ReadFrame reads one frame; the error is io.EOF at the end.
func ReadFrame(r io.Reader) (Frame, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes: at most %d are allowed", length, maxFrame)
	}
	content := make([]byte, length)
	_, err := io.ReadFull(r, content)
	return Frame(head[0]), content, err
}

// Dial attaches to the container in dir, which must be running. What it prints from then on comes in frames; the connection's end is the
// container's.
func Dial(dir string) (*net.UnixConn, error) {
	at, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: shortPath(at, attachSocket), Net: "unix"})
}

// shortPath names a file of a directory whose own path may be longer than a socket's may be.
func shortPath(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}

// stall is how long somebody who is attached may take no output before he is let go: until then the container waits, as it would for a
// terminal.
const stall = 10 * time.Second

// hub passes what the container prints to all who are attached, and what they type to the container.
type hub struct {
	in       *os.File // the container's standard input, or its terminal; nil: it has none
	terminal bool
	once     bool // input ends with the first one who brought some

	mu       sync.Mutex
	attached map[*net.UnixConn]struct{}
}

func newHub(terminal, once bool) *hub {
	return &hub{terminal: terminal, once: once, attached: map[*net.UnixConn]struct{}{}}
}

func listenAttach(dir string) (*net.UnixListener, error) {
	at, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: shortPath(at, attachSocket), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for those who attach: %w", err)
	}
	return listener, os.Chmod(filepath.Join(dir, attachSocket), 0o600)
}

// accept serves those who attach, until the process ends.
func (h *hub) accept(listener *net.UnixListener) {
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		go h.serve(conn)
	}
}

func (h *hub) serve(conn *net.UnixConn) {
	kind, hello, err := ReadFrame(conn)
	if err != nil || kind != FrameHello {
		conn.Close()
		return
	}
	h.mu.Lock()
	err = WriteFrame(conn, FrameHello, nil) // from here on nothing is missed
	h.attached[conn] = struct{}{}
	h.mu.Unlock()
	for err == nil {
		var content []byte
		if kind, content, err = ReadFrame(conn); err != nil {
			break
		}
		switch {
		case kind == FrameInput && h.in != nil:
			_, err = h.in.Write(content)
		case kind == FrameEnd:
			h.ended()
		case kind == FrameSize && h.terminal && len(content) == 4:
			h.resize(binary.BigEndian.Uint16(content), binary.BigEndian.Uint16(content[2:]))
		}
	}
	if len(hello) > 0 { // who brought input and went away without a word has ended it as well
		h.ended()
	}
	h.mu.Lock()
	delete(h.attached, conn)
	h.mu.Unlock()
	conn.Close()
}

// ended ends the container's input if it is to end with the first one's. A terminal has no end: it is there for the next one.
func (h *hub) ended() {
	if h.once && !h.terminal && h.in != nil {
		h.in.Close() // a second time it does nothing
	}
}

func (h *hub) resize(width, height uint16) {
	raw, err := h.in.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
}

// print gives output to all who are attached.
func (h *hub) print(kind Frame, output []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for conn := range h.attached {
		_ = conn.SetWriteDeadline(time.Now().Add(stall))
		if WriteFrame(conn, kind, output) != nil {
			delete(h.attached, conn)
			conn.Close()
		}
	}
}
