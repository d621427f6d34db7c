package cluster_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// shape gives the keys of a JSON document, and its values but for times.
func shape(t testing.TB, body string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var b strings.Builder
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				walk(path+"."+k, v[k])
			}
		case string:
			fmt.Fprintf(&b, "\n%s a string", path)
		default:
			fmt.Fprintf(&b, "\n%s %v", path, v)
		}
	}
	walk("", v)
	return b.String()
}
