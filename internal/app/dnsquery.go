package app

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns"
)

// DNSQuestion is what `fairway dns query` was asked.
type DNSQuestion struct {
	Name string
	// Types are the record types, in the words of a zone file; none are A and AAAA, as programs ask.
	Types []string
	// Namespace or Pod, "namespace/name", say whose search path is walked; without either the name is asked as it is.
	Namespace, Pod string
	// Server is asked instead of the instance's own address; the zero value is that.
	Server netip.AddrPort
}

// DNSReport is what `fairway dns query` shows, and the JSON of its -o json. Fields are only ever added.
type DNSReport struct {
	Server string          `json:"server"`
	Search []string        `json:"search,omitempty"`
	NDots  int             `json:"ndots,omitempty"`
	Note   string          `json:"note,omitempty"`
	Steps  []DNSReportStep `json:"steps"`
	// Of is the number of steps that there would be; the walk ends with the first that has records.
	Of int `json:"of"`
}

// DNSReportStep is one name that was asked for.
type DNSReportStep struct {
	Name    string      `json:"name"`
	Answers []DNSAnswer `json:"answers"`
}

// DNSAnswer is the answer to one question, and why it is as it is.
type DNSAnswer struct {
	Type string `json:"type"`
	// Rcode is "" if there was no answer; Error then says why.
	Rcode     string   `json:"rcode,omitempty"`
	Error     string   `json:"error,omitempty"`
	Flags     string   `json:"flags,omitempty"`
	Protocol  string   `json:"protocol,omitempty"`
	Millis    float64  `json:"milliseconds"`
	Answer    []string `json:"answer,omitempty"`
	Authority []string `json:"authority,omitempty"`
	// Why is an explanation.
	Why dns.Explanation `json:"why"`
}

// Found tells whether a step has records: there a resolver's walk ends.
func (s *DNSReportStep) Found() bool {
	for _, a := range s.Answers {
		if len(a.Answer) > 0 {
			return true
		}
	}
	return false
}

// Found tells whether the walk came to records.
func (r *DNSReport) Found() bool { return len(r.Steps) > 0 && r.Steps[len(r.Steps)-1].Found() }

// QueryDNS asks the running instance.
func QueryDNS(ctx context.Context, i Instance, q DNSQuestion) (*DNSReport, error) {
	return queryDNS(ctx, q, func(path string, into any) error { return i.get(ctx, "dns query "+q.Name, path, into) })
}

// QueryAgentDNS asks an agent on this machine, at its health or metrics address.
func QueryAgentDNS(ctx context.Context, at netip.AddrPort, q DNSQuestion) (*DNSReport, error) {
	return queryDNS(ctx, q, func(path string, into any) error { return getAgent(ctx, at, path, into) })
}

func queryDNS(ctx context.Context, q DNSQuestion, get func(path string, into any) error) (*DNSReport, error) {
	if len(q.Types) == 0 {
		q.Types = []string{"A", "AAAA"}
	}
	for i, t := range q.Types {
		if _, ok := dnsType(t); !ok {
			return nil, fmt.Errorf("type %q is not known; give one such as A, AAAA, SRV, PTR, or TYPE and a number", t)
		}
		q.Types[i] = strings.ToUpper(t)
	}
	var s dnsSteps
	if err := get(explainPath+"?"+url.Values{"name": {q.Name}, "type": q.Types, "namespace": {q.Namespace}, "pod": {q.Pod}}.Encode(), &s); err != nil {
		return nil, err
	}
	r := &DNSReport{Server: q.Server.String(), Search: s.Search, NDots: s.NDots, Note: s.Note, Of: len(s.Steps)}
	if !q.Server.IsValid() {
		if len(s.Servers) == 0 {
			return nil, fmt.Errorf("the instance has no DNS server")
		}
		r.Server = s.Servers[0]
	}
	for _, step := range s.Steps {
		asked := DNSReportStep{Name: step.Name}
		for i, t := range q.Types {
			a, err := askDNS(ctx, r.Server, step.Name, t)
			if err != nil {
				return nil, fmt.Errorf("%s %s of %s: %w", step.Name, t, r.Server, err)
			}
			if i < len(step.Why) {
				a.Why = step.Why[i]
			}
			asked.Answers = append(asked.Answers, *a)
		}
		r.Steps = append(r.Steps, asked)
		if asked.Found() {
			break
		}
	}
	return r, nil
}

// askTimeout is how long one try waits: longer than the server waits for others.
const askTimeout = 4 * time.Second

// askDNS asks as a resolver does: over UDP, a second time if nothing comes, and over TCP for what is truncated.
func askDNS(ctx context.Context, server, name, typ string) (*DNSAnswer, error) {
	n, _ := dnsType(typ)
	m := new(mdns.Msg)
	m.SetQuestion(name, n)
	m.SetEdns0(1232, false)
	if _, ok := mdns.IsDomainName(name); !ok {
		return &DNSAnswer{Type: typ, Error: "this is no name"}, nil
	}
	client := &mdns.Client{Net: "udp", Timeout: askTimeout}
	reply, took, err := client.ExchangeContext(ctx, m, server)
	if err != nil && ctx.Err() == nil {
		reply, took, err = client.ExchangeContext(ctx, m, server)
	}
	if err == nil && reply.Truncated {
		client.Net = "tcp"
		reply, took, err = client.ExchangeContext(ctx, m, server)
	}
	if err != nil {
		return nil, err
	}
	a := &DNSAnswer{
		Type: typ, Rcode: mdns.RcodeToString[reply.Rcode], Flags: dnsFlags(reply), Protocol: client.Net,
		Millis: float64(took.Microseconds()) / 1000,
	}
	for _, rr := range reply.Answer {
		a.Answer = append(a.Answer, rr.String())
	}
	for _, rr := range reply.Ns {
		a.Authority = append(a.Authority, rr.String())
	}
	return a, nil
}

func dnsFlags(m *mdns.Msg) string {
	var out []string
	for _, f := range []struct {
		set  bool
		name string
	}{{m.Response, "qr"}, {m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"}, {m.RecursionAvailable, "ra"}, {m.AuthenticatedData, "ad"}} {
		if f.set {
			out = append(out, f.name)
		}
	}
	return strings.Join(out, " ")
}
