package proxy

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"fairway.dev/fairway/internal/ingress/compile"
	"fairway.dev/fairway/internal/store"
)

// BenchmarkApplyOneOf5000 is what the proxy spends to put one changed Ingress among 5,000, each with a Service of its own, in force, and to report it;
// cpu-ms/op is processor time, which a busy machine does not stretch. The budget is 50 ms.
func BenchmarkApplyOneOf5000(b *testing.B) {
	st := store.New()
	if _, err := st.Update(func(x *store.Txn) error {
		for i := range 5000 {
			n := fmt.Sprint("web-", i)
			putService(x, n, "10.0.0.1:8080")
			ing := ingress(n, n+".example.com", "/", n)
			ing.Created = time.Unix(int64(i), 0)
			x.PutIngress(ing)
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	cur := st.Follow("")
	defer cur.Close()
	f := newFollower(compile.Options{WithoutClass: true}, func(*routing) {})
	next := func() {
		snap, d, err := cur.Next(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		f.apply(snap, d)
		f.settle()
		_ = failures(f.now.findings())
	}
	snap, d, err := cur.Next(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	d.All = true
	f.apply(snap, d)
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	b.ReportAllocs()
	n, start := 0, cpu()
	for b.Loop() {
		row := ingress("web-7", "web-7.example.com", fmt.Sprint("/", n), "web-7")
		row.Created = time.Unix(7, 0)
		if _, err := st.Update(func(x *store.Txn) error { x.PutIngress(row); return nil }); err != nil {
			b.Fatal(err)
		}
		next()
		n++
	}
	b.ReportMetric(float64((cpu()-start).Microseconds())/1000/float64(n), "cpu-ms/op")
}
