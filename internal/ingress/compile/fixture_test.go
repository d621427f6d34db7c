package compile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

func name(n string) model.Name { return model.Name{Namespace: "default", Name: n} }

// snapshot makes one from rows; Ingresses are as old as their place in the list.
func snapshot(t testing.TB, rows ...any) *store.Snapshot {
	t.Helper()
	st := store.New()
	if _, err := st.Update(func(x *store.Txn) error {
		for i, r := range rows {
			switch r := r.(type) {
			case *model.Ingress:
				if r.Created.IsZero() {
					r.Created = time.Unix(int64(i), 0)
				}
				x.PutIngress(r)
			case *model.IngressClass:
				x.PutClass(r)
			case *model.Service:
				x.PutService(r)
			case *model.EndpointSlice:
				x.PutSlice(r)
			case *model.Certificate:
				x.PutCertificate(r)
			case *model.Secret:
				x.PutSecret(r)
			case *model.ConfigMap:
				x.PutConfigMap(r)
			default:
				t.Fatalf("no row: %T", r)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return st.Snapshot()
}

// to names port 80 of a Service.
func to(service string) model.IngressBackend {
	return model.IngressBackend{Service: service, PortNumber: 80}
}

func exact(p string) model.IngressPath {
	return model.IngressPath{Path: p, Type: model.PathExact, Backend: to("exact " + p)}
}

func prefix(p string) model.IngressPath {
	return model.IngressPath{Path: p, Type: model.PathPrefix, Backend: to("prefix " + p)}
}

func rule(host string, paths ...model.IngressPath) model.IngressRule {
	return model.IngressRule{Host: host, Paths: paths}
}

func ing(n string, rules ...model.IngressRule) *model.Ingress {
	return &model.Ingress{Name: name(n), Rules: rules, Annotations: map[string]string{}}
}

func withDefault(i *model.Ingress, service string) *model.Ingress {
	b := to(service)
	i.Default = &b
	return i
}

var standalone = Options{WithoutClass: true}

// where gives the Service that a request goes to, or "404", or "503" and "400" when it is refused.
func where(t testing.TB, tab *Table, host, path string) string {
	t.Helper()
	h, ok := CanonicalHost(host)
	if !ok {
		return "400"
	}
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return "400"
	}
	p, err := CanonicalPath(u)
	if err != nil {
		return "400"
	}
	r, miss := tab.Find(h, p)
	switch {
	case (r == nil) != (miss != Found):
		t.Fatalf("%s%s: route %v and miss %d contradict each other", host, path, r, miss)
	case r == nil:
		return "404"
	case r.Refused != "":
		return "503"
	}
	return tab.Backends[r.Backend].Ref.Service.Name
}

// certificate makes a Secret with a self-signed certificate for the given names.
func certificate(t testing.TB, n string, dns ...string) *model.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: dns, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<36, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &model.Certificate{Name: name(n), Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})}
}
