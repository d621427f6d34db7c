package proxy

import (
	"io"
	"net/http"
	"strings"
	"time"
)

const serverName = "fairway"

// copyHeader copies what an answer says end to end.
func copyHeader(dst, src http.Header) {
	connection := src["Connection"]
	for key, values := range src {
		if key != "Content-Length" && isHopByHop(key) || connection != nil && namedByConnection(connection, key) {
			continue
		}
		dst[key] = values
	}
}

// copyAnswer sends an answer to the client and tells whether the backend's connection is at its end, so that it may be used again.
// If the answer breaks off half-way the client's connection (or stream) is cut off, since only that tells it so.
func (s *Server) copyAnswer(w http.ResponseWriter, r *http.Request, p *passage, c *conn, res *http.Response) (complete bool) {
	h := w.Header()
	copyHeader(h, res.Header)
	if h["Server"] == nil {
		h["Server"] = []string{serverName}
	}
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // else net/http would guess one
	}
	p.answer(h, r)
	announced := len(res.Trailer)
	for key := range res.Trailer {
		h.Add("Trailer", key)
	}
	w.WriteHeader(res.StatusCode)
	if res.Body != http.NoBody {
		if !s.copyBody(w, r, p, c, res) {
			return false
		}
	}
	if len(res.Trailer) > 0 {
		// Flushed first, so that the answer is chunked and trailers have a place.
		_ = http.NewResponseController(w).Flush()
		for key, values := range res.Trailer {
			if announced != len(res.Trailer) {
				key = http.TrailerPrefix + key
			}
			h[key] = values
		}
	}
	return true
}

func (s *Server) copyBody(w http.ResponseWriter, r *http.Request, p *passage, c *conn, res *http.Response) bool {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	rc := http.NewResponseController(w)
	left := res.ContentLength // < 0: unknown
	slow := false             // a deadline is on the client's connection
	for first := true; ; first = false {
		if !first || c.br.Buffered() == 0 {
			// More is to come and may be long in coming: what there is must not wait for it, and neither side may stall for ever.
			now := time.Now()
			slow = true
			_ = rc.SetWriteDeadline(now.Add(s.cfg.StreamTimeout))
			_ = c.nc.SetReadDeadline(now.Add(p.limits.read))
			if rc.Flush() != nil {
				return false
			}
		}
		n, err := res.Body.Read(buf[:])
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return false
			}
			if left > 0 {
				left -= int64(n)
			}
		}
		if err == io.EOF || left == 0 && err == nil {
			break
		}
		if err != nil {
			s.log.Warn("answer broke off", "endpoint", c.ep.name, "host", r.Host, "path", r.URL.Path, "err", err)
			panic(http.ErrAbortHandler)
		}
	}
	if slow {
		_ = rc.SetWriteDeadline(time.Time{})
	}
	return true
}

// refuse answers a request that went nowhere: one line that says why, or the same as JSON to who prefers it.
func refuse(w http.ResponseWriter, r *http.Request, code int, why string) {
	clear(w.Header())
	writeRefusal(w, r, code, why)
}

// refuseAndClose ends the client's connection after the answer. In HTTP/2 a body ends with its stream, and nothing need be closed.
func (p *passage) refuseAndClose(w http.ResponseWriter, r *http.Request, code int, why string) {
	clear(w.Header())
	if r.ProtoMajor == 1 {
		w.Header()["Connection"] = []string{"close"}
	}
	p.decorate(w.Header(), r)
	writeRefusal(w, r, code, why)
}

func writeRefusal(w http.ResponseWriter, r *http.Request, code int, why string) {
	h := w.Header()
	h["Server"] = []string{serverName}
	h["Cache-Control"] = []string{"no-store"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	body := http.StatusText(code) + ": " + why + "\n"
	if prefersJSON(r) {
		h["Content-Type"] = []string{"application/json"}
		body = jsonAnswer(code, why)
	} else {
		h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	}
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, body) // the client may have gone
	}
}

func prefersJSON(r *http.Request) bool {
	for _, v := range r.Header["Accept"] {
		if strings.Contains(v, "application/json") || strings.Contains(v, "+json") {
			return true
		}
	}
	return false
}
