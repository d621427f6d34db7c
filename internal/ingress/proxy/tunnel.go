package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// upgradeOf gives the protocol that a request asks to switch to, or "" (RFC 9110 section 7.8). Only HTTP/1.1 can.
func upgradeOf(r *http.Request) string {
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 || len(r.Header["Upgrade"]) != 1 || !hasToken(r.Header["Connection"], "upgrade") {
		return ""
	}
	p := strings.TrimSpace(r.Header["Upgrade"][0])
	if strings.ContainsAny(p, ", \t") || strings.EqualFold(p, "h2c") {
		return "" // a choice of several, or HTTP/2 in the clear, would take the connection out of our hands
	}
	return p
}

// tunnel answers 101 and copies both ways until both sides are done.
func (s *Server) tunnel(w http.ResponseWriter, c *conn, res *http.Response) error {
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("taking over the client's connection: %w", err)
	}
	defer client.Close()
	release := s.tunnels.add(client, c.nc)
	defer release()
	_ = client.SetDeadline(time.Time{})
	_ = c.nc.SetDeadline(time.Time{})
	c.budget = unbounded

	h := http.Header{}
	copyHeader(h, res.Header)
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, res.Header["Upgrade"]
	h.Del("Content-Length")
	out := buffered.Writer
	out.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	if err := h.Write(out); err != nil {
		return fmt.Errorf("answering 101: %w", err)
	}
	out.WriteString("\r\n")
	if err := out.Flush(); err != nil {
		return fmt.Errorf("answering 101: %w", err)
	}

	done := make(chan struct{})
	go func() {
		defer close(done)
		relay(c.nc, buffered.Reader, client)
	}()
	relay(client, c.br, c.nc)
	<-done
	return nil
}

// relay copies from src, first what is buffered, to dst. The end of src becomes the end of dst and leaves the other direction
// open; a failure ends both.
func relay(dst net.Conn, buffered interface {
	io.Reader
	Buffered() int
}, src net.Conn) {
	_, err := io.CopyN(dst, buffered, int64(buffered.Buffered()))
	if err == nil {
		_, err = io.Copy(dst, src) // between two TCP sockets the kernel moves the bytes
	}
	half, ok := dst.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		_ = dst.Close()
		_ = src.Close()
	}
}
