package corefile

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"fairway.dev/fairway/internal/dns/config"
)

// Refusal is a line that Fairway does not do.
type Refusal struct {
	File string
	Line int
	What string // the line, or its beginning
	Why  string // and what helps
}

// String is the line of an error message.
func (r Refusal) String() string { return fmt.Sprintf("%s:%d: %s: %s", r.File, r.Line, r.What, r.Why) }

// Result is a Corefile as a configuration of Fairway's.
type Result struct {
	YAML     string
	Refusals []Refusal
}

// importer gathers the parts of the configuration while it walks the blocks.
type importer struct {
	refusals []Refusal
	notes    []string

	cluster, forward, cache, hosts, log, metrics, health, ready, rewrites, zones []string

	stubs    []string
	domain   string // of the kubernetes plugin, with a dot
	cacheCap string // how long the cache keeps answers, as the first block has it
	cached   bool
	limit    int
	port     string
}

// Import turns a Corefile into YAML. An error means that it cannot be read at all.
func Import(name, text string, files Files) (*Result, error) {
	blocks, skipped, err := parse(name, text, files)
	if err != nil {
		return nil, err
	}
	im := &importer{}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("%s: no server block in it", name)
	}
	for _, d := range skipped {
		im.note(d, "no file matches "+d.Args[0])
	}
	// The cluster's domain is needed to judge the others.
	for _, b := range blocks {
		for _, d := range b.Directives {
			if d.Name == "kubernetes" {
				im.domain = clusterDomain(b, d)
			}
		}
	}
	for _, b := range blocks {
		im.block(b)
	}
	y := im.yaml(name)
	if _, err := config.Parse("the imported configuration", []byte(y)); err != nil {
		return nil, fmt.Errorf("%s: cannot be put into Fairway's words: %w", name, err)
	}
	return &Result{y, im.refusals}, nil
}

func (im *importer) refuse(d Directive, why string) {
	what := strings.Join(append([]string{d.Name}, d.Args...), " ")
	im.refusals = append(im.refusals, Refusal{d.File, d.Line, what, why})
}

func (im *importer) note(d Directive, what string) {
	im.notes = append(im.notes, fmt.Sprintf("# %s: %s: %s", d.where(), d.Name, what))
}

// block turns one server block into parts of the configuration.
func (im *importer) block(b Block) {
	whole := Directive{Name: strings.Join(b.Keys, " "), File: b.File, Line: b.Line}
	var zones []string
	for _, k := range b.Keys {
		zone, port, why := zoneOf(k)
		switch {
		case why != "":
			im.refuse(whole, why)
		case port != "" && im.port != "" && port != im.port:
			im.refuse(whole, "blocks on several ports: Fairway listens where --dns-listen says, and answers the same everywhere")
		case port != "":
			im.port = port
		}
		for _, z := range zone {
			if !slices.Contains(zones, z) {
				zones = append(zones, z)
			}
		}
	}
	if len(zones) == 0 {
		return
	}
	if im.port != "" && im.port != "53" {
		im.notes = append(im.notes, fmt.Sprintf("# %s:%d: port %s: give it with --dns-listen", b.File, b.Line, im.port))
	}
	main := slices.ContainsFunc(zones, func(z string) bool { return z == "." || z == im.domain })
	known := slices.Clone(zones)
	for _, d := range b.Directives {
		im.directive(d, known, main)
	}
}

// zoneOf takes a key of a server block apart.
func zoneOf(key string) (zones []string, port, why string) {
	if scheme, rest, ok := strings.Cut(key, "://"); ok {
		if scheme != "dns" {
			return nil, "", "Fairway listens for DNS over UDP and TCP, not for " + scheme
		}
		key = rest
	}
	if i := strings.LastIndexByte(key, ':'); i >= 0 {
		if _, err := strconv.ParseUint(key[i+1:], 10, 16); err != nil {
			return nil, "", fmt.Sprintf("%q is no port", key[i+1:])
		}
		key, port = key[:i], key[i+1:]
	}
	z, ok := domains(key)
	if !ok {
		return nil, "", fmt.Sprintf("%q is no zone", key)
	}
	return z, port, ""
}

// domains reads a zone: a domain or, as CoreDNS has it, a range of addresses that stands for its reverse zones.
func domains(s string) ([]string, bool) {
	if s == "" {
		return []string{"."}, true
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return reverseZones(p), true
	}
	var d config.Domain
	if d.UnmarshalText([]byte(s)) != nil {
		return nil, false
	}
	// What must be quoted in YAML or in master files is in nobody's zones.
	for _, c := range []byte(s) {
		if !(c == '.' || c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z') {
			return nil, false
		}
	}
	return []string{strings.ToLower(strings.TrimSuffix(s, ".")) + "."}, true
}

// reverseZones gives the zones below in-addr.arpa or ip6.arpa that cover a range, at the next boundary of labels.
func reverseZones(p netip.Prefix) []string {
	p = p.Masked()
	width, suffix := 8, "in-addr.arpa."
	if p.Addr().Is6() {
		width, suffix = 4, "ip6.arpa."
	}
	labels := (p.Bits() + width - 1) / width
	spare := labels*width - p.Bits()
	b := p.Addr().AsSlice()
	digit := func(i int) int {
		if width == 8 {
			return int(b[i])
		}
		return int(b[i/2]>>(4*(1-i%2))) & 15
	}
	var out []string
	for n := range 1 << spare {
		name := suffix
		for i := range labels {
			v := digit(i)
			if i == labels-1 {
				v += n
			}
			if width == 8 {
				name = fmt.Sprintf("%d.%s", v, name)
			} else {
				name = fmt.Sprintf("%x.%s", v, name)
			}
		}
		out = append(out, name)
	}
	return out
}

// local gives the address to listen at for one as CoreDNS writes it: where that names none, it is loopback.
func (im *importer) local(d Directive, s, otherwise string) (string, bool) {
	if s == "" {
		s = otherwise
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		im.refuse(d, fmt.Sprintf("%q is no address; give ADDRESS:PORT", s))
		return "", false
	}
	if host == "localhost" || host == "" {
		if host == "" {
			im.note(d, "it is on loopback here; name an address to have it elsewhere")
		}
		host = "127.0.0.1"
	}
	a, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil || a.Port() == 0 {
		im.refuse(d, fmt.Sprintf("%q is no address; give ADDRESS:PORT", s))
		return "", false
	}
	return a.String(), true
}

// yaml writes the configuration down.
func (im *importer) yaml(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made from %s.\n", printable(name))
	for _, n := range im.notes {
		b.WriteString(printable(n) + "\n")
	}
	section := func(name string, lines []string) {
		if len(lines) > 0 {
			b.WriteString(name + ":\n")
			for _, l := range lines {
				b.WriteString("  " + l + "\n")
			}
		}
	}
	section("cluster", im.cluster)
	section("forward", im.forward)
	section("stubs", im.stubs)
	if !im.cached {
		im.cache = []string{"maxBytes: 0  # no cache plugin"}
	}
	section("cache", im.cache)
	section("hosts", im.hosts)
	section("zones", im.zones)
	section("rewrites", im.rewrites)
	section("queryLog", im.log)
	section("metrics", im.metrics)
	section("health", im.health)
	section("ready", im.ready)
	if im.limit > 0 {
		fmt.Fprintf(&b, "maxConcurrent: %d\n", im.limit)
	}
	return b.String()
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd || r == 0x85 || r == 0x2028 || r == 0x2029 || r == 0xfeff {
			return '?'
		}
		return r
	}, s)
}

// list writes words as a YAML list in one line.
func list(words []string) string {
	q := make([]string, len(words))
	for i, w := range words {
		q[i] = strconv.QuoteToASCII(w)
	}
	return "[" + strings.Join(q, ", ") + "]"
}
