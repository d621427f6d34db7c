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
	parsed      map[*model.Certificate]*parsedCertificate
	secrets     map[model.Name]struct{} // named by an Ingress, whether they exist or not
}

type parsedCertificate struct {
	cert *tls.Certificate
	err  error
}

func newCertificates() certificates {
	return certificates{
		exact: map[string]*Certificate{}, wild: map[string]*Certificate{},
		parsed: map[*model.Certificate]*parsedCertificate{}, secrets: map[model.Name]struct{}{},
	}
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

// tls claims server names for the certificates of the Ingress being added.
func (b *builder) tls() {
	for i, entry := range b.ing.TLS {
		if entry.Secret == "" {
			continue // asks for the listener's own certificate
		}
		hosts := entry.Hosts
		if len(hosts) == 0 {
			hosts = b.ruleHosts()
			if len(hosts) == 0 {
				b.find(Warning, "tls %d: it names no hosts and neither do the rules, so no server name gets Secret %q: list the hosts", i, entry.Secret)
				continue
			}
		}
		secret := model.Name{Namespace: b.ing.Name.Namespace, Name: entry.Secret}
		cert := b.certificate(secret, i)
		if cert == nil {
			continue
		}
		for _, host := range hosts {
			b.claimServerName(strings.ToLower(host), secret, cert, i)
		}
	}
}

func (b *builder) ruleHosts() []string {
	var out []string
	for _, r := range b.ing.Rules {
		if r.Host != "" && checkRuleHost(r.Host) == "" {
			out = append(out, r.Host)
		}
	}
	return out
}

func (b *builder) certificate(secret model.Name, entry int) *tls.Certificate {
	b.t.certs.secrets[secret] = struct{}{}
	row := b.snap.Certificates.Get(secret)
	if row == nil {
		b.find(Error, "tls %d: there is no Secret %s of type kubernetes.io/tls: create it (kubectl create secret tls); until then the listener's own certificate is served",
			entry, secret)
		return nil
	}
	p := b.t.certs.parsed[row]
	if p == nil {
		if p = b.parsed[row]; p == nil {
			p = parseCertificate(row)
		}
		b.t.certs.parsed[row] = p
	}
	if p.err != nil {
		b.find(Error, "tls %d: Secret %s cannot be used: %v; the listener's own certificate is served", entry, secret, p.err)
		return nil
	}
	return p.cert
}

func parseCertificate(row *model.Certificate) *parsedCertificate {
	c, err := tls.X509KeyPair(row.Cert, row.Key)
	if err != nil {
		return &parsedCertificate{err: fmt.Errorf("tls.crt and tls.key: %w", err)}
	}
	return &parsedCertificate{cert: &c}
}

func (b *builder) claimServerName(host string, secret model.Name, cert *tls.Certificate, entry int) {
	if problem := checkRuleHost(host); problem != "" {
		b.find(Error, "tls %d: host %q gets no certificate: %s", entry, host, problem)
		return
	}
	m, name := b.t.certs.exact, host
	if rest, ok := strings.CutPrefix(host, "*."); ok {
		m, name = b.t.certs.wild, rest
	}
	if old := m[name]; old != nil {
		if old.Secret != secret {
			b.find(Warning, "tls %d: host %q keeps Secret %s of the older ingress %s", entry, host, old.Secret, old.Ingress)
		}
		return
	}
	m[name] = &Certificate{Host: host, Secret: secret, Ingress: b.ing.Name, TLS: cert}
	if len(b.ing.Rules) > 0 && !slices.ContainsFunc(b.ing.Rules, func(r model.IngressRule) bool { return covers(host, r.Host) || covers(r.Host, host) }) {
		b.find(Warning, "tls %d: host %q is in no rule of this Ingress", entry, host)
	}
	sample := strings.Replace(host, "*", "any", 1)
	if err := cert.Leaf.VerifyHostname(sample); err != nil {
		b.find(Warning, "tls %d: the certificate in Secret %s does not cover host %q and clients will refuse it (it covers %s): issue one for the host",
			entry, secret, host, strings.Join(cert.Leaf.DNSNames, ", "))
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
