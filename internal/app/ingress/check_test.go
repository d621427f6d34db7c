package ingress

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the expectations")

const manifests = "testdata/manifests"

// TestCheckManifests holds the report about each manifest to what is committed: as it is in a class without parameters, and in one that takes over from
// ingress-nginx. Every expectation says what the manifest's author meets, so a change of one is a change for users.
func TestCheckManifests(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(manifests + "/*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d manifests, %v", len(files), err)
	}
	type line struct {
		Ingress     string            `json:"ingress"`
		Result      Result            `json:"result"`
		Annotations map[string]string `json:"annotations,omitempty"`
		Findings    []string          `json:"findings,omitempty"`
		Notes       []string          `json:"notes,omitempty"`
	}
	for mode, parameters := range map[string]map[string]string{"strict": nil, "ingress-nginx": {"path-matching": "ingress-nginx"}} {
		got := map[string][]line{}
		for _, f := range files {
			w, err := ReadFiles([]string{f}, nil)
			if err != nil {
				t.Fatal(err)
			}
			r, err := w.Check(parameters)
			if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimSuffix(filepath.Base(f), ".yaml")
			for _, x := range r.Ingresses {
				l := line{Ingress: x.Namespace + "/" + x.Name, Result: x.Result, Notes: x.Notes}
				for _, a := range x.Annotations {
					if l.Annotations == nil {
						l.Annotations = map[string]string{}
					}
					l.Annotations[a.Name] = strings.TrimSuffix(strings.Join([]string{string(a.Level), a.Effect, a.Note}, "; "), "; ")
				}
				for _, f := range x.Findings {
					l.Findings = append(l.Findings, f.Severity+": "+f.Message)
				}
				got[name] = append(got[name], l)
			}
		}
		data, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, '\n')
		golden := filepath.Join("testdata", mode+".json")
		if *update {
			if err := os.WriteFile(golden, data, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != string(data) {
			t.Errorf("%s: the report has changed; if it is meant, run go test ./internal/app/ingress -update and read the difference\n%s", mode, firstDifference(string(want), string(data)))
		}
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return "want " + x[i] + "\nhave " + y[i]
		}
	}
	return "one is longer"
}

func TestReadFilesErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"kind: Ingress\napiVersion: extensions/v1beta1\nmetadata: {name: x}":                               "write networking.k8s.io/v1",
		"kind: Ingress\napiVersion: networking.k8s.io/v1\nmetadata: {name: x}\nspec: {rulez: []}":          "rulez",
		"kind: Ingress\napiVersion: networking.k8s.io/v1\nmetadata: {}":                                    "no name",
		"kind: Ingress\napiVersion: networking.k8s.io/v1\n{{ if .Values.x }}\nmetadata: {name: x}":         "helm template",
		"kind: Service\napiVersion: v1\nmetadata: {name: x}\n---\nkind: Secret\napiVersion: v1\ndata: [x]": "standard input, document 2",
	} {
		if _, err := ReadFiles([]string{"-"}, strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q in it", text, err, want)
		}
	}
	if _, err := ReadFiles([]string{"testdata/absent"}, nil); err == nil {
		t.Error("a directory that is not there was read")
	}
	w, err := ReadFiles([]string{"-"}, strings.NewReader("kind: Deployment\napiVersion: apps/v1\nmetadata: {name: x}\n---\n\n---\n# nothing\n"))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := w.Check(nil); err != nil || len(r.Ingresses) != 0 || r.Worst() != Served {
		t.Errorf("objects that have nothing to do with Ingress: %+v, %v", r, err)
	}
}

// TestExplain: the rule, what the others lacked, and where it leads.
func TestExplain(t *testing.T) {
	t.Parallel()
	w, err := ReadFiles([]string{"-"}, strings.NewReader(`
kind: Ingress
apiVersion: networking.k8s.io/v1
metadata: {name: web, annotations: {nginx.ingress.kubernetes.io/rewrite-target: /new}}
spec:
  rules:
  - host: a.test
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
      - {path: /api, pathType: Prefix, backend: {service: {name: api, port: {name: http}}}}
      - {path: /api/x, pathType: Exact, backend: {service: {name: x, port: {number: 80}}}}
  - host: "*.test"
    http:
      paths:
      - {path: /api, pathType: Prefix, backend: {service: {name: wild, port: {number: 80}}}}
  - host: b.test
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: b, port: {number: 80}}}}
---
kind: Service
apiVersion: v1
metadata: {name: api}
spec: {ports: [{name: http, port: 80}]}
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: api-1, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.244.0.7]}, {addresses: [10.244.0.8]}, {addresses: [10.244.0.9], conditions: {ready: false}}]
`))
	if err != nil {
		t.Fatal(err)
	}
	e, err := w.Explain("http://A.test:80/api/y?z", true)
	if err != nil {
		t.Fatal(err)
	}
	if e.Rule != "a.test/api" || e.Service != "default/api" || strings.Join(e.Endpoints, " ") != "10.244.0.7:8080 10.244.0.8:8080" || e.Others != 1 {
		t.Errorf("explained as %+v", e)
	}
	var got []string
	for _, c := range e.Candidates {
		got = append(got, c.Host+c.Path+" "+c.Failed)
	}
	if want := "a.test/api |a.test/ precedence|a.test/api/x path|*.test/api host"; strings.Join(got, "|") != want {
		t.Errorf("candidates %q, want %q", strings.Join(got, "|"), want)
	}
	if len(e.Steps) != 1 || !strings.Contains(e.Steps[0], `"/new"`) {
		t.Errorf("steps %q", e.Steps)
	}
	for url, code := range map[string]int{"http://nobody.example/": 404, "https://a.test/a%2fb": 400, "http://a.test/../x": 400, "http://x.test/": 404} {
		if e, err := w.Explain(url, true); err != nil || e.Code != code {
			t.Errorf("%s: %+v, %v; want %d", url, e, err, code)
		}
	}
	if _, err := w.Explain("ftp://a.test/", true); err == nil {
		t.Error("a URL of another scheme was explained")
	}
}
