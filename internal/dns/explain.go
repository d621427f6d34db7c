package dns

import (
	"fmt"
	"strings"

	"fairway.dev/fairway/internal/dns/forward"
	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/dns/zone"
)

// Explanation says what stands behind the answer to a question: for names of the cluster which object, for others who is asked.
type Explanation struct {
	// Place is what answers: cluster, hosts, a zone, forward, refused.
	Place string `json:"place"`
	zone.Explanation
}

// Explain says why a name, given with dots, is answered as it is. It asks nobody, and may be called at any time.
func (s *Server) Explain(name string, t wire.Type) Explanation {
	encoded, err := wire.EncodeName(nil, name)
	if err != nil {
		return Explanation{"refused", zone.Explanation{Reason: zone.NoSuchName, Message: err.Error() + "."}}
	}
	p := s.plan.Load()
	note := ""
	if rw, ok := p.rewrites.find(encoded); ok {
		encoded = rw.apply(encoded)
		note = fmt.Sprintf("The configuration rewrites the name: %s is looked up. ", wire.NameString(encoded))
	}
	e := s.explain(p, encoded, t)
	e.Message = note + e.Message
	return e
}

func (s *Server) explain(p *plan, name []byte, t wire.Type) Explanation {
	other := func(place, format string, args ...any) Explanation {
		return Explanation{place, zone.Explanation{Reason: zone.NotOfTheCluster, Message: fmt.Sprintf(format, args...)}}
	}
	var q wire.Query
	var r wire.Reply
	if _, ok := q.Parse(wire.AppendQuery(nil, 0, name, t)); !ok {
		return other("refused", "This is no question.")
	}
	r.Start(&q, nil, wire.MaxMessage)
	if p.hosts != nil && p.hosts.Answer(&q, &r) {
		return other("hosts", "The configuration's hosts answer.")
	}
	inner := s.zone.Explain(s.st.Snapshot(), s.kernel(), wire.NameString(name), t)
	if inner.Reason != zone.NotOfTheCluster {
		return Explanation{"cluster", inner}
	}
	var e Explanation
	if z := p.zone(name); z != nil {
		e = other("zone", "The zone %s of the configuration answers.", wire.NameString(z.Origin()))
	} else if g := p.route(name); g == nil {
		e = other("refused", "The configuration refuses it (forward.except).")
	} else {
		e = p.forwarded(g, name)
	}
	inner.Message += " " + e.Message
	return Explanation{e.Place, inner}
}

// forwarded says who is asked for a name.
func (p *plan) forwarded(g *forward.Group, name []byte) Explanation {
	var servers []string
	for _, a := range g.Servers() {
		servers = append(servers, a.String())
	}
	message := "It is asked of " + strings.Join(servers, ", ")
	if len(servers) == 0 {
		message = "There is no server to ask for it"
	}
	for _, r := range p.routes {
		if len(r.domain) > 1 && isBelow(name, r.domain) {
			message += fmt.Sprintf(" (stub for %s)", wire.NameString(r.domain))
			break
		}
	}
	return Explanation{"forward", zone.Explanation{Message: message + "."}}
}

// kernel gives what the consumer that is waited for has reported.
func (s *Server) kernel() zone.Kernel {
	for _, row := range s.st.Statuses() {
		if row.Consumer == s.cfg.AfterConsumer {
			return zone.Kernel{Revision: row.Revision, Error: row.Err, Failed: row.Failed}
		}
	}
	return zone.Kernel{}
}
