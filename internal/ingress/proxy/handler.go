package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"fairway.dev/fairway/internal/ingress/compile"
)

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		// CONNECT would make this an open proxy; TRACE would show a page's script the headers that browsers hide from it.
		w.Header()["Allow"] = nil
		refuse(w, r, http.StatusMethodNotAllowed, r.Method+" is not served")
		return
	}
	host, ok := compile.CanonicalHost(r.Host)
	if !ok {
		refuse(w, r, http.StatusBadRequest, "the Host header is not a host")
		return
	}
	path, err := compile.CanonicalPath(r.URL)
	if err != nil {
		refuse(w, r, http.StatusBadRequest, err.Error())
		return
	}
	body := requestBody{}
	prepared := false
	var p *passage
	defer func() {
		if p != nil && p.release != nil {
			p.release()
		}
	}()
	for range maxReroutes {
		rt := s.routing.Load()
		route, miss := rt.table.Find(host, path)
		switch {
		case miss == compile.NoHost:
			refuse(w, r, http.StatusNotFound, fmt.Sprintf("no Ingress rule is for host %q", host))
			return
		case miss == compile.NoPath:
			refuse(w, r, http.StatusNotFound, fmt.Sprintf("no path of the Ingress rules for host %q matches", host))
			return
		case route.Refused != "":
			refuse(w, r, http.StatusServiceUnavailable, fmt.Sprintf("ingress %s: %s", route.Ingress, route.Refused))
			return
		}
		if p == nil || p.route != route { // also when it is routed again to another rule, which may admit others
			if p != nil && p.release != nil {
				p.release()
			}
			p = s.begin(r, rt, route, host, path)
			if route.Policy != nil && !s.admit(w, r, p) {
				return
			}
		}
		p.routing = rt
		if route.Backend < 0 { // it only redirects, and has just been told not to
			p.refuse(w, r, http.StatusServiceUnavailable, "the rule has no backend")
			return
		}
		if !prepared {
			prepared = true
			if err := s.readBody(w, r, p, &body); err != nil {
				s.fail(w, r, p, nil, &body, err)
				return
			}
		}
		if s.forward(w, r, p, p.backend(r), &body) {
			return
		}
	}
	refuse(w, r, http.StatusServiceUnavailable, "the routes changed faster than the request could follow")
}

// maxReroutes bounds how often one request is routed again because its endpoints left while it was on its way.
const maxReroutes = 8

// maxFresh bounds the new connections that one request may end without an answer: a request that kills whoever reads it must not go
// round all endpoints.
const maxFresh = 2

// forward tries the request on the endpoints of b until one answers. false means that the endpoints have been taken out of use
// and nothing was sent: route again.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, p *passage, b *backend, body *requestBody) bool {
	set := b.set.Load()
	if len(set.endpoints) == 0 {
		why := set.problem
		if why == "" {
			why = fmt.Sprintf("service %s has no ready endpoint", b.ref.Service)
		}
		if e := p.errorBackend(b); e != nil {
			return s.forward(w, r, p, e, body)
		}
		p.refuse(w, r, http.StatusServiceUnavailable, why)
		return true
	}
	var been attempts
	repeats, fresh := 0, 0
	var lastErr error
	for {
		now := time.Now()
		ep := b.pick(set, &been, now)
		if ep == nil {
			s.fail(w, r, p, b, body, lastErr)
			return true
		}
		c, err := ep.get(r.Context(), p.limits.dial, now.Add(p.limits.response))
		switch {
		case err == errGone:
			return false
		case err != nil && r.Context().Err() != nil:
			panic(http.ErrAbortHandler)
		case err != nil:
			ep.failed(now)
			been.add(ep)
			lastErr = fmt.Errorf("connecting to %s: %w", ep.name, err)
			s.log.Debug("endpoint refused a connection", "service", b.ref.Service.String(), "endpoint", ep.name, "err", err)
			continue
		}
		v, err := s.exchange(w, r, p, body, c)
		switch v {
		case answered:
			if err != nil {
				s.log.Debug("upgraded connection ended", "endpoint", ep.name, "err", err)
			}
			return true
		case replaced:
			s.errorPage(w, r, p, body.streams(), p.replacedCode)
			return true
		case cancelled:
			// The client has gone, or has at least closed its sending side, which net/http takes for the same. Returning would
			// tell it 200.
			panic(http.ErrAbortHandler)
		case again:
			lastErr = fmt.Errorf("%s: %w", ep.name, err)
			if c.reused {
				// One dead connection says that the pool is dead with it; the endpoint itself may be well again.
				ep.drop()
			} else {
				fresh++
			}
			if repeats++; repeats > 1 || !c.reused {
				been.add(ep)
			}
			if fresh < maxFresh {
				continue
			}
		}
		s.fail(w, r, p, b, body, fmt.Errorf("%s: %w", ep.name, err))
		return true
	}
}

// fail answers for a request that found no answer. The endpoint's address is for the log, not for the client.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, p *passage, b *backend, body *requestBody, err error) {
	if e := (*errClient)(nil); errors.As(err, &e) {
		p.refuseAndClose(w, r, e.code, e.Error()) // what is left of the body must not be taken for the next request
		return
	}
	code, why := http.StatusBadGateway, "no endpoint of service %s gave an answer"
	if errors.Is(err, errSlow) {
		code, why = http.StatusGatewayTimeout, "service %s gave no answer within the time allowed"
	}
	s.log.Warn("request failed", "service", b.ref.Service.String(), "method", r.Method, "host", r.Host, "path", r.URL.Path,
		"code", code, "err", err)
	if body.streams() {
		p.refuseAndClose(w, r, code, fmt.Sprintf(why, b.ref.Service))
		return
	}
	p.refuse(w, r, code, fmt.Sprintf(why, b.ref.Service))
}

func jsonAnswer(code int, why string) string {
	out, err := json.Marshal(struct {
		Code    int    `json:"code"`
		Status  string `json:"status"`
		Message string `json:"message"`
	}{code, http.StatusText(code), why})
	if err != nil {
		return "{}" // cannot happen: two strings and a number
	}
	return string(out) + "\n"
}
