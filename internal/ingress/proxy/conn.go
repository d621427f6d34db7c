package proxy

import (
	"bufio"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var errHeadTooLarge = errors.New("the head of its answer is too large")

// conn is one HTTP/1.1 connection to an endpoint. It belongs to one request at a time, or to its endpoint's pool.
type conn struct {
	nc *net.TCPConn
	ep *endpoint
	br *bufio.Reader
	bw *bufio.Writer

	reused    bool
	sent      int64 // bytes of the present request that the kernel took
	before    int64 // bytes of the requests before it
	budget    int   // bytes that may still be read; bounds a head
	idleSince time.Time

	raw   syscall.RawConn
	probe func(fd uintptr) bool // made once, because a closure per use would be an allocation per request
	alive bool                  // what probe found
}

// unbounded is the budget for bodies.
const unbounded = int(^uint(0) >> 1)

func newConn(nc *net.TCPConn, ep *endpoint) (*conn, error) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &conn{nc: nc, ep: ep, raw: raw}
	c.br = bufio.NewReader((*connReader)(c))
	c.bw = bufio.NewWriter((*connWriter)(c))
	c.probe = func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		c.alive = err == syscall.EAGAIN
		return true
	}
	return c, nil
}

// usable tells whether an idle connection is still open and silent. An endpoint that stops closes its idle connections, and
// a request written to such a connection could not be repeated safely; bytes that nobody asked for would be taken for the next
// answer.
func (c *conn) usable() bool {
	c.alive = false
	return c.raw.Read(c.probe) == nil && c.alive
}

// unread tells, after the connection has ended in order (io.EOF), whether the other side closed it before it received anything of the
// present request: its FIN acknowledged none of it. Then the application cannot have acted on it, and RFC 9110 section 9.2.2
// allows to repeat it whatever its method. A reset proves nothing of the kind, since its acknowledgement is not looked at.
func (c *conn) unread() bool {
	unread := false
	err := c.raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		// The handshake counts as one byte.
		unread = err == nil && info.Bytes_acked <= uint64(c.before)+1
	})
	return err == nil && unread
}

func (c *conn) close() { _ = c.nc.Close() } // nothing can be done about a failure

// connReader counts what is read against the budget.
type connReader conn

func (r *connReader) Read(p []byte) (int, error) {
	if r.budget <= 0 {
		return 0, errHeadTooLarge
	}
	if r.budget < len(p) {
		p = p[:r.budget]
	}
	n, err := r.nc.Read(p)
	if r.budget != unbounded {
		r.budget -= n
	}
	return n, err
}

// connWriter counts what is written.
type connWriter conn

func (w *connWriter) Write(p []byte) (int, error) {
	n, err := w.nc.Write(p)
	w.sent += int64(n)
	return n, err
}
