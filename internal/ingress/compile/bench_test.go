package compile

import (
	"fmt"
	"testing"
)

func many(n int) []any {
	rows := make([]any, 0, n)
	for i := range n {
		rows = append(rows, ing(fmt.Sprint("ing-", i), rule(fmt.Sprintf("host-%d.example.com", i), prefix("/"), prefix("/api"), exact("/healthz"))))
	}
	return rows
}

// BenchmarkBuild5000 is the cost of the first table with 5,000 Ingresses of three paths.
func BenchmarkBuild5000(b *testing.B) {
	snap := snapshot(b, many(5000)...)
	b.ReportAllocs()
	for b.Loop() {
		Build(snap, standalone, nil)
	}
}

// BenchmarkFind is the cost per request of the lookup in such a table.
func BenchmarkFind(b *testing.B) {
	tab := Build(snapshot(b, many(5000)...), standalone, nil)
	b.ReportAllocs()
	for b.Loop() {
		h, _ := CanonicalHost("host-4711.example.com")
		if r, _ := tab.Find(h, "/api/v1/images/42"); r == nil {
			b.Fatal("no route")
		}
	}
}
