package dns_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// The client of BenchmarkUDP is this program again, so that its CPU time is not the server's.
const clientEnv = "FAIRWAY_DNS_BENCH_CLIENT"

func TestMain(m *testing.M) {
	if to := os.Getenv(clientEnv); to != "" {
		if err := benchClient(to, os.Getenv("FAIRWAY_DNS_BENCH_CLIENTS"), os.Getenv("FAIRWAY_DNS_BENCH_QUERIES")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if path := os.Getenv(childEnv); path != "" {
		if err := childServer(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const (
	benchServices  = 10_000
	benchEndpoints = 10
)

func benchName(i int) string { return fmt.Sprintf("svc-%d.ns-%d.svc.cluster.local.", i, i%2) }

// benchClient asks that many questions from that many sockets, each with one question under way, and prints how many were
// lost (no answer in 2 s) and how many answers were wrong.
func benchClient(to, clients, queries string) error {
	k, err1 := strconv.Atoi(clients)
	n, err2 := strconv.Atoi(queries)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	var lost, wrong, next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, k)
	for range k {
		wg.Go(func() {
			c, err := net.Dial("udp", to)
			if err != nil {
				errs <- err
				return
			}
			defer c.Close()
			buf := make([]byte, 4096)
			for {
				i := next.Add(1)
				if i > int64(n) {
					return
				}
				m := new(miekg.Msg)
				m.SetQuestion(benchName(int(i*7919%benchServices)), miekg.TypeA)
				m.Id = uint16(i)
				b, err := m.Pack()
				if err != nil {
					errs <- err
					return
				}
				_ = c.SetDeadline(time.Now().Add(2 * time.Second))
				if _, err := c.Write(b); err != nil {
					errs <- err
					return
				}
				switch got, err := c.Read(buf); {
				case err != nil:
					lost.Add(1)
				case got != len(b)+16 || buf[0] != b[0] || buf[1] != b[1] || buf[7] != 1:
					wrong.Add(1)
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	fmt.Printf("%d %d\n", lost.Load(), wrong.Load())
	return <-errs
}

// cpuTime is this process's so far, in nanoseconds: all of it, and the kernel's part.
func cpuTime(b *testing.B) (all, kernel float64) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano() + u.Stime.Nano()), float64(u.Stime.Nano())
}

// BenchmarkUDP is the CPU time of this process, kernel included, for one question over loopback with 10,000 Services of 10 endpoints:
// budget 3 µs with many clients (2026-11).
func BenchmarkUDP(b *testing.B) {
	st := store.New()
	if _, err := st.Update(func(tx *store.Txn) error {
		for i := range benchServices {
			n := fmt.Sprintf("ns-%d/svc-%d", i%2, i)
			tx.PutService(service(n, []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}, "http:80"))
			sl := &model.EndpointSlice{Name: name(n), Service: name(n), Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 8080}}}
			for e := range benchEndpoints {
				k := i*benchEndpoints + e
				sl.Endpoints = append(sl.Endpoints, model.Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(128 + k>>16), byte(k >> 8), byte(k)}), Ready: true})
			}
			tx.PutSlice(sl)
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	srv := serve(b, st, dns.Config{})
	eventually(b, "names", func() bool { return rcode(b, srv, benchName(benchServices-1)) == "NOERROR" })
	for _, clients := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("clients-%d", clients), func(b *testing.B) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), clientEnv+"="+srv.String(), "FAIRWAY_DNS_BENCH_CLIENTS="+strconv.Itoa(clients), "FAIRWAY_DNS_BENCH_QUERIES="+strconv.Itoa(b.N))
			cmd.Stderr = os.Stderr
			all, kernel := cpuTime(b)
			out, err := cmd.Output()
			allAfter, kernelAfter := cpuTime(b)
			if err != nil {
				b.Fatal(err)
			}
			var lost, wrong int
			if _, err := fmt.Sscan(string(out), &lost, &wrong); err != nil || wrong > 0 {
				b.Fatalf("client says %q: %v", out, err)
			}
			b.ReportMetric((allAfter-all)/float64(b.N)/1000, "cpu-µs/query")
			b.ReportMetric((kernelAfter-kernel)/float64(b.N)/1000, "kernel-µs/query")
			b.ReportMetric(float64(lost), "lost")
		})
	}
}
