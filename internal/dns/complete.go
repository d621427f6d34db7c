package dns

import (
	"context"
	"net/netip"

	"fairway.dev/fairway/internal/dns/wire"
)

// A Pod's resolver walks a search path (resolv.conf(5) as the kubelet writes it): NAMESPACE.svc.DOMAIN, svc.DOMAIN, DOMAIN, then the host's own. A
// name of the outside is thus denied three times before it is found. Where search completion is on, the first denied question is answered with
// what the walk would have found in the end: an alias from the name that was asked to the one that exists, and its records.

// completable tells whether a denied question may be the first step of such a walk: addresses of a name below NAMESPACE.svc.DOMAIN, where something
// is in front of that. Whether the namespace is the client's own is seen later.
func (s *Server) completable(w *scratch) bool {
	return w.q.Type == wire.TypeA || w.q.Type == wire.TypeAAAA
}

// complete answers a denied question by the rest of its client's search path; nil if that finds nothing, or the client or the question is not of that
// kind. Both families are decided by which name exists, not by which has the type that was asked for, so that they cannot part.
func (s *Server) complete(ctx context.Context, w *scratch, p *plan, client netip.Addr, limit int) []byte {
	if !s.completable(w) || !client.IsValid() {
		return nil
	}
	space := s.zone.NamespaceOf(client.Unmap())
	if space == "" {
		return nil
	}
	domain, err := wire.EncodeName(nil, s.zone.Domain())
	if err != nil {
		return nil
	}
	svc := append(wire.AppendLabel(nil, "svc"), domain...)
	first := append(wire.AppendLabel(nil, space), svc...)
	name := w.q.Lower()
	if len(name) <= len(first) || !isBelow(name, first) {
		return nil
	}
	rest := name[:len(name)-len(first)]
	for _, suffix := range append([][]byte{svc, domain}, append(p.search, []byte{0})...) {
		if len(rest)+len(suffix) > wire.MaxName {
			continue
		}
		candidate := append(append([]byte(nil), rest...), suffix...)
		inner := &scratch{}
		if code, ok := setName(&inner.q, &w.q, candidate); !ok || code != wire.NoError {
			continue
		}
		reply := s.respond(ctx, inner, p, netip.Addr{}, wire.MaxMessage, 1)
		switch wire.ResponseCode(reply) {
		case wire.NoError:
			return s.completed(w, inner, reply, candidate, limit)
		case wire.NameError:
		default:
			return nil // then the client walks by itself, and meets the same
		}
	}
	return nil
}

// completed puts an alias from the name that was asked in front of the answer for the name that was found.
func (s *Server) completed(w, inner *scratch, reply, found []byte, limit int) []byte {
	m, err := wire.ParseMessage(reply)
	if err != nil {
		return nil
	}
	ttl := uint32(searchTTL)
	for _, r := range m.Sections[wire.Answer] {
		ttl = min(ttl, r.TTL)
	}
	alias := wire.Record{Owner: w.q.Name, Type: wire.TypeCNAME, Class: wire.ClassIN, TTL: ttl, Data: found}
	m.Sections[wire.Answer] = append([]wire.Record{alias}, m.Sections[wire.Answer]...)
	w.origin = inner.origin
	body := m.Pack(w.q.Name)
	return w.q.Replay(nil, limit, &body, wire.Aged{Rcode: m.Rcode, Truncated: m.Truncated})
}

// searchTTL is the longest TTL of such an alias, in seconds: a Service of the name that was asked may come.
const searchTTL = 5
