package compile

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/model"
)

// Certificate is one host's certificate and where it comes from.
type Certificate struct {
	// Host is the TLS entry's: a name, or "*." and a name.
	Host    string
	Secret  model.Name
	Ingress model.Name
	TLS     *tls.Certificate
}

type certificates struct {
	exact, wild map[string]*Certificate // wild without the "*."
	secure      map[string]struct{}     // hosts of TLS entries, whatever became of them; wild ones with the "*."
	parsed      map[*model.Certificate]*parsedCertificate
	secrets     map[model.Name]struct{} // named by an Ingress, whether they exist or not
}

type parsedCertificate struct {
	cert *tls.Certificate
	err  error
}

// claim is a server name that an Ingress has a certificate for.
type claim struct {
	*Certificate
	entry int // its number in spec.tls
}

// Certificate gives the certificate for a server name (SNI) in canonical form, or nil when the listener's own is to be served.
func (t *Table) Certificate(serverName string) *Certificate {
	if c := t.certs.exact[serverName]; c != nil {
		return c
	}
	if i := strings.IndexByte(serverName, '.'); i > 0 {
		return t.certs.wild[serverName[i+1:]]
	}
	return nil
}

// UsesSecret tells whether an Ingress of ours names that Secret: whether a change of it can matter.
func (t *Table) UsesSecret(secret model.Name) bool {
	_, ok := t.certs.secrets[secret]
	return ok
}

// Secure tells whether a TLS entry of an Ingress names the host, so that it is served over TLS on purpose.
func (t *Table) Secure(host string) bool {
	if _, ok := t.certs.secure[host]; ok {
		return true
	}
	if i := strings.IndexByte(host, '.'); i > 0 {
		_, ok := t.certs.secure["*"+host[i:]]
		return ok
	}
	return false
}

// tls finds the certificates of an Ingress.
func (b *builder) tls(e *entry) {
	for i, entry := range e.ing.TLS {
		hosts := entry.Hosts
		if len(hosts) == 0 {
			hosts = e.ruleHosts()
		}
		for _, h := range hosts {
			e.secure = append(e.secure, strings.ToLower(h))
		}
		if entry.Secret == "" {
			continue // asks for the listener's own certificate
		}
		if len(hosts) == 0 {
			e.find(Warning, "tls %d: it names no hosts and neither do the rules, so no server name gets Secret %q: list the hosts", i, entry.Secret)
			continue
		}
		secret := model.Name{Namespace: e.ing.Name.Namespace, Name: entry.Secret}
		cert := b.certificate(e, secret, i)
		if cert == nil {
			continue
		}
		for _, host := range hosts {
			e.claim(strings.ToLower(host), secret, cert, i)
		}
	}
}

func (e *entry) ruleHosts() []string {
	var out []string
	for _, r := range e.ing.Rules {
		if r.Host != "" && checkRuleHost(r.Host) == "" {
			out = append(out, r.Host)
		}
	}
	return out
}

func (b *builder) certificate(e *entry, secret model.Name, entry int) *tls.Certificate {
	if e.certificates == nil {
		e.certificates = map[model.Name]*model.Certificate{}
	}
	row := b.snap.Certificates.Get(secret)
	e.certificates[secret] = row
	if row == nil {
		e.find(Error, "tls %d: there is no Secret %s of type kubernetes.io/tls: create it (kubectl create secret tls); until then the listener's own certificate is served",
			entry, secret)
		return nil
	}
	p := b.parse(row)
	if p.err != nil {
		e.find(Error, "tls %d: Secret %s cannot be used: %v; the listener's own certificate is served", entry, secret, p.err)
		return nil
	}
	return p.cert
}

// parse reads a certificate once for all tables in which its row is the same.
func (b *builder) parse(row *model.Certificate) *parsedCertificate {
	m := &b.t.certs.parsed
	if *m == nil {
		*m = map[*model.Certificate]*parsedCertificate{}
	}
	p := (*m)[row]
	if p == nil {
		if p = b.prev.certs.parsed[row]; p == nil {
			p = parseCertificate(row)
		}
		(*m)[row] = p
	}
	return p
}

func parseCertificate(row *model.Certificate) *parsedCertificate {
	c, err := tls.X509KeyPair(row.Cert, row.Key)
	if err != nil {
		return &parsedCertificate{err: fmt.Errorf("tls.crt and tls.key: %w", err)}
	}
	return &parsedCertificate{cert: &c}
}

func (e *entry) claim(host string, secret model.Name, cert *tls.Certificate, entry int) {
	if problem := checkRuleHost(host); problem != "" {
		e.find(Error, "tls %d: host %q gets no certificate: %s", entry, host, problem)
		return
	}
	e.claims = append(e.claims, claim{&Certificate{Host: host, Secret: secret, Ingress: e.ing.Name, TLS: cert}, entry})
	if len(e.ing.Rules) > 0 && !slices.ContainsFunc(e.ing.Rules, func(r model.IngressRule) bool { return covers(host, r.Host) || covers(r.Host, host) }) {
		e.find(Warning, "tls %d: host %q is in no rule of this Ingress", entry, host)
	}
	sample := strings.Replace(host, "*", "any", 1)
	if err := cert.Leaf.VerifyHostname(sample); err != nil {
		e.find(Warning, "tls %d: the certificate in Secret %s does not cover host %q and clients will refuse it (it covers %s): issue one for the host",
			entry, secret, host, strings.Join(cert.Leaf.DNSNames, ", "))
	}
}

// serverNames gives each server name to the oldest Ingress that has a certificate for it.
func (b *builder) serverNames() {
	c := &b.t.certs
	c.exact, c.wild, c.secure, c.secrets = map[string]*Certificate{}, map[string]*Certificate{}, map[string]struct{}{}, map[model.Name]struct{}{}
	for _, e := range b.t.build.entries {
		for _, h := range e.secure {
			c.secure[h] = struct{}{}
		}
		for n, row := range e.certificates {
			c.secrets[n] = struct{}{}
			if row != nil {
				b.parse(row) // keeps it for the next table
			}
		}
		for _, own := range e.claims {
			m, name := c.exact, own.Host
			if rest, ok := strings.CutPrefix(name, "*."); ok {
				m, name = c.wild, rest
			}
			if old := m[name]; old == nil {
				m[name] = own.Certificate
			} else if old.Secret != own.Secret {
				b.t.Findings = append(b.t.Findings, Finding{e.ing.Name, Warning, fmt.Sprintf("tls %d: host %q keeps Secret %s of the older ingress %s",
					own.entry, own.Host, old.Secret, old.Ingress)})
			}
		}
	}
}

// covers tells whether a rule's or certificate's host stands for another.
func covers(pattern, host string) bool {
	if pattern == "" || pattern == host {
		return true
	}
	rest, ok := strings.CutPrefix(pattern, "*.")
	if !ok {
		return false
	}
	_, parent, _ := strings.Cut(host, ".")
	return parent == rest
}
