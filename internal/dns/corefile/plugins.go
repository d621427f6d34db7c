package corefile

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairway.dev/fairway/internal/dns/config"
	"fairway.dev/fairway/internal/dns/forward"
)

// builtIn are plugins whose work Fairway always does.
var builtIn = map[string]string{
	"errors": "errors are logged", "loop": "loops are found and cut", "reload": "changes are read within a second", "loadbalance": "answers rotate",
	"multisocket": "there is a socket for each processor", "bufsize": "1232 bytes are asked for", "cancel": "questions end after 5 s",
}

// instead says what helps for plugins that are not done.
var instead = map[string]string{
	"template": "answers from templates are not done; write the names into hosts or a zone's file",
	"auto":     "name each file under zones", "acl": "who may ask is for network policies", "view": "all clients get the same answers",
	"dnssec": "answers are not signed", "sign": "answers are not signed", "tls": "Fairway listens for DNS over UDP and TCP only",
	"bind": "say where to listen with --dns-listen", "etcd": "names in etcd are not read", "dns64": "addresses are not made up",
	"k8s_external": "external names are not served", "federation": "CoreDNS itself has dropped it", "proxy": "CoreDNS itself has dropped it; write forward",
	"upstream": "CoreDNS itself has dropped it; aliases are always followed", "pprof": "profiles are not served", "trace": "nothing is traced",
	"dnstap": "nothing is tapped; queryLog writes questions down", "transfer": "zones are not transferred", "secondary": "zones are not transferred; name a file under zones",
	"debug": "give -v 4", "any": "questions for ANY are answered as for any other type", "import": "imports within a plugin are not read",
}

// directive turns one plugin into parts of the configuration. main is the block that has the cluster or all names.
func (im *importer) directive(d Directive, zones []string, main bool) {
	if _, ok := builtIn[d.Name]; ok {
		im.builtIn(d)
		return
	}
	switch d.Name {
	case "forward":
		im.forwardTo(d, zones)
	case "file":
		im.zoneFile(d, zones)
	case "cache":
		im.cacheFor(d, zones)
	case "log":
		im.logTo(d)
	case "kubernetes":
		im.kubernetes(d)
	case "health", "ready", "prometheus":
		im.listener(d)
	case "hosts":
		if !main {
			im.refuse(d, "fixed names are for all questions; put it into the block of .")
			return
		}
		im.hostsFrom(d)
	case "rewrite":
		if !main {
			im.refuse(d, "rewriting is for all questions; put it into the block of .")
			return
		}
		im.rewrite(d)
	case "autopath":
		if len(d.Args) == 0 || d.Args[len(d.Args)-1] != "@kubernetes" || len(d.Args) > 2 {
			im.refuse(d, "the search path is that of the cluster; write autopath @kubernetes")
			return
		}
		im.cluster = append(im.cluster, "searchCompletion: true  # "+d.where())
	default:
		why, ok := instead[d.Name]
		if !ok {
			why = "Fairway does not do what this plugin does"
		}
		im.refuse(d, why)
	}
}

// builtIn lets pass what needs no words, and refuses options that would change it.
func (im *importer) builtIn(d Directive) {
	fine := len(d.Args) == 0
	switch d.Name {
	case "reload", "multisocket", "cancel":
		fine = true
	case "loadbalance":
		fine = fine || len(d.Args) == 1 && d.Args[0] == "round_robin"
	case "bufsize":
		fine = fine || d.Args[0] == "1232"
	case "errors":
		fine = fine || len(d.Args) == 1 && (d.Args[0] == "stdout" || d.Args[0] == "stderr")
	}
	if !fine {
		im.refuse(d, builtIn[d.Name]+"; this cannot be set")
	}
	for _, o := range d.Body {
		im.refuse(Directive{Name: d.Name + " " + o.Name, Args: o.Args, File: o.File, Line: o.Line}, "this cannot be set")
	}
}

// option refuses a line within a plugin's braces.
func (im *importer) option(d, o Directive, why string) {
	im.refuse(Directive{Name: d.Name + " { " + o.Name, Args: o.Args, File: o.File, Line: o.Line}, why)
}

func clusterDomain(b Block, d Directive) string {
	args := d.Args
	if len(args) == 0 {
		args = b.Keys
	}
	for _, a := range args {
		if z, _, why := zoneOf(a); why == "" && len(z) == 1 && z[0] != "." && !strings.HasSuffix(z[0], ".arpa.") {
			return z[0]
		}
	}
	return ""
}

func (im *importer) kubernetes(d Directive) {
	if im.domain == "" {
		im.refuse(d, "it names no domain of the cluster's")
		return
	}
	im.cluster = append(im.cluster, "domain: "+im.domain+"  # "+d.where())
	for _, a := range d.Args {
		if z, ok := domains(a); ok && len(z) == 1 && z[0] != im.domain && !strings.HasSuffix(z[0], ".arpa.") {
			im.refuse(d, "one domain is the cluster's, "+im.domain+"; "+a+" is another")
		}
	}
	ttl := "5s"
	for _, o := range d.Body {
		switch {
		case o.Name == "pods" && len(o.Args) == 1 && slices.Contains([]string{"disabled", "insecure", "verified"}, o.Args[0]):
			im.cluster = append(im.cluster, "pods: "+o.Args[0])
		case o.Name == "ttl" && len(o.Args) == 1 && number(o.Args[0], 0, 3600):
			ttl = o.Args[0] + "s"
		case o.Name == "fallthrough":
			for _, z := range o.Args {
				if !strings.HasSuffix(strings.TrimSuffix(z, "."), ".arpa") {
					im.option(d, o, "names of the cluster's own domain are nobody else's; give in-addr.arpa ip6.arpa")
					break
				}
			}
			if len(o.Args) == 0 {
				im.option(d, o, "names of the cluster's own domain are nobody else's; give in-addr.arpa ip6.arpa")
			}
		case o.Name == "endpoint" || o.Name == "kubeconfig" || o.Name == "tls":
			im.option(d, o, "say which cluster with --kubeconfig")
		case o.Name == "resyncperiod" || o.Name == "startup_timeout" || o.Name == "apiserver_qps" || o.Name == "apiserver_burst":
			im.note(o, "has no meaning here")
		default:
			im.option(d, o, "all Services of the cluster are answered for, in one way")
		}
	}
	if !slices.ContainsFunc(im.cluster, func(s string) bool { return strings.HasPrefix(s, "pods:") }) {
		im.cluster = append(im.cluster, "pods: disabled")
	}
	im.cluster = append(im.cluster, "ttl: "+ttl)
}

func number(s string, lo, hi int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= lo && n <= hi
}

func (im *importer) listener(d Directive) {
	into, otherwise := &im.health, ":8080"
	switch d.Name {
	case "ready":
		into, otherwise = &im.ready, ":8181"
	case "prometheus":
		into, otherwise = &im.metrics, "localhost:9153"
	}
	if len(d.Args) > 1 {
		im.refuse(d, "one address is enough")
		return
	}
	address, ok := im.local(d, strings.Join(d.Args, ""), otherwise)
	if !ok {
		return
	}
	if len(*into) > 0 {
		if !strings.Contains((*into)[0], strconv.Quote(address)) {
			im.refuse(d, "one listener is enough; "+(*into)[0]+" is there before")
		}
		return
	}
	*into = append(*into, "listen: "+strconv.Quote(address)+"  # "+d.where())
	for _, o := range d.Body {
		if d.Name == "health" && o.Name == "lameduck" && len(o.Args) == 1 {
			if v, err := time.ParseDuration(o.Args[0]); err == nil && v >= 0 && v <= time.Minute {
				*into = append(*into, "lameduck: "+v.String())
				continue
			}
		}
		im.option(d, o, "this cannot be set")
	}
}

func (im *importer) logTo(d Directive) {
	if len(d.Args) > 1 || len(d.Args) == 1 && d.Args[0] != "." && d.Args[0] != "stdout" {
		im.refuse(d, "questions for all names are written, as JSON; write log alone")
		return
	}
	only := []string{"all"}
	for _, o := range d.Body {
		if o.Name != "class" || len(o.Args) == 0 {
			im.option(d, o, "only class can be set")
			continue
		}
		only = nil
		for _, c := range o.Args {
			if !slices.Contains([]string{"all", "success", "denial", "error"}, c) {
				im.option(d, o, "the classes are all, success, denial and error")
				return
			}
			only = append(only, c)
		}
	}
	im.log = []string{"file: stderr  # " + d.where(), "only: " + list(only)}
}

func (im *importer) zoneFile(d Directive, zones []string) {
	if len(d.Args) == 0 || !filepath.IsAbs(d.Args[0]) {
		im.refuse(d, "give the absolute path of the zone's file")
		return
	}
	if len(d.Args) > 1 {
		zones = nil
		for _, a := range d.Args[1:] {
			z, ok := domains(a)
			if !ok {
				im.refuse(d, fmt.Sprintf("%q is no zone", a))
				return
			}
			zones = append(zones, z...)
		}
	}
	for _, z := range zones {
		line := fmt.Sprintf("- {zone: %s, file: %s}  # %s", strconv.Quote(z), strconv.QuoteToASCII(d.Args[0]), d.where())
		if slices.ContainsFunc(im.zones, func(s string) bool { return strings.HasPrefix(s, "- {zone: "+strconv.Quote(z)+",") }) {
			im.refuse(d, "zone "+z+" has a file before")
			continue
		}
		im.zones = append(im.zones, line)
	}
	for _, o := range d.Body {
		if o.Name != "reload" {
			im.option(d, o, "the file is answered as it is; names that it does not have do not exist")
		}
	}
}

func (im *importer) hostsFrom(d Directive) {
	var entries, files []string
	if len(d.Args) > 0 {
		if len(d.Args) > 1 {
			im.refuse(d, "fixed names are of any zone; leave the zones out")
			return
		}
		if !filepath.IsAbs(d.Args[0]) {
			im.refuse(d, "give the absolute path of the file")
			return
		}
		files = append(files, d.Args[0])
	} else {
		files = append(files, "/etc/hosts")
	}
	ttl, reverse, falls := "3600s", "true", false
	for _, o := range d.Body {
		switch {
		case o.Name == "fallthrough" && len(o.Args) == 0:
			falls = true
		case o.Name == "ttl" && len(o.Args) == 1 && number(o.Args[0], 1, 1<<30):
			ttl = o.Args[0] + "s"
		case o.Name == "no_reverse":
			reverse = "false"
		case o.Name == "reload":
		case len(o.Args) > 0 && strings.ContainsAny(o.Name, ".:"):
			entries = append(entries, strings.Join(append([]string{o.Name}, o.Args...), " "))
		default:
			im.option(d, o, "this cannot be set")
		}
	}
	if !falls {
		im.refuse(d, "without fallthrough no other name would exist; names that are not in it are looked up elsewhere here: write fallthrough")
		return
	}
	if len(im.hosts) > 0 {
		im.refuse(d, "it is there before; put the names together")
		return
	}
	if len(d.Args) == 0 && len(entries) > 0 { // then CoreDNS does not read /etc/hosts
		files = nil
	}
	if files != nil {
		im.hosts = append(im.hosts, "files: "+list(files)+"  # "+d.where())
	}
	if entries != nil {
		im.hosts = append(im.hosts, "entries:  # "+d.where())
		for _, e := range entries {
			im.hosts = append(im.hosts, "- "+strconv.QuoteToASCII(e))
		}
	}
	im.hosts = append(im.hosts, "ttl: "+ttl, "reverse: "+reverse)
}

func (im *importer) rewrite(d Directive) {
	args := slices.Clone(d.Args)
	for len(args) > 0 && (args[0] == "stop" || args[0] == "continue") {
		args = args[1:]
	}
	if len(args) < 3 || args[0] != "name" || len(d.Body) > 0 {
		im.refuse(d, "only names are rewritten: rewrite name exact FROM TO, or suffix")
		return
	}
	match, args := "exact", args[1:]
	switch args[0] {
	case "exact", "suffix":
		match, args = args[0], args[1:]
	case "prefix", "substring", "regex":
		im.refuse(d, "only whole names and suffixes are rewritten")
		return
	}
	switch {
	case len(args) == 2, len(args) == 4 && args[2] == "answer" && args[3] == "auto":
	default:
		im.refuse(d, "give FROM and TO; names in answers are always written back")
		return
	}
	from, ok1 := domains(strings.TrimPrefix(args[0], "."))
	to, ok2 := domains(strings.TrimPrefix(args[1], "."))
	if !ok1 || !ok2 || len(from) != 1 || len(to) != 1 || from[0] == "." || from[0] == to[0] {
		im.refuse(d, "FROM and TO are two names")
		return
	}
	add := func(match string) {
		line := fmt.Sprintf("- {match: %s, from: %s, to: %s}", match, strconv.Quote(from[0]), strconv.Quote(to[0]))
		if slices.ContainsFunc(im.rewrites, func(s string) bool {
			return strings.HasPrefix(s, fmt.Sprintf("- {match: %s, from: %s,", match, strconv.Quote(from[0])))
		}) {
			im.refuse(d, "that name is rewritten before")
			return
		}
		im.rewrites = append(im.rewrites, line+"  # "+d.where())
	}
	add(match)
	if match == "suffix" && !strings.HasPrefix(args[0], ".") { // then the name itself has the suffix, too
		add("exact")
	}
}

// server reads one of forward's servers.
func server(s string) (config.Server, string, error) {
	if filepath.IsAbs(s) {
		return config.Server{Path: s}, s, nil
	}
	if name, ok := strings.CutPrefix(s, "tls://"); ok {
		if host, zone, ok := strings.Cut(name, "%"); ok { // CoreDNS's own way to name a server
			s = "tls://" + host + "@" + zone
		}
	}
	a, err := forward.ParseAddress(s)
	return config.Server{Address: a}, a.String(), err
}
