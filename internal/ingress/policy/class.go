package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Class is what the parameters of an IngressClass say for all its Ingresses. They are a ConfigMap; the keys are those of ParseClass.
type Class struct {
	// NginxPaths matches paths as ingress-nginx does: ImplementationSpecific is a prefix of the text, and the paths of a host are expressions once
	// one of them is, or is rewritten.
	NginxPaths bool
	// ToHTTPS is for Ingresses that say nothing about it.
	ToHTTPS ToHTTPS
	// MaxBody is as in Policy.
	MaxBody int64
	// HSTS is as in Policy.
	HSTS string
	// Connect, Send and Read are as in Policy.
	Connect, Send, Read time.Duration
	// OutboundHosts are the hosts, and those under "*.", that requests of auth-url and mirror-target may go to beside Services of the Ingress's namespace.
	OutboundHosts []string
	// ResponseHeaders are the names that custom-headers may set, in lower case.
	ResponseHeaders []string
}

// Parameter is one key of a class's parameters.
type Parameter struct{ Name, Values, Default, Meaning string }

// Parameters lists the keys of a class's ConfigMap.
var Parameters = []Parameter{
	{"path-matching", "strict, ingress-nginx", "strict", "how paths are compared; ingress-nginx also makes expressions of them where an Ingress asks for it"},
	{"ssl-redirect", "true, false", "true with path-matching: ingress-nginx, else false", "redirect plain HTTP where the host has a certificate"},
	{"hsts", "true, false", "as ssl-redirect", "send Strict-Transport-Security over TLS"},
	{"hsts-max-age", "seconds", "31536000", ""},
	{"hsts-include-subdomains", "true, false", "true", ""},
	{"hsts-preload", "true, false", "false", ""},
	{"proxy-body-size", "a size such as 8m; 0 is no bound", "1m with path-matching: ingress-nginx, else no bound", "the longest request body"},
	{"proxy-connect-timeout", "seconds", "3; 5 with path-matching: ingress-nginx", "connecting to an endpoint"},
	{"proxy-send-timeout", "seconds", "300; 60 with path-matching: ingress-nginx", "each pause while a request is sent"},
	{"proxy-read-timeout", "seconds", "60", "the wait for an answer, and each pause in it"},
	{"outbound-hosts", "hosts, or *.domain", "none", "where auth-url and mirror-target may lead, beside Services of the Ingress's namespace"},
	{"response-headers", "names of headers", "none", "what custom-headers may set"},
}

// ParseClass reads the parameters of a class. An error names every key that is wrong.
func ParseClass(data map[string]string) (*Class, error) {
	c := &Class{}
	p := classReader{data: data}
	switch v := p.take("path-matching", "strict"); v {
	case "strict":
	case "ingress-nginx":
		*c = Class{NginxPaths: true, MaxBody: 1 << 20, Connect: 5 * time.Second, Send: time.Minute, Read: time.Minute}
	default:
		p.bad("path-matching", fmt.Errorf("%q is neither strict nor ingress-nginx", v))
	}
	if p.flag("ssl-redirect", c.NginxPaths) {
		c.ToHTTPS = WithCertificate
	}
	hsts := p.flag("hsts", c.ToHTTPS != Never)
	age := p.number("hsts-max-age", 31536000)
	subdomains, preload := p.flag("hsts-include-subdomains", true), p.flag("hsts-preload", false)
	if hsts {
		c.HSTS = "max-age=" + strconv.Itoa(age)
		if subdomains {
			c.HSTS += "; includeSubDomains"
		}
		if preload {
			c.HSTS += "; preload"
		}
	}
	if v := p.take("proxy-body-size", ""); v != "" {
		n, err := parseSize(v)
		if err != nil {
			p.bad("proxy-body-size", err)
		}
		if c.MaxBody = n; n == 0 {
			c.MaxBody = -1
		}
	}
	p.seconds("proxy-connect-timeout", &c.Connect)
	p.seconds("proxy-send-timeout", &c.Send)
	p.seconds("proxy-read-timeout", &c.Read)
	for _, h := range list(p.take("outbound-hosts", "")) {
		if _, err := parseHost(strings.TrimPrefix(h, "*.")); err != nil {
			p.bad("outbound-hosts", err)
		}
		c.OutboundHosts = append(c.OutboundHosts, strings.ToLower(h))
	}
	for _, h := range list(p.take("response-headers", "")) {
		if _, err := parseToken(h); err != nil {
			p.bad("response-headers", err)
		}
		c.ResponseHeaders = append(c.ResponseHeaders, strings.ToLower(h))
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if !slices.ContainsFunc(Parameters, func(p Parameter) bool { return p.Name == key }) {
			p.bad(key, fmt.Errorf("no such parameter"))
		}
	}
	if len(p.problems) > 0 {
		return nil, fmt.Errorf("%s", strings.Join(p.problems, "; "))
	}
	return c, nil
}

type classReader struct {
	data     map[string]string
	problems []string
}

func (p *classReader) bad(key string, err error) {
	p.problems = append(p.problems, fmt.Sprintf("%s: %v", key, err))
}

func (p *classReader) take(key, otherwise string) string {
	if v := strings.TrimSpace(p.data[key]); v != "" {
		return v
	}
	return otherwise
}

func (p *classReader) flag(key string, otherwise bool) bool {
	v, err := strconv.ParseBool(p.take(key, strconv.FormatBool(otherwise)))
	if err != nil {
		p.bad(key, fmt.Errorf("write true or false"))
	}
	return v
}

func (p *classReader) number(key string, otherwise int) int {
	n, err := parseInt(p.take(key, strconv.Itoa(otherwise)), 0, 1<<31-1)
	if err != nil {
		p.bad(key, err)
	}
	return n
}

func (p *classReader) seconds(key string, to *time.Duration) {
	v := p.take(key, "")
	if v == "" {
		return
	}
	d, err := parseSeconds(v)
	if err != nil {
		p.bad(key, err)
		return
	}
	*to = d
}

// Outbound tells whether a host, without port, is admitted by OutboundHosts.
func (c *Class) Outbound(host string) bool {
	for _, pattern := range c.OutboundHosts {
		if rest, ok := strings.CutPrefix(pattern, "*."); ok && strings.HasSuffix(host, "."+rest) || pattern == host {
			return true
		}
	}
	return false
}
