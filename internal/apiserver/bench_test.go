package apiserver

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// BenchmarkCreateService creates Services from 16 clients at once (client, server and etcd share the machine), with none and
// with 10,000 present. The second must not be slower than the first by more than the bigger caches explain: a budget of the
// project is 2,000 per second with 10,000 present.
func BenchmarkCreateService(b *testing.B) {
	for _, present := range []int{0, 10_000} {
		b.Run(fmt.Sprint("present=", present), func(b *testing.B) {
			dir, err := os.MkdirTemp("", "fw-")
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = os.RemoveAll(dir) }()
			config := dualStack(dir)
			config.NoSync = false
			r, err := start(config)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = r.stop() }()
			createServices(b, r, "fill", present)
			before := cpuTime(b)
			b.ResetTimer()
			createServices(b, r, "bench", b.N)
			b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/create")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
		})
	}
}

func createServices(b *testing.B, r *running, prefix string, count int) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		client, err := kubernetes.NewForConfig(r.ClientConfig("bench"))
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(count) {
					return
				}
				svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(prefix, i)}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}}}
				if _, err := client.CoreV1().Services("default").Create(b.Context(), svc, metav1.CreateOptions{}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// cpuTime is what this process has used so far. Unlike the rate, it does not depend on what else the machine does.
func cpuTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkStart is the time from New to Ready, from an empty directory.
func BenchmarkStart(b *testing.B) {
	var total time.Duration
	for b.Loop() {
		dir, err := os.MkdirTemp("", "fw-")
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		r, err := start(dualStack(dir))
		if err != nil {
			b.Fatal(err)
		}
		total += time.Since(began)
		b.StopTimer()
		if err := r.stop(); err != nil {
			b.Fatal(err)
		}
		_ = os.RemoveAll(dir)
		b.StartTimer()
	}
	b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms/start")
}
