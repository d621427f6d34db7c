package probe_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairway.dev/fairway/internal/node/probe"
)

// Each attempt is a letter: + succeeds, - fails. The last one goes on for ever. The clock is the test's own.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		kind     probe.Kind
		exec     bool
		probe    corev1.Probe
		attempts string
		want     string // verdicts with the second in which they came
		failed   int    // attempts reported as failed in the first 20 seconds
	}{
		{"ready at once", probe.Readiness, false, corev1.Probe{PeriodSeconds: 10}, "+", "true@0", 0},
		{"a program that needs a moment", probe.Readiness, false, corev1.Probe{PeriodSeconds: 10}, "---+", "true@0", 0},
		{"not for a command", probe.Readiness, true, corev1.Probe{PeriodSeconds: 10, FailureThreshold: 3}, "-+", "true@10", 1},
		{"initial delay", probe.Readiness, false, corev1.Probe{PeriodSeconds: 1, InitialDelaySeconds: 5}, "+", "true@5", 0},
		{"two successes", probe.Readiness, true, corev1.Probe{PeriodSeconds: 2, SuccessThreshold: 2, FailureThreshold: 9}, "-++", "true@4", 1},
		{"three failures", probe.Liveness, false, corev1.Probe{PeriodSeconds: 2, FailureThreshold: 3}, "+--+---", "true@0 false@12", 8},
		{"failure from the start", probe.Liveness, false, corev1.Probe{PeriodSeconds: 5, FailureThreshold: 2}, "-", "false@5", 4},
		{"back again", probe.Readiness, true, corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1}, "+-+", "true@0 false@1 true@2", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second-time.Millisecond)
				defer cancel()
				begun := time.Now()
				if test.exec {
					test.probe.Exec = &corev1.ExecAction{}
				}
				var verdicts []string
				made, failed := 0, 0
				probe.Task{
					Kind: test.kind, Probe: &test.probe, StartedAt: begun,
					Attempt: func(context.Context) probe.Result {
						at := min(made, len(test.attempts)-1)
						made++
						return probe.Result{OK: test.attempts[at] == '+'}
					},
					Verdict: func(ok bool) {
						verdicts = append(verdicts, fmt.Sprintf("%t@%d", ok, int(time.Since(begun).Seconds())))
					},
					Failed: func(probe.Result) { failed++ },
				}.Run(ctx)
				if got := strings.Join(verdicts, " "); got != test.want || failed != test.failed {
					t.Errorf("verdicts %q, %d failed attempts, want %q, %d", got, failed, test.want, test.failed)
				}
			})
		})
	}
}

func TestAttempt(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/bad":
			http.Error(w, "no", http.StatusInternalServerError)
		case "/slow":
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Second):
			}
		}
	}))
	defer server.Close()
	address := netip.MustParseAddrPort(strings.TrimPrefix(server.URL, "http://"))
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	nobody := intstr.FromInt32(int32(netip.MustParseAddrPort(closed.Addr().String()).Port()))
	port := intstr.FromInt32(int32(address.Port()))
	c := &corev1.Container{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(address.Port())}}}
	get := func(path string, port intstr.IntOrString) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: port}}
	}
	connect := func(port intstr.IntOrString) corev1.ProbeHandler {
		return corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port}}
	}
	for _, test := range []struct {
		name    string
		handler corev1.ProbeHandler
		ok      bool
		output  string
	}{
		{"answer", get("/", port), true, ""},
		{"port by name", get("/", intstr.FromString("web")), true, ""},
		{"no such port", get("/", intstr.FromString("other")), false, "other"},
		{"error", get("/bad", port), false, "500"},
		{"too slow", get("/slow", port), false, "deadline exceeded"},
		{"nobody", get("/", nobody), false, "refused"},
		{"connection", connect(port), true, ""},
		{"no connection", connect(nobody), false, "refused"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		got := probe.Attempt(ctx, &test.handler, c, address.Addr().String())
		cancel()
		if got.OK != test.ok || !strings.Contains(got.Output, test.output) {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}
