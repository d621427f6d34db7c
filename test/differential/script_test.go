package differential

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// request is one line of a case.
type request struct {
	verb     string
	name     string // of the object
	resource string
	manager  string
	force    bool
	dry      bool
	status   bool
	strict   bool
	until    int    // the code to wait for
	with     string // and the path of a field that must be there
	body     string // YAML, with placeholders
}

// testCase is a sequence of requests.
type testCase struct {
	title    string
	resource string
	requests []request
}

var verbs = map[string]bool{
	"create": true, "put": true, "edit": true, "merge": true, "strategic": true, "json": true, "apply": true,
	"delete": true, "get": true, "list": true, "clear": true, "await": true, "gone": true,
}

// readCases reads one file of testdata.
func readCases(t *testing.T, file string) (cases []testCase) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	resource, rest, _ := strings.Cut(string(text), "\n")
	for part := range strings.SplitSeq("\n"+rest, "\n== ") {
		title, lines, _ := strings.Cut(part, "\n")
		if strings.TrimSpace(lines) == "" {
			continue
		}
		c := testCase{title: title, resource: resource}
		if c.requests, err = parse(resource, lines); err != nil {
			t.Fatalf("%s: %s: %v", file, title, err)
		}
		cases = append(cases, c)
	}
	return cases
}

// parse reads the lines of one case.
func parse(resource, lines string) (requests []request, err error) {
	lines = regexp.MustCompile(`(?m)^#.*\n?`).ReplaceAllString(lines, "")
	lines = regexp.MustCompile(`\n[ \t]+`).ReplaceAllString(lines, " ")
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		head, body := line, ""
		if at := strings.IndexAny(line, "{["); at >= 0 {
			head, body = line[:at], line[at:]
		}
		words := strings.Fields(head)
		r := request{verb: words[0], name: "s", resource: resource, body: body}
		if !verbs[r.verb] {
			return nil, fmt.Errorf("there is no verb %q", r.verb)
		}
		for _, word := range words[1:] {
			key, value, _ := strings.Cut(word, "=")
			switch key {
			case "name":
				r.name = value
			case "of":
				r.resource = value
			case "as":
				r.manager = value
			case "force":
				r.force = true
			case "dry":
				r.dry = true
			case "status":
				r.status = true
			case "strict":
				r.strict = true
			case "until":
				value, r.with, _ = strings.Cut(value, ":")
				if r.until, err = strconv.Atoi(value); err != nil {
					return nil, err
				}
			default:
				return nil, fmt.Errorf("there is no option %q", word)
			}
		}
		requests = append(requests, r)
	}
	return requests, nil
}

// text is the request as parse reads it, in a case of that resource.
func (r request) text(resource string) string {
	words := []string{r.verb}
	for _, option := range []struct {
		on   bool
		word string
	}{{r.resource != resource, "of=" + r.resource}, {r.name != "s", "name=" + r.name}, {r.manager != "", "as=" + r.manager}, {r.force, "force"}, {r.dry, "dry"}, {r.status, "status"}, {r.strict, "strict"}, {r.until != 0, strings.TrimSuffix(fmt.Sprintf("until=%d:%s", r.until, r.with), ":")}} {
		if option.on {
			words = append(words, option.word)
		}
	}
	return strings.TrimSpace(strings.Join(append(words, r.body), " "))
}

// group is where a resource is served, and the kind of its objects.
type group struct {
	path, apiVersion, kind string
	cluster                bool // its objects are in no namespace
}

var groups = map[string]group{
	"services":       {"/api/v1", "v1", "Service", false},
	"endpoints":      {"/api/v1", "v1", "Endpoints", false},
	"endpointslices": {"/apis/discovery.k8s.io/v1", "discovery.k8s.io/v1", "EndpointSlice", false},
	"ingresses":      {"/apis/networking.k8s.io/v1", "networking.k8s.io/v1", "Ingress", false},
	"ingressclasses": {"/apis/networking.k8s.io/v1", "networking.k8s.io/v1", "IngressClass", true},
	"ipaddresses":    {"/apis/networking.k8s.io/v1", "networking.k8s.io/v1", "IPAddress", true},
	"servicecidrs":   {"/apis/networking.k8s.io/v1", "networking.k8s.io/v1", "ServiceCIDR", true},
}

// decode reads a body whose placeholders are filled in.
func decode(body string) (any, error) {
	text, err := yaml.YAMLToJSON([]byte(body))
	if err != nil {
		return nil, err
	}
	var out any
	return out, json.Unmarshal(text, &out)
}

// complete adds kind and name where they are missing.
func (r request) complete(object map[string]any, name string) {
	g := groups[r.resource]
	if object["apiVersion"] == nil {
		object["apiVersion"] = g.apiVersion
	}
	if object["kind"] == nil {
		object["kind"] = g.kind
	}
	meta, _ := object["metadata"].(map[string]any)
	if meta == nil {
		meta = make(map[string]any)
		object["metadata"] = meta
	}
	if meta["name"] == nil && meta["generateName"] == nil {
		meta["name"] = name
	}
}
