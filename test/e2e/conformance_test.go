package e2e

import (
	_ "embed"
	"encoding/xml"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

//go:embed conformance/names
var conformanceNames string

// suite is what a run of Kubernetes' end-to-end tests writes, of which it is only read how each one ended.
type suite struct {
	Cases []struct {
		Name    string `xml:"name,attr"`
		Status  string `xml:"status,attr"`
		Failure struct {
			Message string `xml:"message,attr"`
		} `xml:"failure"`
	} `xml:"testsuite>testcase"`
}

// TestConformance runs the listed tests of Kubernetes' conformance suite, in upstream's own binary ($E2E_TEST, or bin/e2e.test of this tree), against `fairway up`.
// The report is out/conformance.xml.
func TestConformance(t *testing.T) {
	t.Parallel()
	program, err := filepath.Abs(envOr("E2E_TEST", "../../bin/e2e.test"))
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		t.Fatalf("Kubernetes' end-to-end tests: %v; run 'make bin/e2e.test'", err)
	}
	var names, focus []string
	for line := range strings.Lines(conformanceNames) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			names, focus = append(names, line), append(focus, regexp.QuoteMeta(line))
		}
	}
	report, err := filepath.Abs("../../out/conformance.xml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(report), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(report); err != nil { // that of an earlier run says nothing about this one
		t.Fatal(err)
	}
	m := newMachine(t)
	m.start()
	// What the suite would collect after a failure is on a cluster of its own kind, and takes minutes where there is none.
	cmd := m.ns.Command(program, "--kubeconfig", strings.TrimSpace(m.must("kubeconfig")), "--provider=skeleton", "--dump-logs-on-failure=false",
		"--ginkgo.no-color", "--ginkgo.junit-report="+report, "--ginkgo.focus=("+strings.Join(focus, "|")+")", "--ginkgo.timeout=8m")
	cmd.Env = append(os.Environ(), m.env()...)
	cmd.Dir = m.dir
	began := time.Now()
	out, failed := cmd.CombinedOutput()
	t.Logf("%d tests in %v", len(names), time.Since(began).Round(time.Second))
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("no report: %v; the suite ended with %v and printed\n%s", err, failed, out)
	}
	var s suite
	if err := xml.Unmarshal(data, &s); err != nil {
		t.Fatalf("%s: %v", report, err)
	}
	ended := map[string]string{}
	for _, c := range s.Cases {
		if name, ok := strings.CutPrefix(c.Name, "[It] "); ok && c.Status != "skipped" {
			name, _, _ = strings.Cut(name, " [Conformance]") // what follows are labels
			ended[name+" [Conformance]"] = strings.TrimSpace(c.Status + " " + c.Failure.Message)
		}
	}
	for _, name := range names {
		if ended[name] != "passed" {
			t.Errorf("%s: %q, want passed", name, ended[name])
		}
	}
	if t.Failed() || failed != nil {
		t.Errorf("the suite ended with %v and printed\n%s", failed, out)
	}
}

func envOr(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
