package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// conn speaks to the nf_tables of the network namespace in which its socket was opened. Every call is a request and its
// answer: the kernel works while the caller is in sendto, so nothing is ever pending. It belongs to one goroutine.
type conn struct {
	socket
	seq uint32
	in  []byte
	out encoder
}

// socket is a netlink socket, or what a test puts in front of it.
type socket interface {
	send(b []byte) error
	// receive gives the length of the next datagram, which is cut off at that of b.
	receive(b []byte) (int, error)
	close()
}

type netlinkSocket struct{ fd int }

func (s netlinkSocket) send(b []byte) error {
	return unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

func (s netlinkSocket) receive(b []byte) (int, error) {
	n, _, err := unix.Recvfrom(s.fd, b, unix.MSG_TRUNC)
	return n, err
}

func (s netlinkSocket) close() { _ = unix.Close(s.fd) }

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("nftables: open netlink socket: %w", err)
	}
	c := &conn{socket: netlinkSocket{fd}, in: make([]byte, 1<<16)}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		c.close()
		return nil, fmt.Errorf("nftables: bind netlink socket: %w", err)
	}
	// A transaction is one send, whatever its size, and the kernel refuses what is larger than the send buffer. The forced
	// variants need CAP_NET_ADMIN in the first user namespace; elsewhere the usual limit applies to large Services only.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 64<<20) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 64<<20)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	// The answer is there when sendto returns. Should it not be, fail instead of waiting for ever.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
		c.close()
		return nil, fmt.Errorf("nftables: set timeout of netlink socket: %w", err)
	}
	return c, nil
}

// refusal is the kernel's answer to one message of a batch.
type refusal struct {
	// message is its index in the batch, or -1 when the kernel blames the batch as a whole.
	message int
	errno   unix.Errno
	text    string
}

func (r refusal) Error() string {
	if r.text == "" {
		return r.errno.Error()
	}
	return fmt.Sprintf("%v (%s)", r.errno, r.text)
}

func (r refusal) Unwrap() error { return r.errno }

// refusals are all messages that the kernel refused in one batch; it looks at all of them before it gives up.
type refusals []refusal

func (r refusals) Error() string {
	const most = 3
	var s []string
	for i := range r {
		if i == most {
			s = append(s, fmt.Sprintf("and %d more", len(r)-most))
			break
		}
		s = append(s, r[i].Error())
	}
	return strings.Join(s, "; ")
}

// Is tells whether the kernel gave this error number for any message.
func (r refusals) Is(target error) bool {
	for i := range r {
		if error(r[i].errno) == target {
			return true
		}
	}
	return false
}

// batch is one transaction: all of it comes into force at once, or nothing does.
type batch struct {
	encoder
	from []int // where each message starts
}

func subsystem(kind uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | kind }

// message starts the next message; finish it with end.
func (b *batch) message(kind uint16, flags uint16, family byte) {
	if len(b.b) == 0 {
		b.mark(unix.NFNL_MSG_BATCH_BEGIN)
	}
	b.from = append(b.from, len(b.b))
	b.begin(subsystem(kind), flags, family, 0)
}

func (b *batch) mark(kind uint16) {
	b.begin(kind, 0, unix.AF_UNSPEC, 0)
	binary.BigEndian.PutUint16(b.b[len(b.b)-2:], unix.NFNL_SUBSYS_NFTABLES)
	b.end()
}

// join puts the messages of another batch, which has not been committed, behind those of this one.
func (b *batch) join(o *batch) {
	first := o.from[0] // behind the mark of its beginning
	shift := len(b.b) - first
	b.b = append(b.b, o.b[first:]...)
	for _, at := range o.from {
		b.from = append(b.from, at+shift)
	}
}

func (b *batch) empty() bool { return len(b.from) == 0 }

// commit carries out the batch. When the kernel refused it, the error is of type refusals and nothing has changed.
func (c *conn) commit(b *batch) error {
	if b.empty() {
		return nil
	}
	last := b.from[len(b.from)-1]
	b.mark(unix.NFNL_MSG_BATCH_END)
	first := c.seq + 1
	for i, at := range b.from {
		binary.NativeEndian.PutUint32(b.b[at+8:], first+uint32(i))
	}
	c.seq += uint32(len(b.from))
	// One answer is enough to know that the kernel has finished; refusals come unasked.
	flags := binary.NativeEndian.Uint16(b.b[last+6:])
	binary.NativeEndian.PutUint16(b.b[last+6:], flags|unix.NLM_F_ACK)
	if err := c.send(b.b); err != nil {
		return fmt.Errorf("nftables: send %d bytes: %w", len(b.b), err)
	}
	var bad refusals
	for {
		m, err := c.next()
		if err != nil {
			return err
		}
		done := false
		for h, body := range messages(m) {
			if h.Type != unix.NLMSG_ERROR {
				continue
			}
			index := int(int32(h.Seq - first))
			if h.Seq == 0 {
				index = -1
			} else if index < 0 || index >= len(b.from) {
				continue // an answer to something older
			}
			r, failed := refused(h, body, index)
			if failed {
				bad = append(bad, r)
			}
			// Blamed as a whole, the batch may get no further answer; one that still comes is skipped by its number.
			done = done || index == len(b.from)-1 || index == -1 && failed
		}
		if done {
			break
		}
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}

func refused(h unix.NlMsghdr, body []byte, index int) (refusal, bool) {
	if len(body) < 4 {
		return refusal{}, false
	}
	errno := -int32(binary.NativeEndian.Uint32(body))
	if errno == 0 {
		return refusal{}, false
	}
	r := refusal{message: index, errno: unix.Errno(errno)}
	if h.Flags&unix.NLM_F_ACK_TLVS != 0 && len(body) >= 4+unix.SizeofNlMsghdr {
		r.text = strings.TrimRight(string(attr(body[4+unix.SizeofNlMsghdr:], unix.NLMSGERR_ATTR_MSG)), "\x00")
	}
	return r, true
}

func (c *conn) next() ([]byte, error) {
	for {
		n, err := c.receive(c.in)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, fmt.Errorf("nftables: receive: %w", err)
		case n > len(c.in):
			return nil, fmt.Errorf("nftables: receive: message of %d bytes: %w", n, os.ErrInvalid)
		}
		return c.in[:n], nil
	}
}

// messages yields the netlink messages of one datagram.
func messages(b []byte) func(yield func(unix.NlMsghdr, []byte) bool) {
	return func(yield func(unix.NlMsghdr, []byte) bool) {
		for len(b) >= unix.SizeofNlMsghdr {
			h := unix.NlMsghdr{
				Len: binary.NativeEndian.Uint32(b), Type: binary.NativeEndian.Uint16(b[4:]),
				Flags: binary.NativeEndian.Uint16(b[6:]), Seq: binary.NativeEndian.Uint32(b[8:]),
			}
			if h.Len < unix.SizeofNlMsghdr || int(h.Len) > len(b) {
				return
			}
			if !yield(h, b[unix.SizeofNlMsghdr:h.Len]) {
				return
			}
			b = b[min((int(h.Len)+3)&^3, len(b)):]
		}
	}
}

// errInterrupted says that a list changed while it was being read.
var errInterrupted = errors.New("nftables: list changed while it was read")

// get sends one request built by fill and gives the attributes of every answer to each. Flags are NLM_F_DUMP for a list and
// NLM_F_ACK for a single object.
func (c *conn) get(kind uint16, flags uint16, family byte, fill func(*encoder), each func(attributes []byte)) error {
	c.seq++
	c.out.b = c.out.b[:0]
	c.out.begin(subsystem(kind), flags, family, c.seq)
	if fill != nil {
		fill(&c.out)
	}
	c.out.end()
	if err := c.send(c.out.b); err != nil {
		return fmt.Errorf("nftables: send: %w", err)
	}
	torn := false
	for {
		m, err := c.next()
		if err != nil {
			return err
		}
		for h, body := range messages(m) {
			if h.Seq != c.seq {
				continue
			}
			torn = torn || h.Flags&unix.NLM_F_DUMP_INTR != 0
			switch h.Type {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				if r, failed := refused(h, body, -1); failed {
					return r
				}
				if torn {
					return errInterrupted
				}
				return nil
			default:
				if len(body) >= 4 {
					each(body[4:])
				}
			}
		}
	}
}

// generation is the number of the newest ruleset in the namespace. Every transaction of anybody is one more.
func (c *conn) generation() (gen uint32, err error) {
	err = c.get(unix.NFT_MSG_GETGEN, unix.NLM_F_ACK, unix.AF_UNSPEC, nil, func(a []byte) {
		if v := attr(a, unix.NFTA_GEN_ID); len(v) == 4 {
			gen = binary.BigEndian.Uint32(v)
		}
	})
	if err != nil {
		return 0, fmt.Errorf("nftables: read the generation: %w", err)
	}
	return gen, nil
}
