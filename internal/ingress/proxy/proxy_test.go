package proxy

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"fairway.dev/fairway/internal/store"
)

func TestRoutesAndRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	say := func(what string) string {
		a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, what, " ", r.Host, r.RequestURI) })
		return a
	}
	w.write(func(x *store.Txn) {
		putService(x, "web", say("web"))
		putService(x, "api", say("api"))
		putService(x, "empty")
		x.PutIngress(ingress("web", "a.test", "/", "web"))
		x.PutIngress(ingress("api", "a.test", "/api", "api"))
		x.PutIngress(ingress("empty", "empty.test", "/", "empty"))
		x.PutIngress(ingress("broken", "broken.test", "/", "absent"))
		bad := ingress("bad", "*", "relative", "web")
		bad.Default = nil
		x.PutIngress(bad)
	})
	c := w.client()
	for _, tt := range []struct {
		url  string
		code int
		body string
	}{
		{"http://a.test/", 200, "web a.test/"},
		{"http://A.Test/x?q=/api", 200, "web A.Test/x?q=/api"},
		{"http://a.test/api", 200, "api a.test/api"},
		{"http://a.test/api/v1?x=%2F", 200, "api a.test/api/v1?x=%2F"},
		{"http://a.test/apis", 200, "web a.test/apis"},
		{"https://a.test/api", 200, "api a.test/api"},
		{"http://b.test/", 404, "no Ingress rule is for host \"b.test\""},
		{"http://empty.test/", 503, "service default/empty has no ready endpoint"},
		{"http://broken.test/", 503, "service default/absent does not exist"},
		{"http://a.test/api/%2e%2e/secret", 400, "resolved"},
		{"http://a.test/api%2Fx", 400, "separator"},
		{"http://a.test/api%5cx", 400, "separator"},
	} {
		code, body := get(t, c, tt.url)
		if code != tt.code || !strings.Contains(body, tt.body) {
			t.Errorf("%s: %d %q, want %d %q", tt.url, code, body, tt.code, tt.body)
		}
	}
	failed := w.st.Statuses()[0].Failed
	if len(failed) != 2 || failed["ingress default/broken"] == nil || failed["ingress default/bad"] == nil {
		t.Errorf("failed objects: %v, want broken and bad alone", failed)
	}

	req, _ := http.NewRequest("GET", "http://b.test/", nil)
	req.Header.Set("Accept", "application/json")
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	if ct := res.Header.Get("Content-Type"); ct != "application/json" || !strings.Contains(string(b), `"code":404`) {
		t.Errorf("JSON refusal: %s %s", ct, b)
	}
	if res.Header.Get("Server") != "fairway" {
		t.Errorf("Server: %q", res.Header.Get("Server"))
	}
}

func TestBodiesOfEverySize(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("backend reads: %v", err)
		}
		rw.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
		rw.Header().Set("X-Sum", fmt.Sprintf("%x", sha256.Sum256(b)))
		_, _ = rw.Write(b)
	})
	w.route(a)
	c := w.client()
	rnd := rand.NewChaCha8([32]byte{1})
	for _, scheme := range []string{"http", "https"} {
		for _, size := range []int{0, 1, 4095, 4096, replayLimit, replayLimit + 1, 3 << 20} {
			for _, chunked := range []bool{false, true} {
				data := make([]byte, size)
				_, _ = rnd.Read(data)
				var body io.Reader = strings.NewReader(string(data))
				if chunked {
					body = io.MultiReader(body) // hides the length
				}
				res, err := c.Post(scheme+"://a.test/", "application/octet-stream", body)
				if err != nil {
					t.Fatalf("%s %d %v: %v", scheme, size, chunked, err)
				}
				back, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(back) != string(data) || res.Header.Get("X-Sum") != fmt.Sprintf("%x", sha256.Sum256(data)) {
					t.Errorf("%s %d bytes, chunked %v: got %d bytes back, %v", scheme, size, chunked, len(back), err)
				}
				if got := res.Header.Get("X-Length"); !chunked && got != fmt.Sprint(size) {
					t.Errorf("%s %d bytes: the backend saw length %s", scheme, size, got)
				}
			}
		}
	}
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer // read after Run has returned
	w := newWorld(t, func(c *Config) { c.AccessLog = slog.New(slog.NewTextHandler(&out, nil)) })
	a, _ := serve(t, func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "hello") })
	w.write(func(x *store.Txn) {
		putService(x, "web", a)
		x.PutIngress(ingress("web", "a.test", "/", "web"))
	})
	get(t, w.client(), "https://a.test/x")
	get(t, w.client(), "http://b.test/y")
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"host=a.test path=/x proto=HTTP/2.0 tls=true code=200 bytes=5", "host=b.test path=/y proto=HTTP/1.1 tls=false code=404"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s lacks %q", out.String(), want)
		}
	}
}
