package corefile

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairway.dev/fairway/internal/dns/forward"
)

// group is what a forward plugin says.
type group struct {
	servers []string
	lines   []string
	tls     bool
}

// forwardTo reads a forward plugin: the root's is for all names, and one in another block, or for another domain, is a stub.
func (im *importer) forwardTo(d Directive, zones []string) {
	if len(d.Args) < 2 {
		im.refuse(d, "it names nobody to ask")
		return
	}
	from, ok := domains(d.Args[0])
	if !ok {
		im.refuse(d, fmt.Sprintf("%q is no domain", d.Args[0]))
		return
	}
	if from[0] == "." {
		from = zones
	}
	g, ok := im.group(d, from)
	if !ok {
		return
	}
	var stubs []string
	for _, z := range from {
		switch {
		case z != ".":
			if slices.ContainsFunc(im.stubs, func(s string) bool { return strings.Contains(s, strconv.Quote(z)) && strings.Contains(s, "domains:") }) {
				im.refuse(d, z+" is forwarded before")
				return
			}
			stubs = append(stubs, z)
		case len(im.forward) > 0:
			im.refuse(d, "the other names are forwarded before")
			return
		default:
			im.forward = append([]string{"servers: " + list(g.servers) + "  # " + d.where()}, g.lines...)
		}
	}
	if len(stubs) == 0 {
		return
	}
	im.stubs = append(im.stubs, "- domains: "+list(stubs)+"  # "+d.where(), "  servers: "+list(g.servers))
	for _, l := range g.lines {
		im.stubs = append(im.stubs, "  "+l)
	}
}

func (im *importer) group(d Directive, from []string) (g group, ok bool) {
	force, name, policy := false, "", "random"
	for _, o := range d.Body {
		switch o.Name {
		case "force_tcp":
			force = true
		case "tls_servername":
			if name = strings.Join(o.Args, " "); strings.ContainsAny(name, " @") || name == "" {
				im.option(d, o, "give one name")
				return g, false
			}
		}
	}
	for _, s := range d.Args[1:] {
		parsed, text, err := server(s)
		switch {
		case err != nil:
			im.refuse(d, err.Error())
			return g, false
		case parsed.Path != "" && force:
			im.refuse(d, "force_tcp with the servers of a file: name them, as tcp://ADDRESS")
			return g, false
		case parsed.Path == "" && parsed.Transport == forward.UDP && force:
			parsed.Transport = forward.TCP
			text = parsed.Address.String()
		case parsed.Path == "" && parsed.Transport == forward.TLS:
			g.tls = true
			if parsed.Name == "" {
				parsed.Name = name
				text = parsed.Address.String()
			}
		}
		g.servers = append(g.servers, text)
	}
	for _, o := range d.Body {
		switch one := strings.Join(o.Args, " "); o.Name {
		case "force_tcp", "tls_servername":
		case "prefer_udp":
		case "policy":
			if policy = map[string]string{"random": "random", "round_robin": "roundRobin", "sequential": "sequential"}[one]; policy == "" {
				im.option(d, o, "the policies are random, round_robin and sequential")
				policy = "random"
			}
		case "max_fails":
			if !number(one, 0, 1<<30) {
				im.option(d, o, "give a number")
				continue
			}
			g.lines = append(g.lines, "maxFails: "+strconv.Itoa(atoi(one)))
		case "max_concurrent":
			if !number(one, 1, 1<<30) {
				im.option(d, o, "give a number from 1 on")
				continue
			}
			im.limit = max(im.limit, atoi(one))
		case "expire", "health_check":
			v, err := time.ParseDuration(one)
			if field := map[string]string{"expire": "idle", "health_check": "healthInterval"}[o.Name]; err == nil && v >= 10*time.Millisecond {
				g.lines = append(g.lines, field+": "+v.String())
				continue
			}
			im.option(d, o, "give a length of time alone, from 10ms on")
		case "except":
			if !slices.Contains(from, ".") {
				im.option(d, o, "exceptions are made from what the root's servers are asked")
				continue
			}
			var except []string
			for _, a := range o.Args {
				z, ok := domains(a)
				if !ok {
					im.option(d, o, fmt.Sprintf("%q is no domain", a))
					return g, false
				}
				except = append(except, z...)
			}
			g.lines = append(g.lines, "except: "+list(except))
		case "tls":
			if len(o.Args) == 0 {
				continue
			}
			if len(o.Args) != 1 || !filepath.IsAbs(o.Args[0]) || !g.tls {
				im.option(d, o, "certificates of the client's own are not used; give the file of authorities alone, by its absolute path, with servers over tls://")
				continue
			}
			g.lines = append(g.lines, "caFile: "+strconv.QuoteToASCII(o.Args[0]))
		default:
			im.option(d, o, "this cannot be set")
		}
	}
	g.lines = append(g.lines, "policy: "+policy)
	return unique(g), true
}

// unique keeps the last of several lines for one field.
func unique(g group) group {
	seen := map[string]bool{}
	var out []string
	for _, l := range slices.Backward(g.lines) {
		field, _, _ := strings.Cut(l, ":")
		if !seen[field] {
			out = append(out, l)
		}
		seen[field] = true
	}
	slices.Reverse(out)
	g.lines = out
	return g
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// cacheFor reads a cache plugin. There is one cache for all names, so a second one must say the same.
func (im *importer) cacheFor(d Directive, zones []string) {
	positive, negative := 3600, 1800
	args := d.Args
	if len(args) > 0 && number(args[0], 1, 1<<30) {
		positive = atoi(args[0])
		negative = min(positive, negative)
		if atoi(args[0]) > 1800 {
			negative = 1800
		}
		args = args[1:]
	}
	if len(args) > 0 {
		im.refuse(d, "answers for all names are kept alike, but for the cluster's own, which never are; leave the zones out")
		return
	}
	lines := map[string]string{}
	for _, o := range d.Body {
		switch {
		case (o.Name == "success" || o.Name == "denial") && len(o.Args) >= 1 && number(o.Args[0], 0, 1<<30):
			if len(o.Args) >= 2 && number(o.Args[1], 1, 1<<30) {
				if o.Name == "success" {
					positive = atoi(o.Args[1])
				} else {
					negative = atoi(o.Args[1])
				}
			}
			if o.Name == "success" && len(o.Args) == 3 && number(o.Args[2], 0, positive) {
				lines["minTTL"] = o.Args[2] + "s"
			}
			im.note(o, "how many answers are kept is bounded by cache.maxBytes")
		case o.Name == "prefetch" && len(o.Args) >= 1 && number(o.Args[0], 0, 1<<30):
			lines["prefetchHits"] = o.Args[0]
			if len(o.Args) == 3 && number(strings.TrimSuffix(o.Args[2], "%"), 10, 90) {
				lines["prefetchPercent"] = strings.TrimSuffix(o.Args[2], "%")
			}
		case o.Name == "serve_stale":
			im.serveStale(d, o, lines)
		case o.Name == "servfail" && len(o.Args) == 1:
			v, err := time.ParseDuration(o.Args[0])
			if err != nil || v < 0 || v > 5*time.Minute || v%time.Second != 0 {
				im.option(d, o, "give whole seconds, up to 5m")
				continue
			}
			lines["failureTTL"] = v.String()
		case o.Name == "disable" && len(o.Args) >= 2 && !slices.ContainsFunc(o.Args[1:], func(z string) bool { return im.domain == "" || strings.TrimSuffix(z, ".")+"." != im.domain }):
			// the cluster's names are never kept
		default:
			im.option(d, o, "this cannot be set")
		}
	}
	out := []string{fmt.Sprintf("maxTTL: %ds  # %s", positive, d.where()), fmt.Sprintf("maxNegativeTTL: %ds", negative)}
	for _, k := range []string{"minTTL", "prefetchHits", "prefetchPercent", "staleFor", "staleWait", "failureTTL"} {
		if v, ok := lines[k]; ok {
			out = append(out, k+": "+v)
		}
	}
	same := fmt.Sprint(positive, negative, lines)
	switch {
	case !im.cached:
		im.cache, im.cached, im.cacheCap = out, true, same
	case im.cacheCap != same:
		im.refuse(d, "there is one cache for all names, and another block says otherwise; say the same in all of them")
	}
}

func (im *importer) serveStale(d, o Directive, lines map[string]string) {
	lines["staleFor"], lines["staleWait"] = "1h", "0s"
	for _, a := range o.Args {
		v, err := time.ParseDuration(a)
		switch {
		case a == "immediate":
		case a == "verify":
			lines["staleWait"] = "1.8s"
		case err == nil && v >= 0 && v%time.Second == 0:
			lines["staleFor"] = v.String()
		default:
			im.option(d, o, "give whole seconds, and immediate or verify")
		}
	}
}
