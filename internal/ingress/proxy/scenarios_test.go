package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"fairway.dev/fairway/internal/ingress/compile"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// These are the five features of the conformance suite for Ingress controllers: default backend, host rules, ingress class, load balancing and path
// rules. What it asks of the status of another class's Ingress is in test/e2e/testdata/ingress-status.txtar, since it needs an API.

// named answers with its name, the method and the protocol.
func named(t testing.TB, name string) string {
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Service", name)
		fmt.Fprintf(rw, "%s %s %s", name, r.Method, r.Proto)
	})
	return a
}

// service gives the name of the Service that answered, or the code.
func service(t testing.TB, c *http.Client, url string) string {
	t.Helper()
	res, _ := ask(t, c, "GET", url)
	if s := res.Header.Get("X-Service"); s != "" {
		return s
	}
	return fmt.Sprint(res.StatusCode)
}

func TestScenarioDefaultBackend(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.write(func(x *store.Txn) {
		putService(x, "all", named(t, "all"))
		x.PutIngress(&model.Ingress{Name: model.Name{Namespace: "default", Name: "all"}, Annotations: map[string]string{},
			Default: &model.IngressBackend{Service: "all", PortName: "http"}})
	})
	c := w.client()
	for _, tt := range []struct{ method, path string }{{"GET", "/"}, {"GET", "/a-path"}, {"POST", "/"}, {"PUT", "/resource"}, {"DELETE", "/some/path"}, {"PATCH", "/resource"}} {
		res, body := ask(t, c, tt.method, "http://some.host.test"+tt.path)
		if res.StatusCode != 200 || body != "all "+tt.method+" HTTP/1.1" || res.Proto != "HTTP/1.1" {
			t.Errorf("%s %s: %d %s %q", tt.method, tt.path, res.StatusCode, res.Proto, body)
		}
		for _, h := range []string{"Content-Length", "Content-Type", "Date", "Server"} {
			if res.Header.Get(h) == "" {
				t.Errorf("%s %s: the answer has no %s", tt.method, tt.path, h)
			}
		}
	}
}

func TestScenarioHostRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	cert, pool := secretFor(t, "conformance-tls", "foo.bar.com")
	w.write(func(x *store.Txn) {
		x.PutCertificate(cert)
		for _, n := range []string{"wildcard", "exact"} {
			putService(x, n, named(t, n))
		}
		host := func(name, host string) *model.Ingress {
			i := ingress(name, host, "/", name)
			i.Rules[0].Paths[0].Backend = model.IngressBackend{Service: name, PortName: "http"}
			return i
		}
		x.PutIngress(host("wildcard", "*.foo.com"))
		exact := host("exact", "foo.bar.com")
		exact.TLS = []model.IngressTLS{{Hosts: []string{"foo.bar.com"}, Secret: "conformance-tls"}}
		x.PutIngress(exact)
	})
	c := w.client()
	for url, want := range map[string]string{
		"http://foo.bar.com/": "exact", "http://subdomain.bar.com/": "404",
		"http://bar.foo.com/": "wildcard", "http://baz.bar.foo.com/": "404", "http://foo.com/": "404",
	} {
		if got := service(t, c, url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
	tr := c.Transport.(*http.Transport)
	tr.TLSClientConfig = &tls.Config{RootCAs: pool} // verified, unlike in other tests
	if got := service(t, c, "https://foo.bar.com/"); got != "exact" {
		t.Errorf("https://foo.bar.com/ with the Secret's certificate verified: %s", got)
	}
	if _, err := c.Get("https://bar.foo.com/"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a host without a certificate passed verification: %v", err)
	}
}

// secretFor gives a Secret with a certificate of its own authority, and a pool that trusts it.
func secretFor(t *testing.T, name, host string) (*model.Certificate, *x509.CertPool) {
	t.Helper()
	row := secret(t, name, 1, host)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(row.Cert) {
		t.Fatal("no certificate in the Secret")
	}
	return row, pool
}

func TestScenarioIngressClass(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	other := ingress("other", "other.test", "/", "web")
	other.Class = "some-invalid-class-name"
	w.write(func(x *store.Txn) {
		putService(x, "web", named(t, "web"))
		x.PutIngress(other)
	})
	if got := service(t, w.client(), "http://other.test/"); got != "404" {
		t.Errorf("an Ingress of a class that does not exist: %s, want 404", got)
	}
	if compile.Owns(w.st.Snapshot(), compile.Options{WithoutClass: true}, other) {
		t.Error("its status would be written")
	}
}

func TestScenarioLoadBalancing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	one := func(i int) string {
		a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, i) })
		return a
	}
	w.write(func(x *store.Txn) {
		putService(x, "echo", one(0))
		x.PutIngress(ingress("echo", "load.test", "/", "echo"))
	})
	var pods []string
	for i := range 10 {
		pods = append(pods, one(i))
	}
	w.write(func(x *store.Txn) { putEndpoints(x, "echo", pods...) }) // scaled to 10
	seen := map[string]int{}
	c := w.client()
	for range 100 {
		code, body := get(t, c, "http://load.test/")
		if code != 200 {
			t.Fatalf("answered %d", code)
		}
		seen[body]++
	}
	if len(seen) != 10 {
		t.Errorf("100 requests reached %d of 10 Pods: %v", len(seen), seen)
	}
}

// TestScenarioPathRules is the path rules feature and the table of the specification, rows P1 to P16.
func TestScenarioPathRules(t *testing.T) {
	t.Parallel()
	const exact, prefix, special = model.PathExact, model.PathPrefix, model.PathImplementationSpecific
	type rule struct {
		path string
		typ  model.PathType
	}
	w := newWorld(t, nil)
	c := w.client()
	tests := []struct {
		rules   []rule
		request string
		want    string // the rule's path and type, or 404
	}{
		{[]rule{{"/", prefix}}, "/anything/at/all", "/ Prefix"}, {[]rule{{"/", prefix}}, "/", "/ Prefix"},
		{[]rule{{"/foo", exact}}, "/foo", "/foo Exact"}, {[]rule{{"/foo", exact}}, "/bar", "404"}, {[]rule{{"/foo", exact}}, "/foo/", "404"},
		{[]rule{{"/foo", exact}}, "/FOO", "404"}, {[]rule{{"/foo", exact}}, "/foo/bar", "404"}, {[]rule{{"/foo/", exact}}, "/foo", "404"},
		{[]rule{{"/foo", prefix}}, "/foo", "/foo Prefix"}, {[]rule{{"/foo", prefix}}, "/foo/", "/foo Prefix"}, {[]rule{{"/foo", prefix}}, "/foo/x", "/foo Prefix"},
		{[]rule{{"/foo/", prefix}}, "/foo", "/foo/ Prefix"}, {[]rule{{"/foo/", prefix}}, "/foo/", "/foo/ Prefix"},
		{[]rule{{"/foo", prefix}}, "/FOO", "404"}, {[]rule{{"/foo", prefix}}, "/foobar", "404"},
		{[]rule{{"/aaa/bb", prefix}}, "/aaa/bbb", "404"}, {[]rule{{"/aaa/bb", prefix}}, "/aaa/bb/c", "/aaa/bb Prefix"},
		{[]rule{{"/aaa/bbb", prefix}}, "/aaa/bbb", "/aaa/bbb Prefix"}, {[]rule{{"/aaa/bbb", prefix}}, "/aaa/bbb/", "/aaa/bbb Prefix"},
		{[]rule{{"/aaa/bbb", prefix}}, "/aaa/bbb/ccc", "/aaa/bbb Prefix"}, {[]rule{{"/aaa/bbb", prefix}}, "/aaa/bbbxyz", "404"},
		{[]rule{{"/aaa/bbb/", prefix}}, "/aaa/bbb", "/aaa/bbb/ Prefix"}, {[]rule{{"/aaa/bbb/", prefix}}, "/aaa/bbb/", "/aaa/bbb/ Prefix"},
		{[]rule{{"/", prefix}, {"/aaa", prefix}}, "/aaa/ccc", "/aaa Prefix"},
		{[]rule{{"/", prefix}, {"/aaa", prefix}, {"/aaa/bbb", prefix}}, "/aaa/bbb", "/aaa/bbb Prefix"},
		{[]rule{{"/", prefix}, {"/aaa", prefix}, {"/aaa/bbb", prefix}}, "/ccc", "/ Prefix"},
		{[]rule{{"/aaa", prefix}}, "/ccc", "404"},
		{[]rule{{"/foo", prefix}, {"/foo", exact}}, "/foo", "/foo Exact"}, {[]rule{{"/foo", prefix}, {"/foo", exact}}, "/foo/x", "/foo Prefix"},
		{[]rule{{"/foo", exact}, {"/foo/", prefix}}, "/foo", "/foo Exact"}, {[]rule{{"/foo", exact}, {"/foo/", prefix}}, "/foo/", "/foo/ Prefix"},
		{[]rule{{"/foo", special}}, "/foo/x", "/foo ImplementationSpecific"}, {[]rule{{"/foo", special}}, "/foobar", "404"},
		{[]rule{{"/foo", prefix}}, "/foo?x=/bar", "/foo Prefix"},
	}
	// Each row has a host of its own, so that one table serves all.
	services := map[string]bool{}
	w.write(func(x *store.Txn) {
		for n, tt := range tests {
			i := ingress(fmt.Sprint("row-", n), fmt.Sprintf("row-%d.test", n), "/", "x")
			i.Rules[0].Paths = nil
			for _, r := range tt.rules {
				name := strings.ToLower(strings.Trim(strings.ReplaceAll(r.path, "/", "-"), "-") + "-" + string(r.typ) + fmt.Sprint(len(r.path)))
				name = strings.TrimPrefix(name, "-")
				if !services[name] {
					services[name] = true
					putService(x, name, named(t, r.path+" "+string(r.typ)))
				}
				i.Rules[0].Paths = append(i.Rules[0].Paths, model.IngressPath{Path: r.path, Type: r.typ, Backend: model.IngressBackend{Service: name, PortNumber: 80}})
			}
			x.PutIngress(i)
		}
	})
	for n, tt := range tests {
		if got := service(t, c, fmt.Sprintf("http://row-%d.test%s", n, tt.request)); got != tt.want {
			t.Errorf("%v, request %s: %s, want %s", tt.rules, tt.request, got, tt.want)
		}
	}
}
