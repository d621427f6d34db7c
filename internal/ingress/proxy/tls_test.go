package proxy

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

func secret(t *testing.T, name string, serial int64, dns ...string) *model.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: dns, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<36, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &model.Certificate{Name: model.Name{Namespace: "default", Name: name},
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})}
}

func withTLS(i *model.Ingress, secret string, hosts ...string) *model.Ingress {
	i.TLS = []model.IngressTLS{{Hosts: hosts, Secret: secret}}
	return i
}

// dial gives a TLS connection to the listener and the serial number of the certificate that it showed.
func (w *world) dial(serverName string, protocols ...string) (*tls.Conn, int64) {
	w.t.Helper()
	c, err := tls.Dial("tcp", w.tls, &tls.Config{ServerName: serverName, InsecureSkipVerify: true, NextProtos: protocols})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c, c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestCertificateByServerName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, r.Host, " ", r.Header.Get("X-Forwarded-Proto"))
	})
	w.write(func(x *store.Txn) {
		putService(x, "web", a)
		x.PutCertificate(secret(t, "a", 101, "a.test"))
		x.PutCertificate(secret(t, "wild", 102, "*.w.test"))
		x.PutIngress(withTLS(ingress("a", "a.test", "/", "web"), "a", "a.test"))
		x.PutIngress(withTLS(ingress("w", "b.w.test", "/", "web"), "wild", "*.w.test"))
		x.PutIngress(withTLS(ingress("gone", "gone.test", "/", "web"), "gone", "gone.test"))
	})
	own := w.srv.own.Leaf.SerialNumber.Int64()
	for name, want := range map[string]int64{"a.test": 101, "A.TEST": 101, "x.w.test": 102, "y.x.w.test": own, "gone.test": own, "": own} {
		if _, got := w.dial(name); got != want {
			t.Errorf("server name %q: certificate %d, want %d", name, got, want)
		}
	}
	// The server name picks the certificate, the Host header the route.
	c, _ := w.dial("x.w.test")
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(res.Body); string(b) != "a.test https" {
		t.Errorf("answered %q", b)
	}
}

// TestCertificateReplaced: the next handshake has the new one, and the connection made with the old one goes on.
func TestCertificateReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "ok") })
	w.write(func(x *store.Txn) {
		putService(x, "web", a)
		x.PutCertificate(secret(t, "a", 1, "a.test"))
		x.PutIngress(withTLS(ingress("a", "a.test", "/", "web"), "a", "a.test"))
	})
	c, serial := w.dial("a.test")
	br := bufio.NewReader(c)
	ask := func() {
		t.Helper()
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "ok" || err != nil {
			t.Fatalf("%q %v", b, err)
		}
	}
	ask()
	w.write(func(x *store.Txn) { x.PutCertificate(secret(t, "a", 2, "a.test")) })
	ask()
	if _, next := w.dial("a.test"); serial != 1 || next != 2 {
		t.Errorf("certificates %d, then %d", serial, next)
	}
	w.write(func(x *store.Txn) { x.DeleteCertificate(model.Name{Namespace: "default", Name: "a"}) })
	ask()
	if _, next := w.dial("a.test"); next == 2 {
		t.Error("a deleted certificate is still served")
	}
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, r.Proto, " ", r.Host) })
	w.route(a)
	res, err := w.client().Get("https://a.test/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.ProtoMajor != 2 || string(b) != "HTTP/1.1 a.test" {
		t.Errorf("client spoke %s, backend saw %q", res.Proto, b)
	}
	if c, _ := w.dial("a.test", "http/1.1"); c.ConnectionState().NegotiatedProtocol != "http/1.1" {
		t.Errorf("negotiated %q", c.ConnectionState().NegotiatedProtocol)
	}
}

func TestOwnCertificateIsKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	now := time.Unix(1700000000, 0)
	first, err := ownCertificate(Config{CertificateDir: dir}, now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ownCertificate(Config{CertificateDir: dir}, now.Add(24*time.Hour))
	if err != nil || again.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) != 0 {
		t.Errorf("the next start: %v, another certificate", err)
	}
	late, err := ownCertificate(Config{CertificateDir: dir}, now.Add(ownLifetime-ownRenewal))
	if err != nil || late.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) == 0 {
		t.Errorf("near its end: %v, the same certificate", err)
	}
	for _, f := range []string{"default.crt", "default.key"} {
		fi, err := os.Stat(filepath.Join(dir, f))
		if err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f, fi, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "default.key"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(store.New(), Config{CertificateDir: dir, HTTPS: []netip.AddrPort{}}); err == nil {
		t.Error("a broken key was passed over in silence")
	}
}
