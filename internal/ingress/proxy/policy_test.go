package proxy

import (
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

const nginxDomain = "nginx.ingress.kubernetes.io/"

// asking makes an Ingress with annotations, which are given without their domain.
func asking(name, host, path, service string, annotations ...string) *model.Ingress {
	i := ingress(name, host, path, service)
	for n := 0; n < len(annotations); n += 2 {
		i.Annotations[nginxDomain+annotations[n]] = annotations[n+1]
	}
	return i
}

// mirrorBack answers with what it was sent: request line, Host, and the headers that a test looks at.
func mirrorBack(t testing.TB, name string) string {
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Location", "http://internal/x")
		rw.Header().Add("Set-Cookie", "a=b; Path=/; Domain=internal.test; HttpOnly")
		if r.URL.Path == "/status/404" {
			rw.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprintf(rw, "%s %s %s%s auth=%q prefix=%q user=%q", name, r.Method, r.Host, r.RequestURI,
			r.Header.Get("Authorization"), r.Header.Get("X-Forwarded-Prefix"), r.Header.Get("X-Auth-Request-User"))
		_, _ = io.Copy(rw, r.Body)
	})
	return a
}

// ask sends a request with headers "Key: value" and gives the answer with its body read.
func ask(t testing.TB, c *http.Client, method, url string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Add(k, v)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: body: %v", method, url, err)
	}
	return res, string(b)
}

// TestAnnotationsAtWork sends one request for each row and looks at the answer's code, one header, and the body.
func TestAnnotationsAtWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.TrustedCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} })
	w.write(func(x *store.Txn) {
		putService(x, "web", mirrorBack(t, "web"))
		putService(x, "beta", mirrorBack(t, "beta"))
		putService(x, "sorry", mirrorBack(t, "sorry"))
		putService(x, "nobody")
		x.PutClass(&model.IngressClass{Name: "nginx", Controller: model.IngressController, Parameters: &model.ClassParameters{Kind: "ConfigMap", Name: model.Name{Namespace: "infra", Name: "p"}}})
		x.PutConfigMap(&model.ConfigMap{Name: model.Name{Namespace: "infra", Name: "p"}, Data: map[string]string{"path-matching": "ingress-nginx", "response-headers": "X-Team"}})
		x.PutConfigMap(&model.ConfigMap{Name: model.Name{Namespace: "default", Name: "headers"}, Data: map[string]string{"X-Team": "blue"}})
		x.PutSecret(&model.Secret{Name: model.Name{Namespace: "default", Name: "users"}, Data: map[string][]byte{"auth": []byte(
			"ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")}})
		put := func(i *model.Ingress) { x.PutIngress(i) }
		put(asking("allow", "allow.test", "/", "web", "whitelist-source-range", "192.0.2.0/24,127.0.0.1"))
		put(asking("deny", "deny.test", "/", "web", "denylist-source-range", "192.0.2.0/24"))
		put(asking("perm", "perm.test", "/", "web", "permanent-redirect", "https://new.test$request_uri"))
		put(asking("temp", "temp.test", "/", "web", "temporal-redirect", "https://new.test/x", "temporal-redirect-code", "307"))
		put(asking("root", "root.test", "/", "web", "app-root", "/app"))
		put(asking("force", "force.test", "/", "web", "force-ssl-redirect", "true"))
		secure := asking("secure", "secure.test", "/", "web", "ssl-redirect", "true")
		secure.TLS = []model.IngressTLS{{Hosts: []string{"secure.test"}}}
		put(secure)
		put(asking("plain", "plain.test", "/", "web", "ssl-redirect", "true"))
		put(asking("www", "www.apex.test", "/", "web", "from-to-www-redirect", "true"))
		put(asking("rewrite", "rw.test", "/old", "web", "rewrite-target", "/new", "x-forwarded-prefix", "/old"))
		expr := asking("expr", "expr.test", `/a(/|$)(.*)`, "web", "rewrite-target", "/$2", "ssl-redirect", "false", "custom-headers", "headers")
		expr.Class = "nginx"
		expr.Rules[0].Paths[0].Type = model.PathImplementationSpecific
		expr.TLS = []model.IngressTLS{{Hosts: []string{"expr.test"}}}
		put(expr)
		put(asking("vhost", "vhost.test", "/", "web", "upstream-vhost", "internal.test"))
		put(asking("small", "small.test", "/", "web", "proxy-body-size", "10"))
		put(asking("cors", "cors.test", "/", "web", "enable-cors", "true", "cors-allow-origin", "https://*.friend.test", "cors-max-age", "60"))
		put(asking("every", "every.test", "/", "web", "enable-cors", "true", "cors-allow-credentials", "false"))
		put(asking("cookies", "cookies.test", "/", "web", "proxy-cookie-path", "/ /app/", "proxy-cookie-domain", "internal.test cookies.test",
			"proxy-redirect-from", "http://internal/", "proxy-redirect-to", "https://cookies.test/"))
		put(asking("basic", "basic.test", "/", "web", "auth-type", "basic", "auth-secret", "users", "auth-realm", "Here"))
		put(asking("any", "any.test", "/", "web", "auth-type", "basic", "auth-secret", "users", "whitelist-source-range", "192.0.2.0/24", "satisfy", "any"))
		put(asking("both", "both.test", "/", "web", "auth-type", "basic", "auth-secret", "users", "whitelist-source-range", "192.0.2.0/24"))
		put(asking("gone", "gone.test", "/", "web", "auth-type", "basic", "auth-secret", "missing"))
		put(asking("main", "canary.test", "/", "web"))
		put(asking("beta", "canary.test", "/", "beta", "canary", "true", "canary-by-header", "X-Beta", "canary-by-cookie", "beta", "canary-weight", "0"))
		put(asking("spare", "spare.test", "/", "nobody", "default-backend", "sorry"))
		put(asking("snippet", "snippet.test", "/", "web", "server-snippet", "deny all;"))
	})
	c := w.client()
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, tt := range []struct {
		request string   // method, URL
		headers []string // Key: value
		code    int
		header  string // Key: value of the answer; a value of "" must be absent
		body    string // part of it
	}{
		{"GET http://allow.test/", nil, 200, "", "web GET allow.test/"},
		{"GET http://allow.test/", []string{"X-Forwarded-For: 198.51.100.1"}, 403, "", "may not come in"},
		{"GET http://allow.test/", []string{"X-Forwarded-For: 192.0.2.1, 198.51.100.1"}, 403, "", ""}, // only the last is the trusted proxy's word
		{"GET http://allow.test/", []string{"X-Forwarded-For: 198.51.100.1, 192.0.2.1"}, 200, "", ""},
		{"GET http://deny.test/", []string{"X-Forwarded-For: 192.0.2.1"}, 403, "", ""},
		{"GET http://deny.test/", []string{"X-Forwarded-For: 192.0.3.1"}, 200, "", ""},
		{"GET http://perm.test/a?b=%20", nil, 301, "Location: https://new.test/a?b=%20", ""},
		{"GET http://temp.test/a", nil, 307, "Location: https://new.test/x", ""},
		{"GET http://root.test/", nil, 302, "Location: http://root.test/app", ""},
		{"GET http://root.test/x", nil, 200, "", "web GET root.test/x"},
		{"POST http://force.test/a/?b", nil, 308, "Location: https://force.test/a?b", ""},
		{"GET http://force.test/a", []string{"X-Forwarded-Proto: https"}, 200, "", ""},
		{"GET https://force.test/a", nil, 200, "", ""},
		{"GET http://secure.test/", nil, 308, "Location: https://secure.test/", ""},
		{"GET http://plain.test/", nil, 200, "", ""},
		{"GET http://apex.test/x?y", nil, 308, "Location: http://www.apex.test/x?y", ""},
		{"GET http://www.apex.test/x", nil, 200, "", ""},
		{"GET http://rw.test/old/x?q=1", nil, 200, "", `web GET rw.test/new?q=1 auth="" prefix="/old"`},
		{"GET http://rw.test/old", []string{"X-Forwarded-Prefix: /evil"}, 200, "", `prefix="/old"`},
		{"GET http://expr.test/A/x%20y/?q", nil, 200, "X-Team: blue", "web GET expr.test/x%20y/?q"},
		{"GET http://expr.test/a", nil, 200, "Strict-Transport-Security: ", "web GET expr.test/"},
		{"GET https://expr.test/a", nil, 200, "Strict-Transport-Security: max-age=31536000; includeSubDomains", ""},
		{"GET http://expr.test/a//../secret", nil, 400, "", "resolved"},
		{"GET http://vhost.test/", nil, 200, "", "web GET internal.test/"},
		{"GET http://small.test/", nil, 200, "", ""},
		{"OPTIONS http://cors.test/", []string{"Origin: https://a.friend.test", "Access-Control-Request-Method: PUT"}, 204, "Access-Control-Allow-Origin: https://a.friend.test", ""},
		{"OPTIONS http://cors.test/", []string{"Origin: https://a.friend.test"}, 204, "Access-Control-Max-Age: 60", ""},
		{"GET http://cors.test/", []string{"Origin: https://friend.test.evil.org"}, 200, "Access-Control-Allow-Origin: ", ""},
		{"GET http://cors.test/", []string{"Origin: https://a.friend.test"}, 200, "Access-Control-Allow-Credentials: true", ""},
		{"GET http://cors.test/", []string{"Origin: https://evil.org#.friend.test"}, 200, "Access-Control-Allow-Origin: ", ""},
		{"GET http://every.test/", []string{"Origin: https://x.org"}, 200, "Access-Control-Allow-Origin: *", ""},
		{"GET http://cookies.test/", nil, 200, "Set-Cookie: a=b; Path=/app/; Domain=cookies.test; HttpOnly", ""},
		{"GET http://cookies.test/", nil, 200, "Location: https://cookies.test/x", ""},
		{"GET http://basic.test/", nil, 401, `Www-Authenticate: Basic realm="Here"`, ""},
		{"GET http://basic.test/", []string{"Authorization: Basic YW5uOmFubnB3"}, 401, "", ""},
		{"GET http://both.test/", []string{"Authorization: Basic YW5uOnNlY3JldA=="}, 403, "", ""},
		{"GET http://any.test/", nil, 401, "", ""},
		{"GET http://any.test/", []string{"X-Forwarded-For: 192.0.2.1"}, 200, "", ""},
		{"GET http://gone.test/", []string{"Authorization: Basic YW5uOnNlY3JldA=="}, 503, "", "there is no Secret default/missing"},
		{"GET http://canary.test/", nil, 200, "", "web GET"},
		{"GET http://canary.test/", []string{"X-Beta: always"}, 200, "", "beta GET"},
		{"GET http://canary.test/", []string{"Cookie: beta=always"}, 200, "", "beta GET"},
		{"GET http://canary.test/", []string{"X-Beta: never", "Cookie: beta=always"}, 200, "", "web GET"},
		{"GET http://spare.test/x", nil, 200, "", "sorry GET spare.test/x"},
		{"GET http://snippet.test/", nil, 503, "", "text of a configuration"},
	} {
		method, url, _ := strings.Cut(tt.request, " ")
		res, body := ask(t, c, method, url, tt.headers...)
		key, value, _ := strings.Cut(tt.header, ": ")
		if res.StatusCode != tt.code || key != "" && res.Header.Get(key) != strings.TrimSpace(value) || !strings.Contains(body, tt.body) {
			t.Errorf("%s %q: %d, %s %q, %q; want %d, %q, %q", tt.request, tt.headers, res.StatusCode, key, res.Header.Get(key), body, tt.code, value, tt.body)
		}
	}
	for n, want := range map[int]int{10: 200, 11: 413} {
		res, err := c.Post("http://small.test/", "text/plain", strings.NewReader(long(n)))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("a body of %d bytes where 10 are allowed: %d, want %d", n, res.StatusCode, want)
		}
	}
}

// TestBasicAuthFormats: what htpasswd and openssl write is read, and the password goes no further.
func TestBasicAuthFormats(t *testing.T) {
	t.Parallel()
	bcrypted, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	hashes := map[string]string{
		"sha": "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "ssha": "{SSHA}" + base64.StdEncoding.EncodeToString(append(saltedSum("secret", "salt"), "salt"...)),
		"apr": "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/", "md5": "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1", // as openssl passwd writes them
		"bcrypt": string(bcrypted), "plain": "{PLAIN}secret",
	}
	for name, hash := range hashes {
		if !newPasswords().right(t.Context(), name, "secret", hash) {
			t.Errorf("%s: the password is wrong", name)
		}
		if newPasswords().right(t.Context(), name, "Secret", hash) {
			t.Errorf("%s: a wrong password is right", name)
		}
	}
	p := newPasswords()
	for range 2 {
		if !p.right(t.Context(), "u", "secret", hashes["sha"]) || len(p.good) != 1 {
			t.Errorf("%d passwords remembered", len(p.good))
		}
	}
	if p.right(t.Context(), "u", "secret", hashes["apr"]+"x") {
		t.Error("what is remembered must hold for the stored hash alone")
	}

	w := newWorld(t, nil)
	w.write(func(x *store.Txn) {
		putService(x, "web", mirrorBack(t, "web"))
		x.PutSecret(&model.Secret{Name: model.Name{Namespace: "default", Name: "users"}, Data: map[string][]byte{"ann": []byte(hashes["apr"])}})
		x.PutIngress(asking("basic", "basic.test", "/", "web", "auth-type", "basic", "auth-secret", "users", "auth-secret-type", "auth-map"))
	})
	const good = "Authorization: Basic YW5uOnNlY3JldA==" // ann:secret
	if res, body := ask(t, w.client(), "GET", "http://basic.test/", good); res.StatusCode != 200 || !strings.Contains(body, `auth=""`) {
		t.Errorf("%d %q; want 200, and no password at the endpoint", res.StatusCode, body)
	}
	if res, _ := ask(t, w.client(), "GET", "http://basic.test/", good, good); res.StatusCode != 401 {
		t.Errorf("two Authorization headers: %d, want 401", res.StatusCode)
	}
	w.write(func(x *store.Txn) { x.DeleteSecret(model.Name{Namespace: "default", Name: "users"}) })
	if res, _ := ask(t, w.client(), "GET", "http://basic.test/", good); res.StatusCode != 503 {
		t.Errorf("without the Secret: %d, want 503", res.StatusCode)
	}
}

func saltedSum(password, salt string) []byte {
	sum := sha1.Sum([]byte(password + salt))
	return sum[:]
}

// TestClientLimits: what exceeds the burst is refused, by client, and an open request counts until it ends.
func TestClientLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.TrustedCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} })
	begun, hold := make(chan struct{}, 1), make(chan struct{})
	slow, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			begun <- struct{}{}
			<-hold
		}
	})
	w.write(func(x *store.Txn) {
		putService(x, "web", mirrorBack(t, "web"))
		putService(x, "slow", slow)
		x.PutIngress(asking("rate", "rate.test", "/", "web", "limit-rpm", "1", "limit-burst-multiplier", "4", "limit-whitelist", "192.0.2.9"))
		x.PutIngress(asking("open", "open.test", "/", "slow", "limit-connections", "1"))
	})
	c := w.client()
	codes := map[int]int{}
	for range 20 {
		res, _ := ask(t, c, "GET", "http://rate.test/")
		codes[res.StatusCode]++
	}
	// One at once and a burst of four; a minute gives one more, which a slow machine may see.
	if codes[200] < 5 || codes[200] > 7 || codes[200]+codes[503] != 20 {
		t.Errorf("20 requests at once with 1 a minute and a burst of 4: %v", codes)
	}
	if res, _ := ask(t, c, "GET", "http://rate.test/", "X-Forwarded-For: 198.51.100.7"); res.StatusCode != 200 {
		t.Errorf("another client: %d", res.StatusCode)
	}
	for range 20 {
		if res, _ := ask(t, c, "GET", "http://rate.test/", "X-Forwarded-For: 192.0.2.9"); res.StatusCode != 200 {
			t.Errorf("a client without limits: %d", res.StatusCode)
		}
	}

	done := make(chan int)
	go func() {
		res, err := c.Get("http://open.test/hold")
		if err != nil {
			done <- 0
			return
		}
		res.Body.Close()
		done <- res.StatusCode
	}()
	<-begun
	if res, _ := ask(t, c, "GET", "http://open.test/"); res.StatusCode != 503 {
		t.Errorf("a second request while one is open: %d, want 503", res.StatusCode)
	}
	close(hold)
	if code := <-done; code != 200 {
		t.Errorf("the first request: %d", code)
	}
	if res, _ := ask(t, c, "GET", "http://open.test/"); res.StatusCode != 200 {
		t.Errorf("after it has ended: %d", res.StatusCode)
	}
}

// TestExternalAuth asks a Service, and the host itself, about requests.
func TestExternalAuth(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	auth, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Add("Set-Cookie", "session=1")
		switch {
		case r.URL.Path != "/auth" || r.Header.Get("X-Original-Method") != "POST" && r.Header.Get("X-Original-Method") != "GET":
			rw.WriteHeader(http.StatusTeapot)
		case r.Header.Get("Cookie") == "ok=1":
			rw.Header().Set("X-Auth-Request-User", "ann of "+r.Header.Get("X-Original-Url"))
		case r.Header.Get("Cookie") == "no=1":
			rw.WriteHeader(http.StatusForbidden)
		case r.Header.Get("Cookie") == "loop=1":
			http.Redirect(rw, r, "http://evil.test/", http.StatusFound)
		default:
			rw.Header().Set("Www-Authenticate", "Bearer")
			rw.WriteHeader(http.StatusUnauthorized)
		}
	})
	w.write(func(x *store.Txn) {
		putService(x, "web", mirrorBack(t, "web"))
		putService(x, "auth", auth)
		const byService = "http://auth.default.svc.cluster.local/auth"
		x.PutIngress(asking("svc", "svc.test", "/", "web", "auth-url", byService, "auth-response-headers", "X-Auth-Request-User"))
		x.PutIngress(asking("sign", "sign.test", "/", "web", "auth-url", byService, "auth-signin", "https://$host/start"))
		x.PutIngress(asking("own", "own.test", "/", "web", "auth-url", "https://$host/auth", "auth-response-headers", "X-Auth-Request-User"))
		x.PutIngress(ingress("proxy", "own.test", "/auth", "auth"))
		x.PutIngress(asking("self", "self.test", "/", "web", "auth-url", "https://$host/auth"))
		x.PutIngress(asking("none", "none.test", "/", "web", "auth-url", "http://absent.default.svc/auth"))
	})
	c := w.client()
	for _, tt := range []struct {
		request string
		headers []string
		code    int
		header  string
		body    string
	}{
		{"GET http://svc.test/x?y", []string{"Cookie: ok=1", "X-Auth-Request-User: root"}, 200, "", `user="ann of http://svc.test/x?y"`},
		{"POST http://svc.test/x", []string{"Cookie: ok=1"}, 200, "", `user="ann`},
		{"GET http://svc.test/x", nil, 401, "Www-Authenticate: Bearer", ""},
		{"GET http://svc.test/x", []string{"Cookie: no=1"}, 403, "", ""},
		{"GET http://svc.test/x", []string{"Cookie: loop=1"}, 500, "", ""},
		{"GET http://svc.test/.well-known/acme-challenge/x", nil, 401, "", ""}, // the path of the rule counts, not that of the request
		{"GET http://sign.test/x?y=1", nil, 302, "Location: https://sign.test/start?rd=http://sign.test%2Fx%3Fy%3D1", ""},
		{"GET http://own.test/x", []string{"Cookie: ok=1"}, 200, "", `user="ann of http://own.test/x"`},
		{"GET http://own.test/x", nil, 401, "", ""},
		{"GET http://self.test/x", []string{"Cookie: ok=1"}, 500, "", ""},
		{"GET http://none.test/x", []string{"Cookie: ok=1"}, 500, "", ""},
	} {
		method, url, _ := strings.Cut(tt.request, " ")
		res, body := ask(t, c, method, url, tt.headers...)
		key, value, _ := strings.Cut(tt.header, ": ")
		if res.StatusCode != tt.code || key != "" && res.Header.Get(key) != value || !strings.Contains(body, tt.body) {
			t.Errorf("%s %q: %d, %s %q, %q; want %d, %q, %q", tt.request, tt.headers, res.StatusCode, key, res.Header.Get(key), body, tt.code, value, tt.body)
		}
	}
}

// TestErrorPages: the Service for errors answers in place of some answers, and is told what happened.
func TestErrorPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	app, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		var code int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &code)
		rw.WriteHeader(code)
		fmt.Fprint(rw, strings.Repeat("internals ", 20_000))
	})
	pages, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		code := 0
		_, _ = fmt.Sscan(r.Header.Get("X-Code"), &code)
		rw.WriteHeader(code)
		fmt.Fprintf(rw, "page %s %s %d %s %s %s %s %s", r.Method, r.RequestURI, r.ContentLength, r.Header.Get("X-Original-Uri"), r.Header.Get("X-Namespace"),
			r.Header.Get("X-Ingress-Name"), r.Header.Get("X-Service-Name"), r.Header.Get("X-Service-Port"))
	})
	w.write(func(x *store.Txn) {
		putService(x, "app", app)
		putService(x, "pages", pages)
		x.PutIngress(asking("app", "app.test", "/", "app", "custom-http-errors", "404,503", "default-backend", "pages"))
		x.PutIngress(asking("closed", "closed.test", "/", "app", "custom-http-errors", "403", "default-backend", "pages", "denylist-source-range", "127.0.0.0/8"))
	})
	c := w.client()
	for range 3 { // the connections stay usable
		if res, body := ask(t, c, "GET", "http://app.test/404?x"); res.StatusCode != 404 || body != "page GET / 0 /404?x default app app 80" {
			t.Errorf("%d %.60q", res.StatusCode, body)
		}
		if res, body := ask(t, c, "GET", "http://app.test/500"); res.StatusCode != 500 || !strings.HasPrefix(body, "internals") {
			t.Errorf("%d %.60q", res.StatusCode, body)
		}
		res, err := c.Post("http://app.test/503", "text/plain", io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20))))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != 503 || !strings.HasPrefix(string(b), "page GET / 0") {
			t.Errorf("an upload that is answered 503: %d %.60q, %v", res.StatusCode, b, err)
		}
	}
	if res, body := ask(t, c, "GET", "http://closed.test/200"); res.StatusCode != 403 || strings.Contains(body, "page") {
		t.Errorf("a refusal of the proxy's own: %d %.60q", res.StatusCode, body)
	}
}

// TestReadTimeoutOfARoute: the time of one Ingress is its own.
func TestReadTimeoutOfARoute(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	hold := make(chan struct{})
	slow, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) { <-hold })
	t.Cleanup(func() { close(hold) })
	w.write(func(x *store.Txn) {
		putService(x, "slow", slow)
		x.PutIngress(asking("short", "short.test", "/", "slow", "proxy-read-timeout", "1"))
	})
	if res, _ := ask(t, w.client(), "POST", "http://short.test/"); res.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("an answer that does not come within a second: %d", res.StatusCode)
	}
}

// TestSNIAndHostDisagree is H7: the certificate follows the server name, the route the Host header.
func TestSNIAndHostDisagree(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.write(func(x *store.Txn) {
		putService(x, "web", mirrorBack(t, "web"))
		x.PutIngress(ingress("a", "a.test", "/", "web"))
	})
	conn, err := tls.Dial("tcp", w.tls, &tls.Config{InsecureSkipVerify: true, ServerName: "other.test"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "web GET a.test/") {
		t.Errorf("answer %q", b)
	}
}
