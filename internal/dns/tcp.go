package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/dns/wire"
)

const (
	// maxConns is how many TCP connections are open at once, over all addresses; one more is closed when it comes.
	maxConns = 1024
	// idleTimeout closes a connection on which nothing came, or nothing could be written, for so long (RFC 7766 section 6.2.3).
	idleTimeout = 10 * time.Second
	// maxBurst is how many bytes of replies are gathered before they are written.
	maxBurst = 64 << 10
)

// conns are the open TCP connections, so that they can be counted and ended.
type conns struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
	wg     sync.WaitGroup
}

func newConns() *conns { return &conns{open: map[net.Conn]struct{}{}} }

func (cs *conns) add(c net.Conn) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed || len(cs.open) >= maxConns {
		return false
	}
	cs.open[c] = struct{}{}
	return true
}

func (cs *conns) remove(c net.Conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.open, c)
	c.Close()
}

// closeAll ends all connections and waits for those who serve them.
func (cs *conns) closeAll() {
	cs.mu.Lock()
	cs.closed = true
	for c := range cs.open {
		c.Close()
	}
	cs.mu.Unlock()
	cs.wg.Wait()
}

// retire lets the connections end with what was asked on them, and waits for that. No new ones are taken.
func (cs *conns) retire() {
	cs.mu.Lock()
	cs.closed = true
	for c := range cs.open {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.CloseRead()
		}
	}
	cs.mu.Unlock()
	cs.wg.Wait()
}

// serveTCP accepts connections.
func (s *Server) serveTCP(ctx context.Context, k *socket, cs *conns) error {
	for {
		c, err := k.tcp.AcceptTCP()
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM):
			s.log.Warn("dns: accept", "address", k.addr, "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(100 * time.Millisecond): // others must first give something back
			}
			continue
		case errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.EPERM):
			continue
		default:
			return fmt.Errorf("dns: accept on %s: %w", k.addr, err)
		}
		if !cs.add(c) {
			s.metrics.rejected.Add(1)
			c.Close()
			continue
		}
		cs.wg.Add(1)
		go func() {
			defer cs.wg.Done()
			defer cs.remove(c)
			s.serveConn(ctx, c)
		}()
	}
}

// conn is one connection's writing side, which slow answers share with its loop.
type conn struct {
	net.Conn
	mu   sync.Mutex
	slow sync.WaitGroup
}

func (c *conn) send(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.SetWriteDeadline(time.Now().Add(idleTimeout)); err != nil {
		return err
	}
	_, err := c.Write(b)
	return err
}

// serveConn reads queries as they come, many in one read, and writes the answers to those in one write. Answers that need an
// upstream follow when they are there, in whatever order (RFC 7766 section 7).
func (s *Server) serveConn(ctx context.Context, nc net.Conn) {
	c := &conn{Conn: nc}
	defer c.slow.Wait()
	client := remote(nc)
	var (
		w    = scratch{client: client, v6: client.Is6()}
		in   = make([]byte, 0, 1024)
		out  []byte
		one  []byte
		need = 2
	)
	for {
		for len(in) < need {
			if cap(in) < need {
				in = append(make([]byte, 0, need), in...)
			}
			if c.SetReadDeadline(time.Now().Add(idleTimeout)) != nil {
				return
			}
			n, err := c.Read(in[len(in):cap(in)])
			in = in[:len(in)+n]
			if err != nil && (n == 0 || !errors.Is(err, io.EOF)) {
				return
			}
		}
		used := 0
		out = out[:0]
		for {
			need = 2
			if len(in)-used < need {
				break
			}
			need += int(binary.BigEndian.Uint16(in[used:]))
			if len(in)-used < need || len(out) > maxBurst {
				break
			}
			query := in[used+2 : used+need]
			used += need
			started := time.Now()
			reply, slow := s.answer(&w, query, one[:0], true, wire.MaxMessage)
			s.timed(&w, time.Since(started))
			if slow {
				reply = s.answerLater(ctx, c, &w, query)
			} else if reply == nil {
				return // what is no query over TCP is no client either
			}
			if reply != nil {
				out = append(binary.BigEndian.AppendUint16(out, uint16(len(reply))), reply...)
				one = reply
			}
		}
		in = append(in[:0], in[used:]...)
		if len(out) > 0 && c.send(out) != nil {
			return
		}
	}
}

// answerLater starts a slow answer, and gives what to answer at once if there are too many.
func (s *Server) answerLater(ctx context.Context, c *conn, w *scratch, query []byte) []byte {
	query = append([]byte(nil), query...)
	c.slow.Add(1)
	if s.forward.start(ctx, func(ctx context.Context) {
		defer c.slow.Done()
		reply := s.answerSlowly(ctx, &scratch{}, query, remote(c), true, wire.MaxMessage)
		if reply == nil {
			return
		}
		b := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply))), reply...)
		if c.send(b) != nil {
			c.Close() // the loop ends on its next read
		}
	}) {
		return nil
	}
	c.slow.Done()
	s.metrics.rejected.Add(1)
	return s.refuse(w)
}

// remote is a connection's other end.
func remote(c net.Conn) netip.Addr {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return a.AddrPort().Addr().Unmap()
}

// refuse gives the answer to a query that cannot be taken on now; the client may try another server.
func (s *Server) refuse(w *scratch) []byte {
	w.start(s, s.plan.Load(), nil, wire.MinUDP)
	w.r.Rcode = wire.ServerFailure
	return w.r.Finish()
}
