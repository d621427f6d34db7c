package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// replayLimit is the longest body that is read whole before it is sent, so that it can be sent again.
const replayLimit = 64 << 10

const copySize = 32 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// requestBody is what follows the request head.
type requestBody struct {
	length int64  // -1: unknown, sent in chunks
	whole  []byte // all of it, when it is at hand
	expect bool   // the client waits for 100 Continue
	src    io.Reader
}

// errClient marks failures that are the client's own.
type errClient struct {
	code int
	err  error
}

func (e *errClient) Error() string { return e.err.Error() }

// readBody prepares the body of a request: reads it whole if it is short, else leaves it to stream.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, p *passage, b *requestBody) error {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	b.length, b.src = r.ContentLength, r.Body
	if limit := p.limits.body; limit > 0 {
		if b.length > limit {
			return &errClient{http.StatusRequestEntityTooLarge, fmt.Errorf("the body has %d bytes, %d are allowed", b.length, limit)}
		}
		b.src = http.MaxBytesReader(w, r.Body, limit)
	}
	if hasToken(r.Header["Expect"], "100-continue") {
		b.expect = true
		return nil
	}
	if b.length < 0 || b.length > replayLimit {
		return nil
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(s.cfg.StreamTimeout))
	b.whole = make([]byte, b.length)
	if _, err := io.ReadFull(b.src, b.whole); err != nil {
		return clientBodyError(err)
	}
	_ = rc.SetReadDeadline(time.Time{})
	return nil
}

func clientBodyError(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return &errClient{http.StatusRequestEntityTooLarge, fmt.Errorf("the body is longer than the %d bytes allowed", tooLarge.Limit)}
	}
	return &errClient{http.StatusBadRequest, fmt.Errorf("reading the request body: %w", err)}
}

// streams tells whether the body must be copied from the client while it arrives.
func (b *requestBody) streams() bool { return b.src != nil && b.whole == nil }

// upload is a body on its way to the backend.
type upload struct {
	done chan struct{}
	// err, valid after done, is nil when all of the body was sent; an *errClient when the client failed to deliver it.
	err error
}

func (s *Server) startUpload(w http.ResponseWriter, r *http.Request, p *passage, b *requestBody, c *conn) *upload {
	u := &upload{done: make(chan struct{})}
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // an answer may begin before the request is over; where it cannot, it waits
	go func() {
		defer close(u.done)
		u.err = s.send(rc, r, p, b, c)
		if e := (*errClient)(nil); errors.As(u.err, &e) {
			c.close() // the backend must not take a part for the whole
		}
	}()
	return u
}

// finished tells whether all of the body has been sent. A nil upload, one that was never begun, has not.
func (u *upload) finished() bool {
	if u == nil {
		return false
	}
	select {
	case <-u.done:
		return u.err == nil
	default:
		return false
	}
}

// stop ends an upload that is not wanted any more and waits for it. The client's connection cannot be used again, since what is left of the body
// stands in it.
func (u *upload) stop(w http.ResponseWriter) {
	select {
	case <-u.done:
		return
	default:
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	<-u.done
}

func (s *Server) send(rc *http.ResponseController, r *http.Request, p *passage, b *requestBody, c *conn) error {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	var total int64
	for {
		_ = rc.SetReadDeadline(time.Now().Add(s.cfg.StreamTimeout))
		n, err := b.src.Read(buf[:])
		if n > 0 {
			total += int64(n)
			_ = c.nc.SetWriteDeadline(time.Now().Add(p.limits.send))
			if werr := writePart(c.bw, buf[:n], b.length < 0); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return clientBodyError(err)
		}
	}
	_ = rc.SetReadDeadline(time.Time{})
	if b.length >= 0 {
		if total != b.length { // net/http promises this never happens; the backend's framing must not depend on it
			return clientBodyError(io.ErrUnexpectedEOF)
		}
		return nil
	}
	c.bw.WriteString("0\r\n")
	for key, values := range r.Trailer {
		if !isHopByHop(key) && !claimsOrigin(key) {
			writeField(c.bw, key, values)
		}
	}
	c.bw.WriteString("\r\n")
	return c.bw.Flush()
}

// writePart sends what has arrived at once: a client that streams waits for the effect of each part.
func writePart(w *bufio.Writer, p []byte, chunked bool) error {
	if chunked {
		var n [20]byte
		w.Write(strconv.AppendInt(n[:0], int64(len(p)), 16))
		w.WriteString("\r\n")
	}
	w.Write(p)
	if chunked {
		w.WriteString("\r\n")
	}
	return w.Flush()
}
