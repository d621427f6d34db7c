package upstreamlog

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"k8s.io/klog/v2"
)

// TestRoute logs as upstream does and holds the level that each record arrives with. It is the only test: klog is one per process.
func TestRoute(t *testing.T) {
	var first, second bytes.Buffer
	Route(slog.New(slog.NewTextHandler(&first, &slog.HandlerOptions{Level: slog.LevelInfo})))
	Route(slog.New(slog.NewTextHandler(&second, nil)))
	klog.ErrorS(errors.New("connection refused"), "it failed", "resource", "services")
	klog.InfoS("it works")
	klog.Warning("for operators")
	klog.Flush()
	got := first.String()
	for _, want := range []string{"level=INFO", `msg="it failed"`, "component=kubernetes", `err="connection refused"`, "resource=services"} {
		if !strings.Contains(got, want) {
			t.Errorf("an error arrives as %q, without %s", got, want)
		}
	}
	if n := strings.Count(got, "\n"); n != 1 {
		t.Errorf("%d records at the level of news, want the error alone:\n%s", n, got)
	}
	if second.Len() > 0 {
		t.Errorf("the second logger got %q", &second)
	}
}
