package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// subRequest marks, in a request's context, the question about another request, so that no question is asked about a question.
type subRequest struct{}

// authTimeout bounds one question.
const authTimeout = 30 * time.Second

// externalAuth asks another server about a request: 2xx admits it, 401 and 403 refuse it, and whatever else there is, an error too, is answered
// 500. The question has the request's headers and no body.
func (s *Server) externalAuth(w http.ResponseWriter, r *http.Request, p *passage) bool {
	if r.Context().Value(subRequest{}) != nil {
		p.refuse(w, r, http.StatusInternalServerError, "the server that is asked about requests asks about its own")
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), subRequest{}, true), authTimeout)
	defer cancel()
	q, err := p.question(ctx, r)
	if err != nil {
		p.refuse(w, r, http.StatusInternalServerError, "the URL that is to be asked is none")
		return false
	}
	x := p.policy.External
	var code int
	var h http.Header
	if x.Host == "$host" {
		code, h, err = s.askOurselves(q, r)
	} else {
		code, h, err = s.ask(q, p)
	}
	if err != nil {
		if r.Context().Err() != nil {
			panic(http.ErrAbortHandler)
		}
		s.log.Warn("authentication failed", "ingress", p.route.Ingress.String(), "url", q.URL.Redacted(), "err", err)
	}
	if code/100 != 2 || x.AlwaysSetCookie {
		p.cookies = h["Set-Cookie"]
	}
	switch {
	case code >= 200 && code < 300:
		p.cookies = h["Set-Cookie"]
		for _, name := range x.ResponseHeaders {
			p.replace(name, h[name]...)
		}
		return true
	case code == http.StatusUnauthorized && x.SignIn != nil:
		p.sendTo(w, r, http.StatusFound, p.signIn(r))
	case code == http.StatusUnauthorized:
		clear(w.Header())
		p.decorate(w.Header(), r)
		if v := h["Www-Authenticate"]; v != nil {
			w.Header()["Www-Authenticate"] = v
		}
		writeRefusal(w, r, code, "authentication is required")
	case code == http.StatusForbidden:
		p.refuse(w, r, code, "the authentication does not admit this request")
	default:
		p.refuse(w, r, http.StatusInternalServerError, "the authentication gave no answer that can be used")
	}
	return false
}

// signIn is the URL where a person can log in, with the way back.
func (p *passage) signIn(r *http.Request) string {
	x := p.policy.External
	to := x.SignIn.Expand(p.variables(r))
	if u, err := url.Parse(to); err == nil && u.Query().Has(x.RedirectParam) {
		return to
	}
	sep := "?"
	if strings.Contains(to, "?") {
		sep = "&"
	}
	return to + sep + x.RedirectParam + "=" + p.scheme() + "://" + p.host + p.port(r) + url.QueryEscape(target(r))
}

// question makes the request that is asked.
func (p *passage) question(ctx context.Context, r *http.Request) (*http.Request, error) {
	x := p.policy.External
	method := x.Method
	if method == "" {
		method = http.MethodGet
	}
	q, err := http.NewRequestWithContext(ctx, method, x.URL.Expand(p.variables(r)), http.NoBody)
	if err != nil {
		return nil, err
	}
	if q.URL.User != nil {
		return nil, errors.New("it has a user")
	}
	connection := r.Header["Connection"]
	for key, values := range r.Header {
		if isHopByHop(key) || claimsOrigin(key) || key == "Expect" || key == "Content-Type" || connection != nil && namedByConnection(connection, key) {
			continue
		}
		q.Header[key] = values
	}
	q.Header["X-Original-Url"] = []string{p.scheme() + "://" + p.host + p.port(r) + target(r)}
	q.Header["X-Original-Method"] = []string{r.Method}
	q.Header["X-Sent-From"] = []string{serverName}
	q.Header["X-Real-Ip"] = []string{p.client.String()}
	q.Header["X-Forwarded-For"] = []string{p.client.String()}
	q.Header["X-Forwarded-Proto"] = []string{p.scheme()}
	q.Header["X-Forwarded-Host"] = []string{p.host}
	q.Header["X-Forwarded-Method"] = []string{r.Method}
	q.Header["X-Forwarded-Uri"] = []string{target(r)}
	back := target(r)
	if x.RequestRedirect != nil {
		back = x.RequestRedirect.Expand(p.variables(r))
	}
	q.Header["X-Auth-Request-Redirect"] = []string{back}
	for _, h := range x.Headers {
		q.Header[h.Name] = []string{h.Value}
	}
	return q, nil
}

// ask sends the question to another server: to an endpoint of a Service, as the routes have them, or to a host that the class admits.
func (s *Server) ask(q *http.Request, p *passage) (int, http.Header, error) {
	if a := p.route.Aux; a != nil && a.Auth >= 0 {
		b := p.routing.backends[a.Auth]
		set := b.set.Load()
		var been attempts
		ep := b.pick(set, &been, time.Now())
		if ep == nil {
			return 0, nil, fmt.Errorf("service %s has no ready endpoint", b.ref.Service)
		}
		q = q.WithContext(context.WithValue(q.Context(), dialTo{}, ep.name))
		// The pool of http.Transport is by host: that of the endpoint, so that connections end with it.
		q.Host = q.URL.Host
		if q.URL.Scheme == "http" {
			q.URL.Host = ep.name
		}
	}
	res, err := s.outside.RoundTrip(q)
	if err != nil {
		return 0, nil, err
	}
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // a short rest is read, so that the connection can be used again
	_ = res.Body.Close()
	return res.StatusCode, res.Header, nil
}

// dialTo holds, in a question's context, the endpoint that is dialled in place of its URL's host.
type dialTo struct{}

// newOutside makes the client for hosts that are not endpoints of a route. It follows no redirect and asks no proxy.
func newOutside(dial time.Duration) *http.Transport {
	d := net.Dialer{Timeout: dial}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if to, ok := ctx.Value(dialTo{}).(string); ok {
				addr = to
			}
			return d.DialContext(ctx, network, addr)
		},
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: authTimeout, MaxResponseHeaderBytes: 32 << 10, DisableCompression: true,
	}
}

// askOurselves answers a question about a host of ours by the routes themselves, as if the client had asked.
func (s *Server) askOurselves(q *http.Request, r *http.Request) (int, http.Header, error) {
	q.Host = r.Host
	q.RemoteAddr, q.TLS, q.RequestURI = r.RemoteAddr, r.TLS, q.URL.RequestURI()
	q.Proto, q.ProtoMajor, q.ProtoMinor = "HTTP/1.1", 1, 1
	rec := &discarder{h: http.Header{}}
	err := func() (err error) {
		defer func() {
			if v := recover(); v == http.ErrAbortHandler {
				err = errors.New("its answer broke off")
			} else if v != nil {
				panic(v)
			}
		}()
		s.serve(rec, q)
		return nil
	}()
	return rec.code, rec.h, err
}

// discarder keeps the head of an answer.
type discarder struct {
	h    http.Header
	code int
}

func (d *discarder) Header() http.Header { return d.h }

func (d *discarder) Write(p []byte) (int, error) {
	if d.code == 0 {
		d.code = http.StatusOK
	}
	return len(p), nil
}

func (d *discarder) WriteHeader(code int) {
	if code >= 200 && d.code == 0 {
		d.code = code
	}
}

// Flush has nothing to do; without it an answer that streams would be taken for one that cannot.
func (d *discarder) Flush() {}
