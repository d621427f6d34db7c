package dns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sockets outlive a process in two ways, and with them the questions that wait in them. A service manager keeps them: they are given to systemd's
// file descriptor store, which gives them back to the next process, also after kill -9 (sd_notify(3), sd_listen_fds(3)). And a successor
// that starts before its predecessor stops gets them from it, over a socket of the file system.

// storeName is what the service manager calls our sockets.
const storeName = "fairway-dns"

// maxHandover is the longest time that a successor leaves answering to its predecessor while its own names are not complete.
const maxHandover = 30 * time.Second

// Inherited are sockets that another process opened.
type Inherited struct {
	udp map[netip.AddrPort][]*net.UDPConn
	tcp map[netip.AddrPort]*net.TCPListener
	// from is open as long as the predecessor lives; nil if there is none.
	from *net.UnixConn
}

// inherit takes over what is there: from the service manager, else from a predecessor at the other end of path.
func inherit(path string) (*Inherited, error) {
	in := &Inherited{udp: map[netip.AddrPort][]*net.UDPConn{}, tcp: map[netip.AddrPort]*net.TCPListener{}}
	for _, f := range storedFiles() {
		in.add(f)
	}
	if path == "" || len(in.udp) > 0 {
		return in, nil
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) { // none, or a dead one
			return in, nil
		}
		return in, fmt.Errorf("dns: take over sockets: %w", err)
	}
	files, err := receiveFiles(c)
	if err != nil {
		c.Close()
		return in, fmt.Errorf("dns: take over sockets from %s: %w", path, err)
	}
	for _, f := range files {
		in.add(f)
	}
	in.from = c
	return in, nil
}

// TakeOver gets the sockets of a server whose Config.Handover is path, if there is one, and waits until that server has gone. Questions that come
// after that wait in the sockets; give them to New as Config.Inherited soon, or Close.
func TakeOver(ctx context.Context, path string) (*Inherited, error) {
	in, err := inherit(path)
	if err != nil || in.from == nil {
		return in, err
	}
	stop := context.AfterFunc(ctx, func() { in.from.Close() })
	defer stop()
	_, _ = io.Copy(io.Discard, in.from) // nothing is sent; it ends with the other side
	in.from.Close()
	in.from = nil
	if ctx.Err() != nil {
		in.Close()
		return nil, ctx.Err()
	}
	return in, nil
}

// storedFiles gives what the service manager has kept for this process.
func storedFiles() (out []*os.File) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil
	}
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for i := range n {
		if i < len(names) && names[i] == storeName {
			unix.CloseOnExec(3 + i)
			out = append(out, os.NewFile(uintptr(3+i), storeName))
		}
	}
	return out
}

// add takes a socket over; what is no socket of DNS is closed.
func (in *Inherited) add(f *os.File) {
	defer f.Close()                                   // net makes copies
	if pc, err := net.FilePacketConn(f); err == nil { // one of TCP is none
		if c, ok := pc.(*net.UDPConn); ok {
			a := unmap(c.LocalAddr().(*net.UDPAddr).AddrPort())
			in.udp[a] = append(in.udp[a], c)
			return
		}
		pc.Close()
	}
	if l, err := net.FileListener(f); err == nil {
		t, ok := l.(*net.TCPListener)
		if !ok {
			l.Close()
			return
		}
		a := unmap(t.Addr().(*net.TCPAddr).AddrPort())
		if old := in.tcp[a]; old != nil {
			old.Close()
		}
		in.tcp[a] = t
	}
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// take gives the sockets of an address, if they are there.
func (in *Inherited) take(a netip.AddrPort) *socket {
	a = unmap(a)
	if a.Port() == 0 || len(in.udp[a]) == 0 || in.tcp[a] == nil {
		return nil
	}
	k := &socket{addr: a, udp: in.udp[a], tcp: in.tcp[a]}
	delete(in.udp, a)
	delete(in.tcp, a)
	return k
}

// Close gives up what no server has taken. It may be called more than once.
func (in *Inherited) Close() {
	for _, list := range in.udp {
		for _, c := range list {
			c.Close()
		}
	}
	for _, l := range in.tcp {
		l.Close()
	}
}

// files gives copies of all sockets.
func (s *Server) files() (out []*os.File, err error) {
	add := func(f *os.File, e error) {
		if err = errors.Join(err, e); e == nil {
			out = append(out, f)
		}
	}
	for _, k := range s.sockets {
		for _, c := range k.udp {
			add(c.File())
		}
		add(k.tcp.File())
	}
	return out, err
}

func descriptors(files []*os.File) (fds []int) {
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	return fds
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// store gives copies of the sockets to the service manager, if it takes any.
func (s *Server) store() error {
	to := os.Getenv("NOTIFY_SOCKET")
	if to == "" || os.Getenv("FDSTORE") == "" {
		return nil
	}
	files, err := s.files()
	defer closeAll(files)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	manager := &unix.SockaddrUnix{Name: to} // a first @ stands for the abstract namespace there, too
	// What was kept before is the same, or is of addresses that are not served any more.
	if err := unix.Sendmsg(fd, []byte("FDSTOREREMOVE=1\nFDNAME="+storeName), nil, manager, 0); err != nil {
		return err
	}
	for _, f := range files {
		if err := unix.Sendmsg(fd, []byte("FDSTORE=1\nFDPOLL=0\nFDNAME="+storeName), unix.UnixRights(int(f.Fd())), manager, 0); err != nil {
			return err
		}
	}
	return nil
}

// openHandover listens for a successor, in the place of a predecessor.
func (s *Server) openHandover() error {
	path := s.cfg.Handover
	if path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("dns: handover: %w", err)
	}
	fresh := path + "." + strconv.Itoa(os.Getpid())
	_ = os.Remove(fresh)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return fmt.Errorf("dns: handover: %w", err)
	}
	l.SetUnlinkOnClose(false) // by then it may be a successor's
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		l.Close()
		return fmt.Errorf("dns: handover: %w", err)
	}
	s.handover = l
	return nil
}

// handOver gives the sockets to whoever asks for them: from then on both answer, until one stops. The connection stays open until then, so
// that the successor sees it.
func (s *Server) handOver(ctx context.Context) error {
	if s.handover == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { s.handover.Close() })
	defer stop()
	var open []*net.UnixConn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for {
		c, err := s.handover.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("dns: handover: %w", err)
		}
		files, err := s.files()
		if err == nil {
			_, _, err = c.WriteMsgUnix([]byte{byte(len(files))}, unix.UnixRights(descriptors(files)...), nil)
		}
		closeAll(files)
		if err != nil {
			s.log.Warn("dns: hand over sockets", "err", err)
			c.Close()
			continue
		}
		s.handed.Store(true)
		open = append(open, c)
		s.log.Info("dns: a successor has the sockets, too")
	}
}

// receiveFiles reads what handOver sends.
func receiveFiles(c *net.UnixConn) ([]*os.File, error) {
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	b, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(253*4))
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || n != 1 {
		return nil, errors.Join(err, errors.New("nothing was sent"))
	}
	var out []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			out = append(out, os.NewFile(uintptr(fd), storeName))
		}
	}
	return out, c.SetDeadline(time.Time{})
}

// awaitTurn returns when this server should read its sockets: at once, or, while a predecessor does, when the names are complete or the
// predecessor has gone.
func (s *Server) awaitTurn(ctx context.Context) {
	if s.predecessor == nil {
		return
	}
	gone := make(chan struct{})
	go func() { defer close(gone); _, _ = io.Copy(io.Discard, s.predecessor) }()
	stop := context.AfterFunc(ctx, func() { s.predecessor.Close() })
	defer func() {
		if stop() {
			s.predecessor.Close()
		}
		<-gone
	}()
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for end := time.Now().Add(maxHandover); !s.zone.Synced() && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return
		case <-gone:
			return
		case <-t.C:
		}
	}
}

// retire ends the reading of sockets that a successor reads, too, and answers what was read before.
func (s *Server) retire(cs *conns) {
	past := time.Now()
	for _, k := range s.sockets {
		for _, c := range k.udp {
			_ = c.SetReadDeadline(past)
		}
		_ = k.tcp.SetDeadline(past)
	}
	cs.retire()
	s.forward.wait()
}
