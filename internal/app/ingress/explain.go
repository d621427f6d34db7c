package ingress

import (
	"fmt"
	"net/url"
	"strings"

	"fairway.dev/fairway/internal/ingress/compile"
)

// Explained is what would become of one request.
type Explained struct {
	URL  string `json:"url"`
	Host string `json:"host,omitempty"`
	Path string `json:"path,omitempty"`
	// Answer says what the client gets: the code of a refusal, or 0 where the request goes to an endpoint.
	Code int    `json:"code,omitempty"`
	Why  string `json:"why,omitempty"`
	// Ingress and the fields after it are the rule that is taken.
	Ingress  string `json:"ingress,omitempty"`
	Rule     string `json:"rule,omitempty"`
	PathType string `json:"pathType,omitempty"`
	Service  string `json:"service,omitempty"`
	Port     string `json:"port,omitempty"`
	// Endpoints take the request in turn.
	Endpoints   []string             `json:"endpoints,omitempty"`
	Steps       []string             `json:"steps,omitempty"`
	Certificate string               `json:"certificate,omitempty"`
	Candidates  []ExplainedCandidate `json:"candidates"`
	// Others counts the rules for other hosts.
	Others int `json:"others"`
}

// ExplainedCandidate is one rule that was looked at.
type ExplainedCandidate struct {
	Ingress  string `json:"ingress"`
	Host     string `json:"host"`
	Path     string `json:"path"`
	PathType string `json:"pathType"`
	// Failed is the first thing that did not fit: host, path or precedence; "" for the rule that is taken.
	Failed string `json:"failed,omitempty"`
	Why    string `json:"why,omitempty"`
}

// Explain traces a request for a URL with scheme and host. withoutClass is true where Fairway is the only controller, so that Ingresses without a class
// are its own.
func (w *World) Explain(raw string, withoutClass bool) (*Explained, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("%s: give a URL such as https://example.com/path", raw)
	}
	opts := compile.Options{WithoutClass: withoutClass}
	snap := w.store.Snapshot()
	t := compile.Build(snap, opts, nil)
	// The path goes in as it is written: what url.Parse makes of it could hide what a server refuses.
	_, rest, _ := strings.Cut(raw, "://")
	path := "/"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		if path = rest[i:]; path[0] != '/' {
			path = "/" + path
		}
	}
	path, _, _ = strings.Cut(path, "#")
	e := t.Explain(u.Scheme, u.Host, path)
	out := &Explained{URL: raw, Host: e.Host, Path: e.Path, Steps: e.Steps, Others: e.Others, Candidates: []ExplainedCandidate{}}
	for _, c := range e.Candidates {
		out.Candidates = append(out.Candidates, ExplainedCandidate{c.Ingress.String(), c.Host, c.Path, string(c.Type), c.Failed, c.Why})
	}
	if u.Scheme == "https" {
		out.Certificate = "the listener's own"
		if e.Certificate != nil {
			out.Certificate = "Secret " + e.Certificate.Secret.String() + " of ingress " + e.Certificate.Ingress.String()
		}
	}
	switch r := e.Route; {
	case e.Refused != "":
		out.Code, out.Why = 400, e.Refused
	case e.Miss == compile.NoHost:
		out.Code, out.Why = 404, "no rule is for the host, and there is no default backend"
	case e.Miss == compile.NoPath:
		out.Code, out.Why = 404, "no path of the rules for the host matches, and there is no default backend"
	case r.Refused != "":
		out.Code, out.Why = 503, r.Refused
		out.taken(r)
	default:
		out.taken(r)
		if e.Backend == nil {
			break
		}
		out.Service, out.Port = e.Backend.Service.String(), e.Backend.PortName
		if e.Backend.PortNumber != 0 {
			out.Port = fmt.Sprint(e.Backend.PortNumber)
		}
		to := compile.Resolve(snap, opts, *e.Backend)
		for _, a := range to.Addrs {
			out.Endpoints = append(out.Endpoints, a.String())
		}
		if len(to.Addrs) == 0 && !w.offline {
			if out.Code, out.Why = 503, to.Problem; to.Problem == "" {
				out.Why = "service " + out.Service + " has no ready endpoint"
			}
		}
	}
	return out, nil
}

func (x *Explained) taken(r *compile.Route) {
	x.Ingress, x.PathType = r.Ingress.String(), string(r.Type)
	host := r.Host
	if host == "" {
		host = "*"
	}
	if x.Rule = host + r.Path; r.Path == "" {
		x.Rule = "default backend"
	}
}
