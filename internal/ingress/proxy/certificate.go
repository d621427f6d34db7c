package proxy

import (
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
	"os"
	"path/filepath"
	"time"

	"fairway.dev/fairway/internal/ingress/compile"
)

// certificate answers a handshake: the certificate of the server name, or the listener's own. What the client asks for here
// decides nothing else; the Host header picks the route.
func (s *Server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if name, ok := compile.CanonicalHost(hello.ServerName); ok && name != "" {
		if c := s.routing.Load().table.Certificate(name); c != nil {
			return c.TLS, nil
		}
	}
	return s.own, nil
}

const (
	ownLifetime = 365 * 24 * time.Hour
	ownRenewal  = 30 * 24 * time.Hour // a kept certificate with less than this left is made anew at the next start
)

// ownCertificate gives the certificate for server names that nobody has one for: the configured one, else a kept one, else a new
// one signed by itself, which is kept if dir is set.
func ownCertificate(cfg Config, now time.Time) (*tls.Certificate, error) {
	if cfg.DefaultCertificate != nil {
		return cfg.DefaultCertificate, nil
	}
	if cfg.CertificateDir == "" {
		certPEM, keyPEM, err := selfSigned(now)
		if err != nil {
			return nil, err
		}
		c, err := tls.X509KeyPair(certPEM, keyPEM)
		return &c, err
	}
	certFile, keyFile := filepath.Join(cfg.CertificateDir, "default.crt"), filepath.Join(cfg.CertificateDir, "default.key")
	c, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err == nil && c.Leaf.NotAfter.After(now.Add(ownRenewal)) {
		return &c, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("certificate %s: load: %w; remove both files to have them made anew", certFile, err)
	}
	certPEM, keyPEM, err := selfSigned(now)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.CertificateDir, 0o700); err != nil {
		return nil, fmt.Errorf("certificate %s: keep: %w", certFile, err)
	}
	for file, data := range map[string][]byte{certFile: certPEM, keyFile: keyPEM} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return nil, fmt.Errorf("certificate %s: keep: %w", file, err)
		}
	}
	c, err = tls.X509KeyPair(certPEM, keyPEM)
	return &c, err
}

func selfSigned(now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("self-signed certificate: make key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("self-signed certificate: draw serial: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Fairway default certificate"},
		DNSNames: []string{"default.fairway.invalid"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(ownLifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, nil, fmt.Errorf("self-signed certificate: sign: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("self-signed certificate: write key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}
