package forward

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"fairway.dev/fairway/internal/dns/wire"
)

// try asks one server once, over TCP too if the response over UDP was cut or cannot be trusted.
func (g *Group) try(ctx context.Context, s *server, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
	defer cancel()
	query = bytes.Clone(query)
	wire.SetID(query, uint16(rand.Uint32()))
	if s.Transport != UDP {
		return g.stream(ctx, s, query)
	}
	mixed := s.keepCase.Load() && wire.MixCase(query, rand.Uint64)
	reply, err := g.datagram(ctx, s, query)
	switch {
	case err != nil:
		return nil, err
	case mixed && !wire.SameCase(query, reply):
		// Either somebody guesses, or the server does not keep the case: nobody can guess into TCP.
		full, err := g.stream(ctx, s, query)
		if err != nil {
			s.forged.Add(1)
			return nil, fmt.Errorf("ask %s: the response has another case of letters, and TCP says nothing: %w", s.Address, err)
		}
		if !wire.SameCase(query, full) {
			if s.keepCase.Swap(false) {
				g.cfg.Logger.Info("dns: an upstream server does not keep the case of letters, which makes forging harder", "server", s.Address.String())
			}
		} else {
			s.forged.Add(1)
		}
		return full, nil
	case wire.IsTruncated(reply):
		full, err := g.stream(ctx, s, query)
		if err != nil {
			return reply, nil // the cut response says at least that there is more
		}
		return full, nil
	}
	return reply, nil
}

// datagram sends a query from a fresh socket and reads until a response to it comes; others are passed over.
func (g *Group) datagram(ctx context.Context, s *server, query []byte) ([]byte, error) {
	c, err := g.cfg.Dial(ctx, "udp", s.AddrPort)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer closeAtEnd(ctx, c)()
	if _, err := c.Write(query); err != nil {
		return nil, fmt.Errorf("ask %s: %w", s.Address, err)
	}
	buf := make([]byte, maxUDP)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", s.Address, orCause(ctx, err))
		}
		if wire.Responds(query, buf[:n]) {
			return buf[:n], nil
		}
		s.forged.Add(1)
	}
}

// stream asks over TCP or TLS, on a connection that is there, or else on a new one.
func (g *Group) stream(ctx context.Context, s *server, query []byte) ([]byte, error) {
	if c := s.take(g.cfg.Idle, time.Now()); c != nil {
		reply, err := g.onConn(ctx, s, c, query)
		if err == nil || ctx.Err() != nil {
			s.connHits.Add(1)
			return reply, err
		}
		// It was closed by the other side while nobody looked.
	}
	s.connDials.Add(1)
	c, err := g.cfg.Dial(ctx, "tcp", s.AddrPort)
	if err != nil {
		return nil, err
	}
	if s.tls != nil {
		t := tls.Client(c, s.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, fmt.Errorf("TLS with %s: %w", s.Address, err)
		}
		c = t
	}
	return g.onConn(ctx, s, c, query)
}

// onConn asks on a connection and keeps it for the next question if that went well.
func (g *Group) onConn(ctx context.Context, s *server, c net.Conn, query []byte) (reply []byte, err error) {
	stop := closeAtEnd(ctx, c)
	defer func() {
		if stop(); err != nil || ctx.Err() != nil {
			c.Close()
			return
		}
		s.giveBack(c, time.Now())
	}()
	framed := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(query)), uint16(len(query))), query...)
	if _, err := c.Write(framed); err != nil {
		return nil, fmt.Errorf("ask %s over TCP: %w", s.Address, err)
	}
	reply, err = readFrame(c)
	if err != nil {
		return nil, fmt.Errorf("ask %s over TCP: %w", s.Address, orCause(ctx, err))
	}
	if !wire.Responds(query, reply) {
		return nil, fmt.Errorf("ask %s over TCP: %w", s.Address, errOther)
	}
	return reply, nil
}

var errOther = errors.New("the response is to another question")

func readFrame(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

// closeAtEnd closes a connection when ctx ends; the function that it gives calls that off, and waits if it is too late for that.
func closeAtEnd(ctx context.Context, c net.Conn) func() {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { c.Close(); close(closed) })
	return func() {
		if !stop() {
			<-closed
		}
	}
}

// orCause says that time was up, where that is why a connection was closed.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
