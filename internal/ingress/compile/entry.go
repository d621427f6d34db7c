package compile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"fairway.dev/fairway/internal/ingress/policy"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// entry is one Ingress compiled by itself: what does not depend on other Ingresses. It is immutable, and used again in the next table as
// long as the rows that it was made of are the same.
type entry struct {
	ing      *model.Ingress
	class    *policy.Class
	problem  string // why the class cannot be used, or ""
	verdicts []policy.Verdict
	policy   *policy.Policy
	refused  string // why nothing of it may be served, or ""
	aux      *Aux

	hosts    []hostRules // each host once, in the order of the rules
	fallback *Route      // its default backend, or nil
	claims   []claim     // of server names
	secure   []string    // the hosts of its TLS entries
	refs     []int       // into Table.Backends; may repeat
	findings []Finding

	secrets      map[model.Name]*model.Secret // what it was made of; nil where there was none
	configMaps   map[model.Name]*model.ConfigMap
	certificates map[model.Name]*model.Certificate
}

// hostRules are the paths that one Ingress has for one host.
type hostRules struct {
	host  string
	paths []located
}

// located is a route and where in the Ingress it stands, for findings.
type located struct {
	*Route
	where string
}

// fresh tells whether everything that the entry was made of is still the same.
func (e *entry) fresh(snap *store.Snapshot, ing *model.Ingress, class *policy.Class, problem string) bool {
	if e.ing != ing || e.class != class || e.problem != problem {
		return false
	}
	for n, row := range e.secrets {
		if snap.Secrets.Get(n) != row {
			return false
		}
	}
	for n, row := range e.configMaps {
		if snap.ConfigMaps.Get(n) != row {
			return false
		}
	}
	for n, row := range e.certificates {
		if snap.Certificates.Get(n) != row {
			return false
		}
	}
	return true
}

func (e *entry) find(s Severity, format string, args ...any) {
	e.findings = append(e.findings, Finding{e.ing.Name, s, fmt.Sprintf(format, args...)})
}

// entry compiles one Ingress.
func (b *builder) entry(ing *model.Ingress, class *policy.Class, problem string) *entry {
	e := &entry{ing: ing, class: class, problem: problem}
	e.annotations(b.snap)
	if problem != "" {
		e.refused = problem
		e.find(Error, "all of it answers 503: %s", problem)
	}
	b.aux(e)
	if ing.Default != nil {
		e.fallback = b.route(e, "", "", "", *ing.Default)
	}
	if len(ing.Rules) == 0 && e.fallback == nil {
		e.find(Error, "it has neither rules nor a default backend: write one of them")
	}
	for i, rule := range ing.Rules {
		if rule.Host != "" {
			if problem := checkRuleHost(rule.Host); problem != "" {
				e.find(Error, "rule %d: host %q is not served: %s", i, rule.Host, problem)
				continue
			}
		}
		if len(rule.Paths) == 0 && e.fallback == nil {
			e.find(Warning, "rule %d: host %q has no paths and the Ingress no default backend to send it to: write either", i, rule.Host)
		}
		at := slices.IndexFunc(e.hosts, func(h hostRules) bool { return h.host == rule.Host })
		if at < 0 {
			at = len(e.hosts)
			e.hosts = append(e.hosts, hostRules{host: rule.Host})
		}
		for j, p := range rule.Paths {
			where := "rule " + strconv.Itoa(i) + " path " + strconv.Itoa(j)
			if e.refused != "" && !class.NginxPaths && p.Type == model.PathImplementationSpecific {
				p.Path = literalPart(p.Path) // it may be an expression; what it begins with is closed, so that no other rule gets it
			}
			decoded, problem := rulePath(p, class.NginxPaths)
			if problem != "" {
				e.find(Error, "%s: %q is not served: %s", where, p.Path, problem)
				continue
			}
			r := b.route(e, rule.Host, p.Path, p.Type, p.Backend)
			r.decoded, r.nginx = decoded, class.NginxPaths
			e.hosts[at].paths = append(e.hosts[at].paths, located{r, where})
		}
	}
	b.tls(e)
	return e
}

// annotations reads them and turns what is not done into findings.
func (e *entry) annotations(snap *store.Snapshot) {
	out := policy.Read(policy.Input{
		Namespace: e.ing.Name.Namespace, Annotations: e.ing.Annotations, Class: e.class,
		Secret: func(n model.Name) *model.Secret {
			if e.secrets == nil {
				e.secrets = map[model.Name]*model.Secret{}
			}
			e.secrets[n] = snap.Secrets.Get(n)
			return e.secrets[n]
		},
		ConfigMap: func(n model.Name) *model.ConfigMap {
			if e.configMaps == nil {
				e.configMaps = map[model.Name]*model.ConfigMap{}
			}
			e.configMaps[n] = snap.ConfigMaps.Get(n)
			return e.configMaps[n]
		},
	})
	e.policy, e.verdicts, e.refused = out.Policy, out.Verdicts, out.Refused
	for _, v := range out.Verdicts {
		switch {
		case v.Closes:
			e.find(Error, "all of it answers 503: annotation %s: %s", v.Annotation, v.Message)
		case v.Problem:
			e.find(Warning, "annotation %s is ignored: %s", v.Annotation, v.Message)
		}
	}
}

// aux finds the backends that annotations name.
func (b *builder) aux(e *entry) {
	p := e.policy
	if p == nil || e.refused != "" {
		return
	}
	a := Aux{-1, -1, -1}
	if x := p.External; x != nil {
		a.Auth = b.outward(e, x.Host, x.URL)
	}
	if m := p.Mirror; m != nil {
		a.Mirror = b.outward(e, m.Host, m.Target)
	}
	if p.ErrorService != "" {
		a.Errors = b.backend(e, Ref{Service: model.Name{Namespace: e.ing.Name.Namespace, Name: p.ErrorService}})
	}
	if a != (Aux{-1, -1, -1}) {
		e.aux = &a
	}
}

// outward gives the backend of a URL whose host is a Service, or -1.
func (b *builder) outward(e *entry, host string, url policy.Text) int {
	svc, ok := policy.ServiceOf(host)
	if !ok {
		return -1
	}
	return b.backend(e, Ref{Service: svc, PortNumber: url.Port()})
}

// route gives the route to a backend. What is not a Service that we can name becomes a refusal, never another route.
func (b *builder) route(e *entry, hostName, path string, typ model.PathType, to model.IngressBackend) *Route {
	r := &Route{Ingress: e.ing.Name, Host: hostName, Path: path, Type: typ, Backend: -1, Refused: e.refused, Policy: e.policy, Aux: e.aux}
	if r.Refused != "" {
		return r
	}
	switch {
	case to.Resource != "":
		r.Refused = fmt.Sprintf("backend %s is not a Service", to.Resource)
	case to.Service == "":
		r.Refused = "the backend names no Service"
	case (to.PortName == "") == (to.PortNumber == 0):
		r.Refused = fmt.Sprintf("the backend must name one port of Service %s, by name or by number", to.Service)
	default:
		r.Backend = b.backend(e, Ref{model.Name{Namespace: e.ing.Name.Namespace, Name: to.Service}, to.PortName, to.PortNumber})
		return r
	}
	if e.policy != nil && e.policy.Redirect != nil {
		r.Refused = "" // nothing goes there: ingress-nginx's users write a backend because the API wants one
		return r
	}
	e.find(Error, "host %q path %q answers 503: %s", hostName, path, r.Refused)
	return r
}

// literalPart is a path up to the first character that only expressions have.
func literalPart(path string) string {
	if i := strings.IndexAny(path, `([{*+?^$|\`); i > 0 {
		return path[:i]
	}
	return path
}

// acme is where a certificate's issuer asks for proof, over plain HTTP.
const acme = "/.well-known/acme-challenge"

// Acme tells whether the rule is for an issuer's proof, which must neither be redirected to HTTPS nor ask who comes.
func (r *Route) Acme() bool { return strings.HasPrefix(r.Path, acme) }
