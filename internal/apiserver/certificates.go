package apiserver

import (
	"crypto/x509"
	"net/http"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	requestx509 "k8s.io/apiserver/pkg/authentication/request/x509"
)

const (
	// certificateGood is how long a client certificate is not verified again. Upstream verifies it with every request, which is a good part of the
	// work for a read. The authority does not change while the server runs and nothing is revoked, so that a second verification
	// can only find that the certificate or its authority has expired, and that is looked at each time. It is verified again now
	// and then for upstream's metric of the certificates in use, which counts verifications.
	certificateGood = time.Minute
	// certificatesKept bounds the memory.
	certificatesKept = 1000
)

// certificates authenticates requests by client certificates: the common name is the user, organizations are its groups. It is safe for use by
// several goroutines.
type certificates struct {
	verifier authenticator.Request
	now      func() time.Time
	mu       sync.RWMutex
	// verified are certificates that were presented alone. crypto/tls has one object for equal certificates of all connections.
	verified map[*x509.Certificate]verified
}

// verified is the user of a certificate that was verified.
type verified struct {
	response    *authenticator.Response
	after, upTo time.Time // when it counts
}

func newCertificates(roots *x509.CertPool) *certificates {
	options := requestx509.DefaultVerifyOptions()
	options.Roots = roots
	c := &certificates{now: time.Now, verified: make(map[*x509.Certificate]verified)}
	c.verifier = requestx509.New(options, requestx509.UserConversionFunc(c.user))
	return c
}

// AuthenticateRequest implements authenticator.Request.
func (c *certificates) AuthenticateRequest(request *http.Request) (*authenticator.Response, bool, error) {
	if request.TLS != nil && len(request.TLS.PeerCertificates) == 1 {
		c.mu.RLock()
		known, ok := c.verified[request.TLS.PeerCertificates[0]]
		c.mu.RUnlock()
		if now := c.now(); ok && now.After(known.after) && now.Before(known.upTo) {
			return known.response, true, nil
		}
	}
	return c.verifier.AuthenticateRequest(request)
}

// user is the user of a chain that was verified just now.
func (c *certificates) user(chain []*x509.Certificate) (*authenticator.Response, bool, error) {
	response, ok, err := requestx509.CommonNameUserConversion.User(chain)
	if err != nil || !ok || len(chain) != 2 { // with others between it and the authority, it is good only in their company
		return response, ok, err
	}
	v := verified{response: response, upTo: c.now().Add(certificateGood)}
	for _, certificate := range chain {
		if certificate.NotBefore.After(v.after) {
			v.after = certificate.NotBefore
		}
		if certificate.NotAfter.Before(v.upTo) {
			v.upTo = certificate.NotAfter
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.verified) >= certificatesKept {
		clear(c.verified)
	}
	c.verified[chain[0]] = v
	return response, true, nil
}
