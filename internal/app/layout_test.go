package app

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "fairway.dev/fairway/"

// room is one row of the import table in docs/ARCHITECTURE.md.
type room struct {
	own   []string // rooms of ours that it may import, without "internal/"
	third []string // prefixes of other modules that it may import; nil: any
	why   string   // what breaks if it imports more
}

var none = []string{}

// table is checked by TestImportTable. A package is judged by its longest matching row.
var table = map[string]room{
	"internal/model":           {none, none, "rows are read by everybody, so they may bring in nothing"},
	"internal/store":           {[]string{"model"}, []string{"github.com/cilium/statedb/part"}, "the store knows rows and nothing of where they come from or go to"},
	"internal/plan":            {[]string{"model", "store"}, none, "deciding is pure: no I/O, no clock, no log, no Kubernetes"},
	"internal/dns/wire":        {none, none, "the codec is bytes in, bytes out"},
	"internal/dns/zone":        {[]string{"model", "store", "dns/wire"}, none, "deciding is pure: no I/O, no clock, no log, no Kubernetes"},
	"internal/ingress/policy":  {[]string{"model"}, none, "reading annotations is pure: values in, values out"},
	"internal/ingress/compile": {[]string{"model", "store", "ingress/policy"}, none, "deciding is pure: no I/O, no clock, no log, no Kubernetes"},
	"internal/dns/cache":       {[]string{"dns/wire"}, none, "what is kept and for how long is decided without clock or I/O"},
	"internal/dns/checkpoint":  {[]string{"model"}, none, "rows become text and text becomes rows, without files"},
	"internal/dns/forward":     {[]string{"dns/wire"}, none, "asking other servers needs sockets and nothing of the cluster"},
	"internal/dns/config":      {[]string{"dns/wire", "dns/forward"}, []string{"go.yaml.in/yaml/"}, "a configuration is read and checked without opening what it names"},
	"internal/dns/corefile":    {[]string{"dns/config", "dns/wire", "dns/forward"}, none, "a Corefile is text that becomes other text"},
	"internal/dns/static":      {[]string{"dns/wire"}, []string{"github.com/miekg/dns"}, "only here are master files read"},
	"internal/source":          {[]string{"model", "store", "kube"}, []string{"k8s.io/client-go", "k8s.io/api", "k8s.io/utils", "k8s.io/klog"}, "the source turns API objects into rows and does nothing with them"},
	"internal/controller":      {[]string{"model", "store", "kube", "source"}, []string{"k8s.io/client-go", "k8s.io/api", "k8s.io/utils", "k8s.io/klog", "k8s.io/endpointslice", "golang.org/x/sync"}, "a controller writes API objects; it never touches the kernel"},
	"internal/kube":            {none, []string{"k8s.io/client-go", "k8s.io/api", "k8s.io/utils", "k8s.io/klog"}, "watching is shared by source and controllers, and knows neither"},
	"internal/dataplane":       {[]string{"model", "store", "plan", "dataplane"}, []string{"github.com/google/nftables", "github.com/mdlayher/netlink", "github.com/ti-mo", "github.com/vishvananda/netlink", "golang.org/x/"}, "a data plane puts a plan in force and decides nothing"},
	"internal/metrics":         {[]string{"model", "store", "plan"}, []string{"github.com/prometheus/client_golang"}, "what is measured must not depend on who measures"},
	"internal/dns":             {[]string{"model", "store", "dns"}, []string{"golang.org/x/", "github.com/prometheus/client_golang"}, "DNS reads the store and its own sockets"},
	"internal/ingress":         {[]string{"model", "store", "ingress"}, []string{"golang.org/x/", "github.com/prometheus/client_golang"}, "Ingress reads the store and its own sockets"},
	"internal/memory":          {none, []string{"golang.org/x/sys"}, "the memory of a process has nothing to do with what it does"},
	"internal/upstreamlog":     {none, []string{"github.com/go-logr", "k8s.io/klog"}, "where upstream's log goes has nothing to do with who logs"},
	"internal/podspec":         {none, []string{"k8s.io/api/core/v1"}, "what is done of a Pod's description is one pure decision for the API and the node"},
	"internal/apiserver":       {[]string{"apiserver", "upstreamlog", "podspec"}, nil, "the API must not know who uses it, or it could not be replaced by a real one"},
	"internal/workload":        {none, nil, "workloads see the API only"},
	"internal/node":            {[]string{"node", "podspec"}, nil, "the node sees the API only; what routes to its Pods is not its business"},
	"internal/testkit":         {[]string{"model", "store", "plan", "dataplane", "testkit"}, nil, "tests only"},
	"internal/app":             {[]string{"*"}, nil, ""},
	"internal/cli":             {[]string{"app"}, nil, "commands hold no logic: they fill in what app offers"},
	"cmd/fairway":              {[]string{"cli"}, none, "main is one call"},
	"examples":                 {[]string{"examples"}, nil, "examples use Fairway as a user does: through its command line and the API"},
	"bench":                    {[]string{"bench/figures", "bench/lab"}, nil, "the benchmark measures the binary from outside"},
	"bench/figures":            {none, none, "arithmetic"},
	"bench/lab":                {none, none, "it knows nothing of what is measured"},
	"bench/dataplane":          {[]string{"bench/figures", "bench/lab", "testkit"}, nil, "the benchmark measures the binary from outside"},
	"bench/api":                {[]string{"apiserver", "memory", "testkit", "bench/figures", "bench/lab"}, nil, "it runs the API server alone, which the binary does not"},
	"test":                     {[]string{"*"}, nil, ""},
}

type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

// TestImportTable holds docs/ARCHITECTURE.md's import table.
func TestImportTable(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		path := strings.TrimPrefix(p.ImportPath, module)
		row, r := "", room{}
		for prefix, candidate := range table {
			if (path == prefix || strings.HasPrefix(path, prefix+"/")) && len(prefix) > len(row) {
				row, r = prefix, candidate
			}
		}
		if row == "" {
			t.Errorf("%s has no row in the import table: add one here and in docs/ARCHITECTURE.md", path)
			continue
		}
		seen++
		for _, imp := range p.Imports {
			if why := r.refuses(imp); why != "" {
				t.Errorf("%s may not import %s: %s", path, strings.TrimPrefix(imp, module), why)
			}
		}
	}
	if seen < 10 {
		t.Fatalf("only %d packages seen", seen)
	}
}

func (r room) refuses(imp string) string {
	if own, ok := strings.CutPrefix(imp, module); ok {
		own = strings.TrimPrefix(own, "internal/")
		for _, o := range r.own {
			if o == "*" || own == o || strings.HasPrefix(own, o+"/") {
				return ""
			}
		}
		return r.why
	}
	if first, _, _ := strings.Cut(imp, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	if r.third == nil {
		return ""
	}
	for _, p := range r.third {
		if strings.HasPrefix(imp, p) {
			return ""
		}
	}
	return r.why
}
