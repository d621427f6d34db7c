package differential

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	seed      = flag.Uint64("seed", 1, "what TestGenerated makes its sequences from; 0: something new")
	sequences = flag.Int("sequences", 15, "how many sequences TestGenerated makes for each resource")
)

// TestGenerated makes up sequences of requests from the parts in testdata/generated-*.txt.
func TestGenerated(t *testing.T) {
	t.Parallel()
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed=%d -sequences=%d", *seed, *sequences)
	for _, resource := range []string{"services", "ingresses", "endpointslices", "endpoints"} {
		parts := readParts(t, "generated-"+resource+".txt")
		for i := range *sequences {
			g := &generator{rand.New(rand.NewPCG(*seed, uint64(i))), resource, parts}
			c := testCase{title: fmt.Sprintf("seed %d, sequence %d", *seed, i), resource: resource, requests: g.sequence(t)}
			p := pairs[i%len(pairs)]
			t.Run(fmt.Sprintf("%s/%d/%s", resource, i, p.stack), func(t *testing.T) {
				t.Parallel()
				p.compare(t, c)
			})
		}
	}
}

// part is a part of a manifest that may be there or not, in one of several forms.
type part struct {
	percent int // how often it is in a new manifest
	status  bool
	forms   []map[string]any
}

// readParts reads a file of lines "percent: form | form | …", or with "status" after the number for a part of the status.
func readParts(t *testing.T, file string) (parts []part) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		head, forms, _ := strings.Cut(line, ": ")
		number, word, _ := strings.Cut(head, " ")
		p := part{status: word == "status"}
		if p.percent, err = strconv.Atoi(number); err != nil {
			t.Fatalf("%s: %s: %v", file, line, err)
		}
		for form := range strings.SplitSeq(forms, " | ") {
			object, err := decode(form)
			if err != nil {
				t.Fatalf("%s: %s: %v", file, form, err)
			}
			p.forms = append(p.forms, object.(map[string]any))
		}
		parts = append(parts, p)
	}
	return parts
}

// generator makes up the requests of one sequence.
type generator struct {
	*rand.Rand
	resource string
	parts    []part
}

func (g *generator) sequence(t *testing.T) (requests []request) {
	made := make(map[string]bool)
	for range 5 + g.IntN(6) {
		name := g.one("s", "s", "s", "t", "u")
		line := g.write(name, made[name])
		if !made[name] && g.IntN(5) > 0 || g.IntN(20) == 0 {
			line, made[name] = "create"+g.options("dry 10", "strict 10")+" name="+name+" "+g.text(g.manifest(false)), true
		}
		parsed, err := parse(g.resource, line)
		if err != nil {
			t.Fatal(err)
		}
		requests = append(requests, parsed...)
	}
	return requests
}

func (g *generator) one(of ...string) string { return of[g.IntN(len(of))] }

// options are some of those, each with its percentage.
func (g *generator) options(all ...string) (chosen string) {
	for _, option := range all {
		word, percent, _ := strings.Cut(option, " ")
		if n, _ := strconv.Atoi(percent); g.IntN(100) < n {
			chosen += " " + word
		}
	}
	return chosen
}

// write is a request that changes an object.
func (g *generator) write(name string, made bool) string {
	at := " name=" + name
	status := g.IntN(10) == 0 && slices.ContainsFunc(g.parts, func(p part) bool { return p.status })
	if status {
		at += " status"
	}
	switch n := g.IntN(100); {
	case n < 10 && !status && made:
		precondition := fmt.Sprintf(g.one(`{preconditions: {uid: "<%s.metadata.uid>"}}`, `{preconditions: {uid: "<first %s.metadata.uid>"}}`, `{preconditions: {resourceVersion: "<first %s.metadata.resourceVersion>"}}`), name)
		return "delete" + g.options("dry 20") + at + " " + g.one("{}", "{}", precondition, "{propagationPolicy: Foreground}", "{propagationPolicy: Orphan}", "{gracePeriodSeconds: 0}")
	case n < 20:
		return "put" + g.options("dry 10", "strict 10") + at + " " + g.text(g.manifest(status))
	case n < 45:
		return "edit" + g.options("dry 10") + at + " " + g.text(g.change(status))
	case n < 60:
		return "merge" + g.options("dry 10") + at + " " + g.text(g.change(status))
	case n < 70:
		return "strategic" + g.options("dry 10") + at + " " + g.text(g.change(status))
	case n < 80:
		return "json" + g.options("dry 10") + at + " " + g.text(g.operations(status))
	}
	return "apply as=" + g.one("alice", "bob") + g.options("force 30", "dry 10") + at + " " + g.text(g.manifest(status))
}

// manifest is a new manifest, and change are a few parts of one.
func (g *generator) manifest(status bool) map[string]any {
	return g.object(func(p part) bool { return p.status == status && g.IntN(100) < p.percent })
}

func (g *generator) change(status bool) map[string]any {
	var chosen []int
	for range 1 + g.IntN(3) {
		chosen = append(chosen, g.IntN(len(g.parts)))
	}
	return g.object(func(p part) bool {
		return p.status == status && slices.ContainsFunc(chosen, func(i int) bool { return &g.parts[i].forms[0] == &p.forms[0] })
	})
}

func (g *generator) object(with func(part) bool) map[string]any {
	var object any = map[string]any{}
	for _, p := range g.parts {
		if with(p) {
			object, _ = mergePatch(object, p.forms[g.IntN(len(p.forms))]) // both are JSON
		}
	}
	return object.(map[string]any)
}

// operations are a JSON patch that does what a change says.
func (g *generator) operations(status bool) (all []any) {
	var walk func(path string, value any)
	walk = func(path string, value any) {
		object, _ := value.(map[string]any)
		if object != nil && strings.Count(path, "/") < 2 {
			for _, key := range slices.Sorted(maps.Keys(object)) {
				walk(path+"/"+strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1"), object[key])
			}
			return
		}
		switch op := g.one("add", "add", "replace", "remove"); {
		case op == "remove":
			all = append(all, map[string]any{"op": op, "path": path})
		default:
			all = append(all, map[string]any{"op": op, "path": path, "value": value})
		}
	}
	walk("", g.change(status))
	if all == nil {
		return []any{}
	}
	return all
}

// numeric are placeholders that stand for numbers, in quotes.
var numeric = regexp.MustCompile(`"(<(?:port:\d+|[^">]*[pP]ort)>)"`)

// text is an object in JSON, which is YAML's flow style too.
func (g *generator) text(object any) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(object); err != nil {
		panic(err) // it has been decoded from JSON
	}
	return numeric.ReplaceAllString(strings.TrimSpace(out.String()), "$1")
}
