package proxy

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"fairway.dev/fairway/internal/ingress/policy"
)

// intercepts tells whether another Service answers in place of an endpoint's answer of that code.
func (p *passage) intercepts(code int) bool {
	return len(p.policy.Errors) > 0 && slices.Contains(p.policy.Errors, code) && p.errorBackend(nil) != nil
}

// maxDiscarded is how much of an answer that nobody gets is read to keep its connection, in bytes.
const maxDiscarded = 64 << 10

// discard reads the rest of an answer and tells whether it has come to its end.
func discard(res *http.Response) (complete bool) {
	n, err := io.CopyN(io.Discard, res.Body, maxDiscarded+1)
	return err == io.EOF && n <= maxDiscarded
}

// errorPage lets the Service for errors answer: it is told what happened, and its answer is the client's, with its code. Whether the request may pass has
// been decided before; the page is no way around it.
func (s *Server) errorPage(w http.ResponseWriter, r *http.Request, p *passage, uploading bool, code int) {
	own, pol := *p, *p.policy
	pol.Errors, pol.Location, pol.CookieDomain, pol.CookiePath = nil, nil, nil, nil
	own.policy, own.uri, own.set = &pol, "/", nil
	ref := p.routing.table.Backends[p.route.Backend].Ref
	port := ref.PortName
	if ref.PortNumber != 0 {
		port = strconv.Itoa(int(ref.PortNumber))
	}
	accept, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	for _, h := range []policy.Header{
		{Name: "X-Code", Value: strconv.Itoa(code)}, {Name: "X-Format", Value: strings.TrimSpace(accept)}, {Name: "X-Original-Uri", Value: target(r)},
		{Name: "X-Namespace", Value: p.route.Ingress.Namespace}, {Name: "X-Ingress-Name", Value: p.route.Ingress.Name},
		{Name: "X-Service-Name", Value: ref.Service.Name}, {Name: "X-Service-Port", Value: port},
	} {
		own.replace(h.Name, h.Value)
	}
	own.replace("Authorization")
	ctx := r.Context()
	if uploading {
		// What is left of the upload has been told to end, which net/http takes for the end of the client.
		ctx = context.WithoutCancel(ctx)
	}
	question := *r.WithContext(ctx)
	question.Method, question.Body, question.ContentLength, question.Trailer = http.MethodGet, http.NoBody, 0, nil
	if r.Method == http.MethodHead {
		question.Method = http.MethodHead
	}
	if !s.forward(w, &question, &own, own.errorBackend(nil), &requestBody{}) {
		own.refuse(w, r, http.StatusServiceUnavailable, "the Service for errors has just gone")
	}
}
