package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// verdict is how one attempt ended.
type verdict uint8

const (
	answered  verdict = iota // the client has its answer
	again                    // nothing reached the application, or repeating is harmless: try another connection
	failed                   // the backend failed; the client can be told
	cancelled                // the client has gone
	replaced                 // the endpoint has answered, and another Service is to answer in its place
)

// exchange sends the request over c and the answer back to the client. On failed, err says why; c is given back to its pool or
// closed in every case.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request, p *passage, b *requestBody, c *conn) (v verdict, err error) {
	stop := context.AfterFunc(r.Context(), c.close)
	reusable := false
	var up *upload
	defer func() { // also when copying the answer panics to cut the client off
		if !stop() || !reusable {
			c.close()
			if up != nil {
				up.stop(w)
			}
			return
		}
		c.ep.put(c, time.Now())
	}()

	upgrade := upgradeOf(r)
	writeHead(c.bw, r, p, b, upgrade)
	if b.whole != nil {
		c.bw.Write(b.whole)
	}
	werr := c.bw.Flush()
	c.ep.written()
	if werr != nil && c.sent == 0 {
		return again, werr
	}
	// A write may fail because the backend has answered early and closed; its answer is worth more than the failure.
	c.budget = s.cfg.MaxHeaderBytes
	if werr == nil && b.streams() {
		wait := b.expect
		if wait {
			wait = s.awaitContinue(p, c)
		}
		if !wait {
			up = s.startUpload(w, r, p, b, c)
		}
	}
	res, err := s.readHead(w, r, c)
	if err != nil {
		return s.classify(r, b, c, up, werr, err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		if upgrade == "" || !hasToken(res.Header["Upgrade"], upgrade) {
			return failed, fmt.Errorf("it switched protocols to %q, which nobody asked for", res.Header.Get("Upgrade"))
		}
		if !stop() {
			return cancelled, r.Context().Err()
		}
		return answered, s.tunnel(w, c, res)
	}
	c.budget = unbounded
	if b.streams() && r.ProtoMajor == 1 && !up.finished() {
		// Answered before the request is over. If the rest of the body is not taken, net/http would read it as the next request.
		w.Header()["Connection"] = []string{"close"}
	}
	if p.intercepts(res.StatusCode) {
		reusable = discard(res) && !res.Close && werr == nil && (!b.streams() || up.finished()) && c.br.Buffered() == 0
		p.replacedCode = res.StatusCode
		return replaced, nil
	}
	complete := s.copyAnswer(w, r, p, c, res)
	reusable = complete && !res.Close && werr == nil && (!b.streams() || up.finished()) && c.br.Buffered() == 0
	return answered, nil
}

// classify says what a failure to read the head of an answer means.
func (s *Server) classify(r *http.Request, b *requestBody, c *conn, up *upload, werr, err error) (verdict, error) {
	if r.Context().Err() != nil {
		return cancelled, r.Context().Err()
	}
	if up != nil && errors.Is(err, net.ErrClosed) { // closed by the upload, whose failure is the cause
		<-up.done
		if e := (*errClient)(nil); errors.As(up.err, &e) {
			return failed, e
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return failed, errSlow
	}
	// Not a byte of an answer, and the body still at hand: whole, or not begun.
	if c.budget == s.cfg.MaxHeaderBytes && up == nil && (isIdempotent(r) || err == io.ErrUnexpectedEOF && c.unread()) {
		return again, err
	}
	if werr != nil {
		err = werr
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = errors.New("it closed the connection without an answer")
	}
	return failed, err
}

var errSlow = errors.New("no answer within the time allowed")

// isIdempotent follows RFC 9110 section 9.2.2.
func isIdempotent(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodTrace:
		return true
	}
	return r.Header["Idempotency-Key"] != nil
}

// continueTimeout is how long a backend may ignore Expect before it gets the body all the same (RFC 9110 section 10.1.1).
const continueTimeout = time.Second

// awaitContinue waits for the backend's first word. true means that it will not be "continue": an answer has begun, and the body
// must not be sent.
func (s *Server) awaitContinue(p *passage, c *conn) (refused bool) {
	_ = c.nc.SetReadDeadline(time.Now().Add(continueTimeout))
	line, err := c.br.Peek(len("HTTP/1.1 100"))
	_ = c.nc.SetReadDeadline(time.Now().Add(p.limits.response))
	if err != nil {
		return !errors.Is(err, os.ErrDeadlineExceeded)
	}
	return line[len("HTTP/1.1 ")] != '1'
}

// maxInformational bounds the 1xx answers before the real one.
const maxInformational = 16

// readHead reads the head of the final answer and passes on the informational ones before it. 100 is made by net/http for the
// client when its body is first read.
func (s *Server) readHead(w http.ResponseWriter, r *http.Request, c *conn) (*http.Response, error) {
	for range maxInformational {
		res, err := http.ReadResponse(c.br, r)
		if err != nil {
			return nil, err
		}
		switch code := res.StatusCode; {
		case code == http.StatusContinue:
		case code == http.StatusSwitchingProtocols, code >= 200 && code <= 999:
			return res, nil
		case code < 100:
			return nil, fmt.Errorf("its status %d is none", code)
		default:
			h := w.Header()
			copyHeader(h, res.Header)
			w.WriteHeader(code)
			clear(h)
		}
	}
	return nil, errors.New("it sent informational answers without end")
}
