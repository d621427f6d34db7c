package proxy

import (
	"bufio"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// origin is who a request comes from, as far as the backend is to be told.
type origin struct {
	addr    netip.Addr // the peer
	client  netip.Addr // the peer, or who a trusted peer says that its own client is
	tls     bool
	secure  bool // TLS, here or, as a trusted peer says, before it
	trusted bool // what the client says about its own client counts
}

func (s *Server) originOf(r *http.Request) origin {
	o := origin{tls: r.TLS != nil}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		o.addr = ap.Addr().Unmap().WithZone("")
		o.trusted = contains(s.cfg.TrustedCIDRs, o.addr)
	}
	o.client, o.secure = o.addr, o.tls
	if o.trusted {
		o.client = s.clientOf(r, o.addr)
		if v := r.Header["X-Forwarded-Proto"]; len(v) == 1 {
			o.secure = strings.EqualFold(v[0], "https")
		}
	}
	return o
}

// clientOf reads X-Forwarded-For from its end: the first address that is not a trusted proxy's is the client's. What is no address ends the
// search, since everything before it may be made up.
func (s *Server) clientOf(r *http.Request, client netip.Addr) netip.Addr {
	values := r.Header["X-Forwarded-For"]
	for i := len(values) - 1; i >= 0; i-- {
		rest := values[i]
		for rest != "" {
			var one string
			if j := strings.LastIndexByte(rest, ','); j >= 0 {
				rest, one = rest[:j], rest[j+1:]
			} else {
				rest, one = "", rest
			}
			a, err := netip.ParseAddr(strings.TrimSpace(one))
			if err != nil {
				return client
			}
			client = a.Unmap().WithZone("")
			if !contains(s.cfg.TrustedCIDRs, client) {
				return client
			}
		}
	}
	return client
}

// writeHead writes the request head for the backend. Every part of it was parsed first: the method is a token, the target and the
// Host have been checked, and net/http lets no header through that could end its line.
func writeHead(w *bufio.Writer, r *http.Request, p *passage, body *requestBody, upgrade string) {
	w.WriteString(r.Method)
	w.WriteByte(' ')
	if p.uri != "" {
		w.WriteString(p.uri)
	} else {
		w.WriteString(target(r))
	}
	w.WriteString(" HTTP/1.1\r\nHost: ")
	if p.authority != "" {
		w.WriteString(p.authority)
	} else {
		w.WriteString(r.Host)
	}
	w.WriteString("\r\n")
	connection := r.Header["Connection"]
	for key, values := range r.Header {
		if isHopByHop(key) || claimsOrigin(key) || key == "Expect" || p.replaced(key) || connection != nil && namedByConnection(connection, key) {
			continue
		}
		writeField(w, key, values)
	}
	for key, values := range p.set {
		writeField(w, key, values)
	}
	writeOrigin(w, r, p)
	if hasToken(r.Header["Te"], "trailers") {
		w.WriteString("Te: trailers\r\n")
	}
	if upgrade != "" {
		w.WriteString("Connection: Upgrade\r\nUpgrade: ")
		w.WriteString(upgrade)
		w.WriteString("\r\n")
	}
	body.writeFraming(w, r)
	w.WriteString("\r\n")
}

func writeField(w *bufio.Writer, key string, values []string) {
	for _, v := range values {
		w.WriteString(key)
		w.WriteString(": ")
		w.WriteString(v)
		w.WriteString("\r\n")
	}
}

// writeOrigin writes the X-Forwarded headers: extended for a trusted client, made anew for any other.
func writeOrigin(w *bufio.Writer, r *http.Request, o *passage) {
	proto, host := "http", r.Host
	if o.tls {
		proto = "https"
	}
	w.WriteString("X-Forwarded-For: ")
	if o.trusted {
		for key, values := range r.Header {
			switch {
			case key == "X-Forwarded-For":
				w.WriteString(strings.Join(values, ", "))
				w.WriteString(", ")
			case key == "X-Forwarded-Proto" && len(values) == 1:
				proto = values[0]
			case key == "X-Forwarded-Host" && len(values) == 1:
				host = values[0]
			}
		}
	}
	var b [48]byte
	w.Write(o.addr.AppendTo(b[:0]))
	w.WriteString("\r\nX-Forwarded-Proto: ")
	w.WriteString(proto)
	w.WriteString("\r\nX-Forwarded-Host: ")
	w.WriteString(host)
	w.WriteString("\r\n")
	if !o.trusted {
		return
	}
	for key, values := range r.Header { // whatever else a trusted proxy says goes through
		if claimsOrigin(key) && !o.replaced(key) && key != "Proxy" && key != "X-Forwarded-For" && key != "X-Forwarded-Proto" && key != "X-Forwarded-Host" {
			writeField(w, key, values)
		}
	}
}

// target gives the request target: as received when it is in origin form and plain, else written anew from the parsed URL.
func target(r *http.Request) string {
	s := r.RequestURI
	if s == "" || s[0] != '/' {
		return r.URL.RequestURI()
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return r.URL.RequestURI()
		}
	}
	return s
}

// writeFraming writes the one header that says how long the body is, if there is one.
func (b *requestBody) writeFraming(w *bufio.Writer, r *http.Request) {
	switch {
	case b.length > 0, b.length == 0 && (r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch):
		var n [20]byte
		w.WriteString("Content-Length: ")
		w.Write(strconv.AppendInt(n[:0], b.length, 10))
		w.WriteString("\r\n")
	case b.length < 0:
		w.WriteString("Transfer-Encoding: chunked\r\n")
		for key := range r.Trailer {
			w.WriteString("Trailer: ")
			w.WriteString(key)
			w.WriteString("\r\n")
		}
	}
	if b.expect {
		w.WriteString("Expect: 100-continue\r\n")
	}
}
