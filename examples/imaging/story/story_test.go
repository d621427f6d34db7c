package story

import (
	"crypto/tls"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }

func TestExcuse(t *testing.T) {
	t.Parallel()
	k := &kill{Before: at(1000), Dead: at(1005)}
	for _, test := range []struct {
		name       string
		kill       *kill
		start, end int
		err        string
		want       string
	}{
		{"cut while open", k, 990, 1002, `Post "http://10.96.0.1/": EOF`, wasOpen},
		{"reset while open", k, 990, 1002, "read tcp 10.1.1.1:4->10.96.0.1:80: read: connection reset by peer", wasOpen},
		{"ingress lost its connection", k, 990, 1002, "502 Bad Gateway: upstream closed", wasOpen},
		{"taken for a dying process", k, 1003, 1006, "EOF", wasOpen},
		{"refused just after", k, 1010, 1011, "dial tcp 10.96.0.1:80: connect: connection refused", ""},
		{"pictures missing", k, 900, 1050, "2 " + picturesMissing, wasOpen},
		{"no kill", nil, 990, 1002, "EOF", ""},
		{"over before the kill", k, 900, 999, "EOF", ""},
		{"cut, but begun after the death", k, 1010, 1020, "EOF", ""},
		{"refused before the kill", k, 990, 999, "connection refused", ""},
		{"timeout over the kill", k, 990, 11000, "context deadline exceeded", ""},
		{"no endpoint", k, 1010, 1011, "503 Service Unavailable: no endpoints", ""},
		{"ingress did not try another", k, 1010, 1011, "502 Bad Gateway: connect: refused", ""},
	} {
		if got := test.kill.excuse(Failure{Started: at(test.start), Ended: at(test.end), Error: test.err}); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	l := newLedger()
	k := &kill{Before: at(0), Dead: at(1)}
	l.begin("one")
	l.answered("web", answer{"a", "v1"}, 3*time.Millisecond)
	l.answered("web", answer{"b", "v1"}, 1*time.Millisecond)
	l.answered("page", answer{}, 7*time.Millisecond)
	l.begin("two")
	l.mark()
	l.answered("web", answer{"b", "v2"}, 2*time.Millisecond)
	l.failed("web", at(-5), at(5), "EOF")
	l.failed("web", at(50), at(55), "timeout")
	l.add("gallery", map[answer]int64{{"c", "v2"}: 4, {"d", "v2"}: 0}, []Failure{{Started: at(50), Ended: at(51), Error: "no"}}, 2)

	one, two := l.phaseReport("one", k), l.phaseReport("two", k)
	if r := one.All; r.Requests != 3 || r.Failures != 0 || !slices.Equal(r.Servers, []string{"a", "b"}) || !slices.Equal(r.Versions, []string{"v1"}) || r.Max != 7*time.Millisecond || r.P50 != 3*time.Millisecond {
		t.Errorf("phase one: %+v", r)
	}
	if r := two.All; r.Requests != 10 || r.Failures != 5 || r.Excused != 1 || r.bad() != 4 || !slices.Equal(r.Servers, []string{"b", "c"}) {
		t.Errorf("phase two: %+v", r)
	}
	if len(two.Clients) != 3 || two.Clients[0].Client != "web" || two.Clients[1].Requests != 0 || two.Clients[2].Requests != 7 {
		t.Errorf("clients of phase two: %+v", two.Clients)
	}
	if f := two.Clients[0].Failed; f[0].Phase != "two" || f[0].Excuse != wasOpen || f[1].Excuse != "" {
		t.Errorf("failures of web: %+v", f)
	}
	heard := l.heard()
	if len(heard) != 2 || !slices.Contains(heard, answer{"b", "v2"}) || !slices.Contains(heard, answer{"c", "v2"}) {
		t.Errorf("heard since the mark: %v", heard)
	}
}

func TestGallerySince(t *testing.T) {
	t.Parallel()
	before := galleryStats{Requests: 10, Failures: 1, Servers: map[string]int64{"a": 9}, Versions: map[string]int64{"v1": 9}, Errors: []Failure{{Error: "old"}}}
	now := galleryStats{Requests: 20, Failures: 5, Servers: map[string]int64{"a": 9, "b": 6}, Versions: map[string]int64{"v1": 9, "v2": 6},
		Errors: []Failure{{Error: "old"}, {Error: "x"}, {Error: "y"}}}
	answers, failures, unseen := since(before, now)
	if len(answers) != 1 || answers[answer{"b", "v2"}] != 6 || len(failures) != 3 || unseen != 1 {
		t.Errorf("%v %v %d", answers, failures, unseen)
	}
	if _, failures, unseen := since(before, before); len(failures) != 0 || unseen != 0 {
		t.Errorf("of no change: %v %d", failures, unseen)
	}
	now.Versions["v1"] = 10
	if answers, _, _ := since(before, now); answers[answer{"b", ""}] != 6 {
		t.Errorf("two versions at once: %v", answers)
	}
}

func pod(name, image string, isReady bool, ending bool) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: image}}}}
	if isReady {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	if ending {
		p.DeletionTimestamp = &metav1.Time{Time: noon}
	}
	return p
}

func TestUnsettled(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pods []corev1.Pod
		want string
	}{
		{[]corev1.Pod{pod("a", first, true, false), pod("b", first, true, false)}, ""},
		{[]corev1.Pod{pod("a", first, true, false)}, "1 Pods, not 2"},
		{[]corev1.Pod{pod("a", first, true, false), pod("b", first, false, false)}, "b is not ready"},
		{[]corev1.Pod{pod("a", second, true, false), pod("b", first, true, true)}, "a is of imaging:v2, b is ending"},
	} {
		if got := unsettled(test.pods, 2, first); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestStrays(t *testing.T) {
	t.Parallel()
	pods := []corev1.Pod{pod("a", second, true, false)}
	got := strays([]answer{{"a", "v2"}, {"a", ""}, {"a", "v1"}, {"z", "v2"}}, pods)
	if want := "a runs imaging:v2 and answered as v1, z answered after it was gone"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := strays([]answer{{"a", "v2"}, {"a", ""}}, pods); got != "" {
		t.Errorf("good answers: %q", got)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	seen, err := readProbe(`{"way":"imaging","host":"imaging","resolved":["10.96.0.7","fd66:96::7"],"servedBy":"p"}
{"way":"imaging.default","host":"imaging.default","resolved":["10.96.0.8"],"servedBy":"p"}
{"way":"env IMAGING","host":"10.96.0.7:80","servedBy":"p"}
`)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "it led to [10.96.0.8]", "says nothing", ""} {
		r := judge(seen, "10.96.0.7")[i]
		if r.Way != ways[i] || (want == "") != (r.Error == "") || !strings.Contains(r.Error, want) {
			t.Errorf("%s: %q, want %q", ways[i], r.Error, want)
		}
	}
	if _, err := readProbe("panic: no such thing\n"); err == nil {
		t.Error("a log that is no JSON was read")
	}
}

// good is a report with nothing wrong.
func good() Report {
	row := Row{Client: "web", Requests: 100, Failures: 2, Excused: 2, Servers: []string{"a", "b"}, Versions: []string{"v1"}, P50: 4 * time.Millisecond, P99: 1500 * time.Millisecond, Max: 12 * time.Second}
	return Report{
		Took:    90 * time.Second,
		Reached: []Reached{{Way: "imaging", From: "Pod", ServedBy: "a"}},
		Phases:  []Phase{{Name: "kill", All: row, Clients: []Row{row}}},
	}
}

func TestReportErr(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		spoil func(*Report)
		want  string
	}{
		{func(*Report) {}, ""},
		{func(r *Report) { r.Phases = nil }, "no phase was reached"},
		{func(r *Report) { r.Phases[0].All.Failures++ }, "kill: 1 of 100 requests failed"},
		{func(r *Report) { r.Phases[0].Clients[0].Requests = 0 }, "web made no request"},
		{func(r *Report) { r.Phases[0].All = Row{} }, "kill: no request was made"},
		{func(r *Report) { r.Reached[0].Error = "no such host" }, "not reached by imaging: no such host"},
		{func(r *Report) { r.Problems = []string{"a answered after it was gone"} }, "a answered"},
		{func(r *Report) { r.Left = []string{"mount x"} }, "left behind: mount x"},
	} {
		r := good()
		test.spoil(&r)
		err := r.Err()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %q", err, test.want)
		}
	}
}

func TestReportPrint(t *testing.T) {
	t.Parallel()
	r := good()
	r.Kill = &kill{Pod: "a", PID: 7, Before: at(0), Dead: at(1)}
	r.Phases[0].All.Failed = []Failure{
		{Phase: "kill", Client: "web", Started: at(-3), Ended: at(4), Error: "EOF", Excuse: wasOpen},
		{Phase: "kill", Client: "web", Started: at(70), Ended: at(71), Error: "no route"},
	}
	var out strings.Builder
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	const want = `
PHASE   REQUESTS   FAILED   BY THE KILL   REPLICAS   VERSIONS      P50      P99   SLOWEST
kill         100        0             2          2         v1   4.0 ms   1.50 s    12.0 s

CLIENT   REQUESTS   FAILED   BY THE KILL   REPLICAS   VERSIONS      P50      P99   SLOWEST
web           100        0             2          2         v1   4.0 ms   1.50 s    12.0 s

Failed:
  kill, web, 12:00:00.070 after 1.0 ms: no route

Died with the killed process:
  kill, web, 11:59:59.997 after 7.0 ms (begun before its death): EOF
`
	if got := out.String(); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
	if got, want := r.Summary(), "1 phases, 100 requests, 0 failed, 2 died with the killed process; nothing left behind; 90.0 s"; got != want {
		t.Errorf("summary %q, want %q", got, want)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	if err := r.WriteJSON(file); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b, &back); err != nil || back.Phases[0].All.Requests != 100 || back.Kill.PID != 7 {
		t.Errorf("read back: %+v, %v", back, err)
	}
}

func TestCertificateIsTakenForItsHost(t *testing.T) {
	t.Parallel()
	c, err := newCertificate(host)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(c.cert, c.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Leaf.VerifyHostname(host); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if _, err := (Options{}).withDefaults(); err == nil {
		t.Error("options without a binary were taken")
	}
	if _, err := (Options{Fairway: "/no/such/fairway"}).withDefaults(); err == nil || !strings.Contains(err.Error(), "/no/such/fairway") {
		t.Errorf("a binary that is not there: %v", err)
	}
}

// A Fairway that does not even start must be told as that, and leave nothing.
func TestRunEndsWhenFairwayDoesNotStart(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making a network namespace needs root")
	}
	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	report, err := Run(t.Context(), Options{Fairway: "/bin/false", Binaries: t.TempDir(), Out: &out})
	if err == nil || !strings.Contains(err.Error(), "fairway up has ended: exit status 1") || !strings.Contains(err.Error(), "down") {
		t.Errorf("error %v\n%s", err, out.String())
	}
	if len(report.Left) != 0 || report.Err() == nil {
		t.Errorf("report %+v", report)
	}
	if rest, err := os.ReadDir(os.TempDir()); err != nil || len(rest) != 0 {
		t.Errorf("left in the temporary directory: %v, %v", rest, err)
	}
}
