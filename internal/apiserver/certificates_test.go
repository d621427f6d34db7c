package apiserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
)

// A client certificate is not verified with each request, and yet counts no longer than it is good.
func TestCertificatesVerifiedOnce(t *testing.T) {
	t.Parallel()
	root := issueTo(t, nil, "root", time.Hour)
	between := issueTo(t, &root, "between", time.Hour)
	foreign := issueTo(t, nil, "root", time.Hour)
	good, short := issueTo(t, &root, "u", time.Hour), issueTo(t, &root, "u", certificateGood/2)
	for _, c := range []struct {
		name      string
		presented []issued
		later     time.Duration // when it is presented again
		verified  int           // how often, of three requests
		refused   bool
	}{
		{"at once", []issued{good}, 0, 1, false},
		{"long after", []issued{good}, certificateGood + time.Second, 2, false},
		{"after it has expired", []issued{short}, certificateGood/2 + time.Second, 3, false}, // the verifier has its own clock
		{"before it was good", []issued{good}, -3 * time.Hour, 3, false},
		{"of an authority under ours", []issued{issueTo(t, &between, "u", time.Hour), between}, 0, 3, false},
		{"of another authority", []issued{issueTo(t, &foreign, "u", time.Hour)}, 0, 3, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			pool := x509.NewCertPool()
			pool.AddCert(root.certificate)
			certificates := newCertificates(pool)
			verified, verify := 0, certificates.verifier
			certificates.verifier = authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
				verified++
				return verify.AuthenticateRequest(r)
			})
			request := &http.Request{TLS: &tls.ConnectionState{}}
			for _, p := range c.presented {
				request.TLS.PeerCertificates = append(request.TLS.PeerCertificates, p.certificate)
			}
			for i := range 3 {
				response, ok, err := certificates.AuthenticateRequest(request)
				if ok == c.refused || (err != nil) != c.refused || ok && response.User.GetName() != "u" {
					t.Fatalf("request %d: got %+v, %t, %v", i, response, ok, err)
				}
				if i == 0 {
					certificates.now = func() time.Time { return time.Now().Add(c.later) }
				}
			}
			if verified != c.verified {
				t.Errorf("verified %d times, want %d", verified, c.verified)
			}
		})
	}
}

// issued is a certificate and its key.
type issued struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// issueTo makes a client certificate of an authority, or an authority, that has been good for an hour.
func issueTo(t *testing.T, by *issued, name string, left time.Duration) issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(left),
		IsCA: name != "u", BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if by == nil {
		by = &issued{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issued{certificate, key}
}
