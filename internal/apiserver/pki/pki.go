// Package pki is the small certificate authority of one stand-alone installation: one self-signed CA in a directory, and
// leaf certificates signed by it.
//
// Promises: the CA, once made, is never replaced, so a kubeconfig that was handed out stays good; a leaf is kept from start
// to start as long as it says what is asked for (names, groups, addresses) and is not about to expire, else it is issued
// again; keys never leave the directory, files are 0600 and written by rename, so a crash leaves the old file or the new one,
// never half of one. All keys are ECDSA P-256.
//
// An Authority is immutable after Open and safe for use by several goroutines; Leaf writes files and must not be called twice
// at once for the same name. To debug: `openssl x509 -text -in DIR/NAME.crt`. Tests need only a temporary directory.
package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 365 * 24 * time.Hour
	// renewBefore is how long before its end a leaf is issued again. It is longer than a run usually lasts, because a leaf is
	// looked at only when the server starts.
	renewBefore = 90 * 24 * time.Hour
	// clockSkew is how far in the past validity begins, for clients whose clock is behind.
	clockSkew = time.Hour
)

// Authority signs leaf certificates and knows the directory where they live.
type Authority struct {
	dir     string
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	certPEM []byte
	now     func() time.Time
}

// Open loads the authority in dir, or makes one if there is none. A directory that holds only half of it (certificate
// without key, or something that does not parse) is an error: making a new authority would silently invalidate every
// credential already handed out.
func Open(dir string) (*Authority, error) { return open(dir, time.Now) }

func open(dir string, now func() time.Time) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("certificate authority: create directory: %w", err)
	}
	a := &Authority{dir: dir, now: now}
	pair, err := readPair(dir, "ca")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		pair, err = a.create()
		if err != nil {
			return nil, fmt.Errorf("certificate authority in %s: create: %w", dir, err)
		}
	case err != nil:
		return nil, fmt.Errorf("certificate authority in %s: read: %w", dir, err)
	case !pair.cert.IsCA:
		return nil, fmt.Errorf("certificate authority in %s: read: ca.crt is not a CA certificate", dir)
	case now().After(pair.cert.NotAfter):
		return nil, fmt.Errorf("certificate authority in %s: expired on %s; remove the directory to make a new one (every kubeconfig made so far becomes invalid)",
			dir, pair.cert.NotAfter.Format(time.DateOnly))
	}
	a.cert, a.key, a.certPEM = pair.cert, pair.key, pair.certPEM
	return a, nil
}

// CertPEM is the authority's certificate in PEM form.
func (a *Authority) CertPEM() []byte { return bytes.Clone(a.certPEM) }

// CertFile is where the authority's certificate is stored.
func (a *Authority) CertFile() string { return files(a.dir, "ca").CertFile }

// Pool holds the authority's certificate alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Leaf says what a leaf certificate must hold.
type Leaf struct {
	Name       string       // file name without suffix
	CommonName string       // the user name of a client certificate
	Groups     []string     // the groups of a client certificate
	DNSNames   []string     // what a server certificate is valid for ...
	Addresses  []netip.Addr // ... and at which addresses
	Server     bool         // serving certificate, else client certificate
}

// Pair is a certificate and its key, both in PEM form.
type Pair struct {
	CertPEM, KeyPEM   []byte
	CertFile, KeyFile string // where they are stored
}

// Certificate parses the pair for crypto/tls.
func (p Pair) Certificate() (tls.Certificate, error) { return tls.X509KeyPair(p.CertPEM, p.KeyPEM) }

// Leaf returns the stored certificate of that name if it still says what want asks for, was signed by this authority and is
// not about to expire, else issues and stores a new one. An unreadable leaf is not an error: it is replaced.
func (a *Authority) Leaf(want Leaf) (Pair, error) {
	if have, err := readPair(a.dir, want.Name); err == nil && a.serves(have.cert, want) {
		return have.Pair, nil
	}
	pair, err := a.issue(want)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate %s: issue: %w", want.Name, err)
	}
	return pair, nil
}

func (a *Authority) serves(have *x509.Certificate, want Leaf) bool {
	if have.CheckSignatureFrom(a.cert) != nil || a.now().Add(renewBefore).After(have.NotAfter) || a.now().Before(have.NotBefore) {
		return false
	}
	addresses := make([]netip.Addr, 0, len(have.IPAddresses))
	for _, ip := range have.IPAddresses {
		addr, _ := netip.AddrFromSlice(ip)
		addresses = append(addresses, addr.Unmap())
	}
	return have.Subject.CommonName == want.CommonName &&
		slices.Equal(have.Subject.Organization, want.Groups) &&
		slices.Equal(have.DNSNames, want.DNSNames) &&
		slices.Equal(addresses, want.Addresses) &&
		slices.Equal(have.ExtKeyUsage, usage(want.Server))
}

func usage(server bool) []x509.ExtKeyUsage {
	if server {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
}

func (a *Authority) create() (storedPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return storedPair{}, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "fairway"},
		NotBefore:             a.now().Add(-clockSkew),
		NotAfter:              a.now().Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	return a.sign("ca", template, key, template, key)
}

func (a *Authority) issue(want Leaf) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: want.CommonName, Organization: want.Groups},
		NotBefore:             a.now().Add(-clockSkew),
		NotAfter:              a.now().Add(leafLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           usage(want.Server),
		BasicConstraintsValid: true,
		DNSNames:              want.DNSNames,
	}
	for _, addr := range want.Addresses {
		template.IPAddresses = append(template.IPAddresses, addr.AsSlice())
	}
	pair, err := a.sign(want.Name, template, key, a.cert, a.key)
	return pair.Pair, err
}

// sign makes the certificate and stores the pair, the key first: a certificate file says that its key is there.
func (a *Authority) sign(name string, template *x509.Certificate, key *ecdsa.PrivateKey, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (storedPair, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return storedPair{}, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return storedPair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return storedPair{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return storedPair{}, err
	}
	pair := storedPair{Pair: files(a.dir, name), cert: cert, key: key}
	pair.CertPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pair.KeyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	pair.certPEM = pair.CertPEM
	if err := writeFile(pair.KeyFile, pair.KeyPEM); err != nil {
		return storedPair{}, err
	}
	return pair, writeFile(pair.CertFile, pair.CertPEM)
}

// storedPair is a pair together with its parsed form.
type storedPair struct {
	Pair
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	certPEM []byte
}

func files(dir, name string) Pair {
	return Pair{CertFile: filepath.Join(dir, name+".crt"), KeyFile: filepath.Join(dir, name+".key")}
}

// readPair reads and checks a stored pair. The error wraps fs.ErrNotExist only if the certificate is not there.
func readPair(dir, name string) (storedPair, error) {
	pair := storedPair{Pair: files(dir, name)}
	var err error
	if pair.CertPEM, err = os.ReadFile(pair.CertFile); err != nil {
		return storedPair{}, err
	}
	if pair.KeyPEM, err = os.ReadFile(pair.KeyFile); err != nil {
		return storedPair{}, fmt.Errorf("%s has no readable key: %s", pair.CertFile, err) // not %w: see above
	}
	parsed, err := pair.Certificate()
	if err != nil {
		return storedPair{}, fmt.Errorf("%s: %w", pair.CertFile, err)
	}
	key, ok := parsed.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return storedPair{}, fmt.Errorf("%s: the key is a %T, not ECDSA", pair.KeyFile, parsed.PrivateKey)
	}
	pair.cert, pair.key, pair.certPEM = parsed.Leaf, key, pair.CertPEM
	return pair, nil
}

// writeFile replaces path with data in one step, readable by the owner alone.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // fails, as it should, after the rename
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
