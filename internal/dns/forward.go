package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fairway.dev/fairway/internal/dns/wire"
)

const (
	// maxPending is how many questions wait for upstreams at once.
	maxPending = 1000
	// tryTimeout is how long one upstream has to answer, questionTimeout how long one question may take over all. A client's
	// own patience is 5 s by default (resolv.conf(5)).
	tryTimeout      = 1500 * time.Millisecond
	questionTimeout = 4800 * time.Millisecond
	// tries is how many attempts a question is worth, however few upstreams there are.
	tries = 3
)

var (
	errNoUpstream = errors.New("no upstream resolver")
	errTimeout    = errors.New("no upstream resolver answered in time")
)

// forwarder puts questions to upstream resolvers. Every question has a socket of its own, hence a port that the kernel
// chose at random, and a random identifier (RFC 5452 section 9).
type forwarder struct {
	upstreams upstreams
	ns        *namespace
	metrics   *metrics
	slots     chan struct{}
	tasks     sync.WaitGroup
	// good is the index of the upstream that answered last: it is asked first.
	good   atomic.Uint32
	usable atomic.Bool
}

func newForwarder(s *Server) (*forwarder, error) {
	ns, err := currentNamespace()
	if err != nil {
		return nil, err
	}
	f := &forwarder{ns: ns, metrics: &s.metrics, slots: make(chan struct{}, maxPending)}
	s.forward = f
	f.upstreams = upstreams{fixed: s.cfg.Upstreams, path: s.cfg.ResolvConf, log: s.log, self: s.listens}
	f.upstreams.reads.Store(time.Now().UnixNano())
	f.upstreams.look()
	f.usable.Store(len(f.upstreams.fixed) > 0 || f.upstreams.path != "")
	return f, nil
}

// able tells whether questions are forwarded at all.
func (f *forwarder) able() bool { return f.usable.Load() }

// local lists the machine's own addresses; none if they cannot be read.
func (f *forwarder) local() []netip.Addr {
	out, err := f.ns.local()
	if err != nil {
		f.upstreams.log.Warn("dns: list own addresses", "err", err)
	}
	return out
}

// start runs a task beside the caller, unless too many run already.
func (f *forwarder) start(ctx context.Context, task func(context.Context)) bool {
	select {
	case f.slots <- struct{}{}:
	default:
		return false
	}
	f.tasks.Add(1)
	go func() {
		defer f.tasks.Done()
		defer func() { <-f.slots }()
		ctx, cancel := context.WithTimeout(ctx, questionTimeout)
		defer cancel()
		task(ctx)
	}()
	return true
}

func (f *forwarder) wait()  { f.tasks.Wait() }
func (f *forwarder) close() { f.ns.file.Close() }

// relay puts a client's query to upstreams and gives the response as the client may see it: its own identifier, and
// truncated if it is over limit.
func (f *forwarder) relay(ctx context.Context, q *wire.Query, limit int) ([]byte, error) {
	own := bytes.Clone(q.Raw)
	wire.SetID(own, uint16(rand.Uint32()))
	q.CapUDP(own, maxUDP)
	reply, err := f.ask(ctx, own, limit)
	if err != nil {
		return nil, err
	}
	wire.SetID(reply, q.ID())
	if len(reply) > limit {
		reply = wire.Truncate(reply)
	}
	return reply, nil
}

// chase adds the records of an alias's target to a reply that has the alias, and takes over the response code: what is
// wrong with the target is wrong with the alias.
func (f *forwarder) chase(ctx context.Context, r *wire.Reply, target []byte, t wire.Type) {
	reply, err := f.ask(ctx, wire.AppendQuery(nil, uint16(rand.Uint32()), target, t), wire.MaxMessage)
	if err != nil {
		r.Rcode = wire.ServerFailure
		return
	}
	r.Rcode = wire.ResponseCode(reply)
	if wire.EachAnswer(reply, func(owner []byte, t wire.Type, ttl uint32, data []byte) bool {
		return r.Named(wire.Answer, owner, t, ttl, data)
	}) != nil {
		r.Rcode = wire.ServerFailure
	}
}

// ask puts a query to one upstream after the other, the one that was good last time first. A refusal or failure is kept in case
// that nobody has anything better.
func (f *forwarder) ask(ctx context.Context, query []byte, limit int) ([]byte, error) {
	list := f.upstreams.get()
	if len(list) == 0 {
		return nil, errNoUpstream
	}
	f.metrics.asked.Add(1)
	var poor []byte
	first := int(f.good.Load())
	for i := range max(tries, len(list)) {
		if i >= len(list) && poor != nil || ctx.Err() != nil {
			break
		}
		at := (first + i) % len(list)
		reply, err := f.try(ctx, list[at], query, limit)
		if err != nil {
			continue
		}
		if c := wire.ResponseCode(reply); c == wire.NoError || c == wire.NameError {
			f.good.Store(uint32(at))
			return reply, nil
		}
		poor = reply
	}
	if poor != nil {
		return poor, nil
	}
	f.metrics.failed.Add(1)
	return nil, errTimeout
}

// try asks one upstream over UDP, and over TCP if the response was cut and the client has room for more.
func (f *forwarder) try(ctx context.Context, to netip.AddrPort, query []byte, limit int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	reply, err := f.exchange(ctx, "udp", to, query, readPacket)
	if err != nil || !wire.IsTruncated(reply) || limit <= wire.MinUDP {
		return reply, err
	}
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	full, err := f.exchange(ctx, "tcp", to, framed, readFrame)
	if err != nil {
		return reply, nil // the cut response says at least that there is more
	}
	return full, nil
}

// exchange sends b and reads until a response to it comes; others are passed over.
func (f *forwarder) exchange(ctx context.Context, network string, to netip.AddrPort, b []byte, read func(net.Conn, []byte) ([]byte, error)) ([]byte, error) {
	c, err := f.ns.dial(ctx, network, to)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { c.Close(); close(closed) })
	defer func() {
		if !stop() {
			<-closed
		}
	}()
	if _, err := c.Write(b); err != nil {
		return nil, fmt.Errorf("ask %s: %w", to, err)
	}
	query := b
	if network == "tcp" {
		query = b[2:]
	}
	buf := make([]byte, maxUDP)
	for {
		reply, err := read(c, buf)
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", to, err)
		}
		if wire.Responds(query, reply) {
			return reply, nil
		}
	}
}

func readPacket(c net.Conn, buf []byte) ([]byte, error) {
	n, err := c.Read(buf)
	return buf[:n], err
}

func readFrame(c net.Conn, _ []byte) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, b)
	return b, err
}
