package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// serveUDP is the loop of one socket: read what is there, answer it, write the answers. Only questions for upstreams leave
// the loop.
func (s *Server) serveUDP(ctx context.Context, k *socket, c *net.UDPConn) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("dns: serve UDP %s: %w", k.addr, err)
	}
	p, w := newPackets(k.addr.Addr().IsUnspecified()), &scratch{}
	var failed error
	// The whole loop is in one Read, which waits for more whenever false is returned. A batch that is not full has emptied
	// the socket, so there is no need to ask the kernel once more before waiting: what came since wakes the wait.
	err = rc.Read(func(fd uintptr) bool {
		for {
			n, errno := p.receive(fd)
			switch errno {
			case 0:
			case unix.EAGAIN:
				return false
			case unix.EINTR, unix.ECONNREFUSED, unix.ENOBUFS, unix.ENOMEM:
				continue
			default:
				failed = errno
				return true
			}
			p.queued = 0
			started := time.Now()
			for i := range n {
				s.answerPacket(ctx, c, p, w, i)
			}
			s.timed(w, time.Since(started))
			if failed = s.flush(rc, fd, p); failed != nil {
				return true
			}
			if n < batchSize {
				return false
			}
		}
	})
	if err = errors.Join(err, failed); ctx.Err() != nil || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return fmt.Errorf("dns: serve UDP %s: %w", k.addr, err)
}

// flush writes what is queued, waiting while the socket is full.
func (s *Server) flush(rc syscall.RawConn, fd uintptr, p *packets) error {
	sent := 0
	write := func(fd uintptr) bool {
		for sent < p.queued {
			m, errno := p.send(fd, sent)
			switch errno {
			case 0:
				sent += m
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default: // the first of them cannot be sent, by its address or by a rule: the client asks again
				s.metrics.unsent.Add(1)
				sent++
			}
		}
		return true
	}
	if write(fd) {
		return nil
	}
	return rc.Write(write)
}

// answerPacket queues the reply to packet i, or hands it over to be answered with an upstream's help.
func (s *Server) answerPacket(ctx context.Context, c *net.UDPConn, p *packets, w *scratch, i int) {
	query := p.query(i)
	if query == nil {
		s.metrics.dropped.Add(1)
		return
	}
	w.v6 = p.names[i].Family == unix.AF_INET6
	if s.plan.Load().log != nil {
		w.client = p.client(i).Addr()
	}
	reply, slow := s.answer(w, query, p.replies[i][:0], false, maxUDP)
	if !slow {
		if reply != nil {
			p.queue(i, reply)
		}
		return
	}
	query, client := bytes.Clone(query), p.client(i)
	var source []byte
	if p.wantControl {
		source = bytes.Clone(p.source(i))
	}
	if !s.forward.start(ctx, func(ctx context.Context) {
		if reply := s.answerSlowly(ctx, &scratch{}, query, client.Addr(), false, maxUDP); reply != nil {
			if _, _, err := c.WriteMsgUDPAddrPort(reply, source, client); err != nil {
				s.metrics.unsent.Add(1)
			}
		}
	}) {
		s.metrics.rejected.Add(1)
		p.queue(i, s.refuse(w))
	}
}
