package proxy

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// logged writes one record per request to the access log, after its end.
func (s *Server) logged(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		m := &meter{ResponseWriter: w}
		defer func() { // a request that is cut off is logged too
			if m.quiet {
				return
			}
			s.cfg.AccessLog.LogAttrs(r.Context(), slog.LevelInfo, "request",
				slog.String("client", r.RemoteAddr), slog.String("method", r.Method), slog.String("host", r.Host),
				slog.String("path", r.URL.Path), slog.String("proto", r.Proto), slog.Bool("tls", r.TLS != nil),
				slog.Int("code", m.code), slog.Int64("bytes", m.bytes), slog.Duration("took", time.Since(start)))
		}()
		next(m, r)
	}
}

// meter notes what was answered. Unwrap lets a http.ResponseController reach the writer below.
type meter struct {
	http.ResponseWriter
	code  int
	bytes int64
	quiet bool // its Ingress does not want it logged
}

func (m *meter) Unwrap() http.ResponseWriter { return m.ResponseWriter }

func (m *meter) WriteHeader(code int) {
	m.code = code
	m.ResponseWriter.WriteHeader(code)
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.ResponseWriter.Write(p)
	m.bytes += int64(n)
	return n, err
}

// Hijack is called only to answer 101.
func (m *meter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	m.code = http.StatusSwitchingProtocols
	return http.NewResponseController(m.ResponseWriter).Hijack()
}
