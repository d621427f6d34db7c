package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"fairway.dev/fairway/internal/store"
)

// The backend and the clients of the benchmarks run in a process of their own, so that this process's CPU time is that of the
// proxy alone. The test binary starts itself in that role.
const loadRole = "FAIRWAY_INGRESS_LOAD"

func TestMain(m *testing.M) {
	switch os.Getenv(loadRole) {
	case "":
		os.Exit(m.Run())
	case "backend":
		benchBackend()
	case "clients":
		benchClients(os.Args[1], os.Args[2])
	}
}

const benchBody = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Wed, 25 Nov 2026 00:00:00 GMT\r\nContent-Length: 128\r\n\r\n"

// benchBackend answers every request with 128 bytes, as cheaply as it can, until its standard input ends.
func benchBackend() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	answer := []byte(benchBody + strings.Repeat("x", 128))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				br := bufio.NewReader(c)
				for {
					for {
						line, err := br.ReadSlice('\n')
						if err != nil {
							return
						}
						if len(line) == 2 {
							break
						}
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// benchClients sends n requests over 16 keep-alive connections and prints how many were answered 200 with a whole body.
func benchClients(addr, count string) {
	var n int
	fmt.Sscan(count, &n)
	const conns = 16
	request := []byte("GET /some/path HTTP/1.1\r\nHost: a.test\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	good := make([]int, conns)
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return
			}
			defer c.Close()
			br := bufio.NewReader(c)
			for range (n + conns - 1 - i) / conns {
				if _, err := c.Write(request); err != nil {
					return
				}
				res, err := http.ReadResponse(br, nil)
				if err != nil {
					return
				}
				k, err := io.Copy(io.Discard, res.Body)
				if err != nil || k != 128 || res.StatusCode != 200 {
					return
				}
				good[i]++
			}
		})
	}
	wg.Wait()
	total := 0
	for _, g := range good {
		total += g
	}
	fmt.Println(total)
}

func startBackend(b *testing.B) string {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), loadRole+"=backend")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(addr)
}

// measure runs b.N requests against addr and reports the CPU time for each of the process pid, in user and system mode.
func measure(b *testing.B, addr string, pid int) {
	b.Helper()
	b.ReportAllocs()
	run := func(n int) {
		cmd := exec.Command(os.Args[0], addr, fmt.Sprint(n))
		cmd.Env = append(os.Environ(), loadRole+"=clients")
		out, err := cmd.Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != fmt.Sprint(n) {
			b.Fatalf("%d requests: %s answered, %v", n, got, err)
		}
	}
	run(200) // connections are made
	before := cpu(b, pid)
	b.ResetTimer()
	run(b.N)
	b.StopTimer()
	b.ReportMetric(float64((cpu(b, pid)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// cpu reads the 14th and 15th field of /proc/PID/stat, in ticks of 10 ms: make b.N large.
func cpu(b *testing.B, pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(fields[11], &user); err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscan(fields[12], &system); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

const nginxConf = `daemon off; master_process off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 1024; }
http {
  access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  keepalive_requests 100000000;
  upstream web { server %[2]s; keepalive 64; keepalive_requests 100000000; }
  server {
    listen %[3]s; server_name a.test;
    location / {
      proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
    }
  }
}`

// startNginx gives the address and process of an nginx that proxies to backend.
func startNginx(b *testing.B, backend string) (addr string, pid int) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		b.Skip("nginx is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr = l.Addr().String()
	l.Close()
	dir := b.TempDir()
	conf := dir + "/nginx.conf"
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, backend, addr), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(path, "-e", dir+"/error.log", "-c", conf)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return addr, cmd.Process.Pid
		}
		if time.Now().After(deadline) {
			b.Fatalf("nginx does not listen: %v", err)
		}
	}
}

// BenchmarkKeepAlive is the figure of the budget: CPU per proxied request on kept connections, 128-byte answer, beside
// httputil.ReverseProxy and nginx on the same load.
func BenchmarkKeepAlive(b *testing.B) {
	b.Run("fairway", func(b *testing.B) {
		w := newWorld(b, nil)
		w.route(startBackend(b))
		measure(b, w.plain, os.Getpid())
	})
	b.Run("httputil", func(b *testing.B) {
		u, err := url.Parse("http://" + startBackend(b))
		if err != nil {
			b.Fatal(err)
		}
		rp := &httputil.ReverseProxy{
			Rewrite:   func(pr *httputil.ProxyRequest) { pr.SetURL(u); pr.Out.Host = pr.In.Host; pr.SetXForwarded() },
			Transport: &http.Transport{MaxIdleConnsPerHost: 256},
		}
		s := httptest.NewServer(rp)
		b.Cleanup(s.Close)
		measure(b, s.Listener.Addr().String(), os.Getpid())
	})
	b.Run("nginx", func(b *testing.B) {
		addr, pid := startNginx(b, startBackend(b))
		measure(b, addr, pid)
	})
}

// BenchmarkEndpointChange is the cost of one changed Service among 5,000 Ingresses with a backend of their own each, from the store to
// the report.
func BenchmarkEndpointChange(b *testing.B) {
	w := newWorld(b, nil)
	w.write(func(x *store.Txn) {
		for i := range 5000 {
			n := fmt.Sprint("web-", i)
			putService(x, n, fmt.Sprintf("127.1.%d.%d:80", i/250, i%250+1))
			x.PutIngress(ingress(n, n+".test", "/", n))
		}
	})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.write(func(x *store.Txn) { putEndpoints(x, "web-42", fmt.Sprintf("127.2.0.%d:80", i%250+1)) })
	}
}

// BenchmarkRouteChange is the same for one changed Ingress; the budget is 50 ms.
func BenchmarkRouteChange(b *testing.B) {
	w := newWorld(b, nil)
	w.write(func(x *store.Txn) {
		for i := range 5000 {
			n := fmt.Sprint("web-", i)
			putService(x, n, fmt.Sprintf("127.1.%d.%d:80", i/250, i%250+1))
			x.PutIngress(ingress(n, n+".test", "/", n))
		}
	})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.write(func(x *store.Txn) { x.PutIngress(ingress("web-42", "web-42.test", fmt.Sprint("/", i), "web-42")) })
	}
}
