package dns

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"time"

	"fairway.dev/fairway/internal/dns/cache"
	"fairway.dev/fairway/internal/dns/config"
	"fairway.dev/fairway/internal/dns/forward"
	"fairway.dev/fairway/internal/dns/static"
	"fairway.dev/fairway/internal/dns/wire"
)

// plan is a configuration made ready to answer with. It never changes; another configuration is another plan.
type plan struct {
	file     *config.File
	hosts    *static.Hosts  // nil if there are none
	zones    []*static.Zone // the most specific first
	rewrites rewrites
	routes   []route // the most specific first; the last one is the root's
	except   [][]byte
	cache    *cache.Cache // nil if nothing is kept
	search   [][]byte     // the search path behind the cluster's own domains, for clients that have it completed here
	log      *queryLog    // nil if nothing is written down
	able     bool         // whether there is anybody to forward to
	// read is what the files that this was made from said.
	read map[string]digest
}

type digest = [sha256.Size]byte

// route is who is asked for names of a domain.
type route struct {
	domain []byte
	group  *forward.Group
}

// route gives who is asked for a name in lower case; nil means that nobody is.
func (p *plan) route(name []byte) *forward.Group {
	for _, e := range p.except {
		if isBelow(name, e) {
			return nil
		}
	}
	for i := range p.routes {
		if isBelow(name, p.routes[i].domain) {
			return p.routes[i].group
		}
	}
	return nil
}

// isBelow tells whether a name is a domain or below it, both in wire form and lower case.
func isBelow(name, domain []byte) bool {
	for len(name) > len(domain) {
		name = name[1+name[0]:]
	}
	return bytes.Equal(name, domain)
}

// zone gives the master file's zone that a name belongs to.
func (p *plan) zone(name []byte) *static.Zone {
	for _, z := range p.zones {
		if z.Has(name) {
			return z
		}
	}
	return nil
}

// builder makes plans. It remembers what could be read, so that a file that goes away takes nothing with it.
type builder struct {
	s *Server
	// resolvConf is the last text of each resolv.conf.
	resolvConf map[string][]byte
	// said is what was last logged about each file.
	said map[string]string
}

// errNoConfig is for a configuration file that is not there.
var errConfig = errors.New("dns: configuration")

// build reads everything and makes a plan of it. The files that were read are in the plan also when it fails, as far as it came. What the old
// plan has and what stays the same is taken over: the cache, if the same servers are asked, and what is known about servers.
func (b *builder) build(old *plan) (*plan, error) {
	p := &plan{read: map[string]digest{}}
	f := b.s.cfg.Settings
	if path := b.s.cfg.File; path != "" {
		text, err := p.readFile(path)
		if err != nil {
			return p, fmt.Errorf("%w: %w", errConfig, err)
		}
		if f, err = config.Parse(path, text); err != nil {
			return p, err
		}
	}
	if f == nil {
		f = config.Default()
	}
	p.file = f
	if err := b.s.agree(f); err != nil {
		return p, err
	}
	if err := errors.Join(p.readHosts(), p.readZones()); err != nil {
		return p, err
	}
	p.rewrites = newRewrites(f.Rewrites)
	for _, d := range f.Forward.Except {
		p.except = append(p.except, d)
	}
	if err := b.routes(p, old); err != nil {
		return p, err
	}
	b.search(p)
	p.cache = b.cache(p, old)
	switch q := f.QueryLog; {
	case q.File == "":
	case old != nil && old.log != nil && reflect.DeepEqual(old.log.cfg, q):
		p.log = old.log
	default:
		p.log = newQueryLog(q, b.s.log, &b.s.metrics.unlogged)
	}
	return p, nil
}

func (p *plan) readFile(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	p.read[path] = sha256.Sum256(text) // of nothing, if it could not be read: then its coming is a change
	return text, err
}

func (p *plan) readHosts() error {
	h := static.NewHosts(seconds(p.file.Hosts.TTL.D()), p.file.Hosts.Reverse)
	var errs []error
	for _, path := range p.file.Hosts.Files {
		text, err := p.readFile(path)
		if err == nil {
			err = h.Add(path, text)
		}
		errs = append(errs, err)
	}
	for i, e := range p.file.Hosts.Entries {
		errs = append(errs, h.Add(fmt.Sprintf("hosts.entries[%d]", i), []byte(e)))
	}
	if !h.Empty() {
		p.hosts = h
	}
	return errors.Join(errs...)
}

func (p *plan) readZones() error {
	var errs []error
	for _, z := range p.file.Zones {
		text, err := p.readFile(z.File)
		var zone *static.Zone
		if err == nil {
			zone, err = static.ParseZone(z.Zone, z.File, text)
		}
		errs = append(errs, err)
		p.zones = append(p.zones, zone)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	slices.SortStableFunc(p.zones, func(a, b *static.Zone) int { return cmp.Compare(len(b.Origin()), len(a.Origin())) })
	return nil
}

// routes makes the groups of servers.
func (b *builder) routes(p, old *plan) error {
	add := func(domains []config.Domain, f *config.Forward, servers []forward.Address) error {
		cfg := forward.Config{
			Servers: servers, Policy: f.Policy.Policy, Timeout: f.Timeout.D(), MaxFails: f.MaxFails, HealthInterval: f.HealthInterval.D(), Idle: f.Idle.D(),
			Dial: b.s.ns.dial, Self: b.s.listens, Logger: b.s.log,
		}
		if f.CAFile != "" {
			pem, err := p.readFile(f.CAFile)
			if err != nil {
				return err
			}
			if cfg.Roots = x509.NewCertPool(); !cfg.Roots.AppendCertsFromPEM(pem) {
				return fmt.Errorf("%s: no certificate in it; a caFile is PEM", f.CAFile)
			}
		}
		for _, d := range domains {
			cfg.Zone = d
			p.routes = append(p.routes, route{d, old.sameGroup(cfg, f.CAFile, p)})
		}
		return nil
	}
	for i := range p.file.Stubs {
		s := &p.file.Stubs[i]
		if err := add(s.Domains, &s.Forward, b.servers(p, s.Servers)); err != nil {
			return err
		}
	}
	root := &p.file.Forward
	servers := b.servers(p, root.Servers)
	p.able = len(root.Servers) > 0
	if !p.able {
		for _, a := range b.s.cfg.Upstreams {
			servers = append(servers, forward.Address{AddrPort: netip.AddrPortFrom(a.Addr().Unmap(), a.Port())})
		}
		if path := b.s.cfg.ResolvConf; len(servers) == 0 && path != "" {
			servers = b.servers(p, []config.Server{{Path: path}})
			p.able = true
		}
		p.able = p.able || len(servers) > 0
	}
	if err := add([]config.Domain{{0}}, root, servers); err != nil {
		return err
	}
	slices.SortStableFunc(p.routes, func(a, b route) int { return cmp.Compare(len(b.domain), len(a.domain)) })
	return nil
}

// sameGroup gives the old plan's group if it is one of the same configuration, as much is known about its servers; else a new one.
func (p *plan) sameGroup(cfg forward.Config, caFile string, next *plan) *forward.Group {
	if p != nil && (caFile == "" || p.read[caFile] == next.read[caFile]) {
		for _, r := range p.routes {
			if bytes.Equal(r.domain, cfg.Zone) && r.group.Same(cfg) && (caFile != "") == r.group.OwnRoots() {
				return r.group
			}
		}
	}
	return forward.New(cfg)
}

// servers gives the addresses of a list, those in files like /etc/resolv.conf included. A file that cannot be read is as it was.
func (b *builder) servers(p *plan, list []config.Server) (out []forward.Address) {
	for _, s := range list {
		if s.Path == "" {
			out = append(out, s.Address)
			continue
		}
		text, err := p.readFile(s.Path)
		if err != nil {
			b.say(s.Path, fmt.Sprintf("dns: read %s: %v; the resolvers read before stay", s.Path, err))
			text = b.resolvConf[s.Path]
		} else {
			b.resolvConf[s.Path] = text
			b.said[s.Path] = ""
		}
		for _, a := range forward.ParseResolvConf(text) {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// say logs a message about a file, unless it was the last one.
func (b *builder) say(path, message string) {
	if b.said[path] != message {
		b.s.log.Warn(message)
		b.said[path] = message
	}
}

// search reads the host's own search path, which the kubelet gives Pods behind the cluster's.
func (b *builder) search(p *plan) {
	if !p.file.Cluster.SearchCompletion || b.s.cfg.ResolvConf == "" {
		return
	}
	text, err := p.readFile(b.s.cfg.ResolvConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.say("search", fmt.Sprintf("dns: search path of %s: %v", b.s.cfg.ResolvConf, err))
	}
	for _, d := range forward.ParseSearch(text) {
		if name, err := wire.EncodeName(nil, d); err == nil {
			p.search = append(p.search, name)
		}
	}
}

func (b *builder) cache(p, old *plan) *cache.Cache {
	c := &p.file.Cache
	if c.MaxBytes == 0 {
		return nil
	}
	if old != nil && old.cache != nil && old.file.Cache == *c && slices.EqualFunc(p.routes, old.routes, func(a, b route) bool { return a.group == b.group }) {
		return old.cache
	}
	return cache.New(cache.Config{
		MaxBytes: int(c.MaxBytes), MinTTL: c.MinTTL.D(), MaxTTL: c.MaxTTL.D(), MaxNegative: c.MaxNegativeTTL.D(), Failure: c.FailureTTL.D(),
		PrefetchHits: c.PrefetchHits, PrefetchPercent: c.PrefetchPercent, StaleFor: c.StaleFor.D(),
	})
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }
