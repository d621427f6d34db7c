package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"fairway.dev/fairway/internal/dns/forward"
)

// maxDuration is as long as a TTL can be (RFC 2181 section 8).
const maxDuration = 1<<31 - 1

// check looks at what the reading of single values cannot see.
func (r *reader) check(f *File) {
	r.seconds("cluster.ttl", f.Cluster.TTL, 0)
	r.oneOf("cluster.pods", f.Cluster.Pods, "insecure", "verified", "disabled")
	r.forward("forward", &f.Forward)
	if f.MaxConcurrent == 0 {
		r.at("maxConcurrent", "0 would answer nothing; give at least 1")
	}
	stubs := map[string]string{}
	for i := range f.Stubs {
		s, path := &f.Stubs[i], fmt.Sprintf("stubs[%d]", i)
		if len(s.Domains) == 0 {
			r.at(path, "no domains; say which names these servers are for")
		}
		if len(s.Servers) == 0 {
			r.at(path, "no servers; say who answers for these domains")
		}
		for k, d := range s.Domains {
			at := fmt.Sprintf("%s.domains[%d]", path, k)
			if len(d) == 1 {
				r.at(at, "the root is what forward is for")
			}
			if other, had := stubs[string(d)]; had {
				r.at(at, "%s is in %s, too; give it once", d, other)
			}
			stubs[string(d)] = at
		}
		r.forward(path, &s.Forward)
	}
	r.cache(&f.Cache)
	r.seconds("hosts.ttl", f.Hosts.TTL, 0)
	for i, p := range f.Hosts.Files {
		r.absolute(fmt.Sprintf("hosts.files[%d]", i), p)
	}
	r.zones(f.Zones)
	r.rewrites(f.Rewrites)
	q := &f.QueryLog
	if q.File != "" && q.File != "stderr" {
		r.absolute("queryLog.file", q.File)
	}
	if q.Sample == 0 {
		r.at("queryLog.sample", "0 of none; 1 writes every question, 100 one of a hundred")
	}
	for i, o := range q.Only {
		r.oneOf(fmt.Sprintf("queryLog.only[%d]", i), o, "all", "success", "denial", "error")
	}
	r.listen("metrics.listen", f.Metrics.Listen)
	r.listen("health.listen", f.Health.Listen)
	r.listen("ready.listen", f.Ready.Listen)
	if f.Health.Lameduck.D() > time.Minute {
		r.at("health.lameduck", "%s is too long to wait for a stop; give at most 1m", f.Health.Lameduck.D())
	}
}

func (r *reader) forward(path string, f *Forward) {
	if f.Timeout.D() < 10*time.Millisecond || f.Timeout.D() > 4*time.Second {
		r.at(path+".timeout", "%s: give from 10ms to 4s, as clients themselves wait for 5s", f.Timeout.D())
	}
	if f.HealthInterval.D() < 10*time.Millisecond {
		r.at(path+".healthInterval", "%s: give at least 10ms", f.HealthInterval.D())
	}
	if f.CAFile != "" {
		r.absolute(path+".caFile", f.CAFile)
		if !slices.ContainsFunc(f.Servers, func(s Server) bool { return s.Transport == forward.TLS }) {
			r.at(path+".caFile", "none of the servers is asked over TLS; write it tls://ADDRESS@NAME, or leave caFile out")
		}
	}
}

func (r *reader) cache(c *Cache) {
	for _, d := range []struct {
		name string
		d    Duration
	}{{"minTTL", c.MinTTL}, {"maxTTL", c.MaxTTL}, {"maxNegativeTTL", c.MaxNegativeTTL}, {"failureTTL", c.FailureTTL}, {"staleFor", c.StaleFor}} {
		r.seconds("cache."+d.name, d.d, 0)
	}
	r.seconds("cache.staleTTL", c.StaleTTL, 1)
	if c.MaxBytes > 0 && c.MaxBytes < 256<<10 {
		r.at("cache.maxBytes", "give 0 for no cache, or at least 256Ki")
	}
	if c.MinTTL > c.MaxTTL {
		r.at("cache.minTTL", "%s is above maxTTL, %s", c.MinTTL.D(), c.MaxTTL.D())
	}
	if c.FailureTTL.D() > 5*time.Minute {
		r.at("cache.failureTTL", "%s: RFC 2308 allows at most 5m", c.FailureTTL.D())
	}
	if c.PrefetchPercent > 90 {
		r.at("cache.prefetchPercent", "%d: give from 0 to 90", c.PrefetchPercent)
	}
	if c.StaleWait.D() > 4*time.Second {
		r.at("cache.staleWait", "%s: give at most 4s, as clients themselves wait for 5s", c.StaleWait.D())
	}
}

func (r *reader) zones(zones []Zone) {
	seen := map[string]bool{}
	for i, z := range zones {
		path := fmt.Sprintf("zones[%d]", i)
		if z.Zone == nil {
			r.at(path, "no zone; name the domain that the file is for")
		}
		if seen[string(z.Zone)] {
			r.at(path+".zone", "%s is there before; give it once", z.Zone)
		}
		seen[string(z.Zone)] = true
		if z.File == "" {
			r.at(path, "no file; say where its records are")
		} else {
			r.absolute(path+".file", z.File)
		}
	}
}

func (r *reader) rewrites(list []Rewrite) {
	seen := map[string]bool{}
	for i := range list {
		w, path := &list[i], fmt.Sprintf("rewrites[%d]", i)
		if w.Match == "" {
			w.Match = "exact"
		}
		r.oneOf(path+".match", w.Match, "exact", "suffix")
		if w.From == nil || w.To == nil {
			r.at(path, "give both from and to")
			continue
		}
		if string(w.From) == string(w.To) {
			r.at(path, "from and to are the same name, %s", w.From)
		}
		if len(w.From) == 1 {
			r.at(path+".from", "the root cannot be rewritten")
		}
		if key := w.Match + string(w.From); seen[key] {
			r.at(path+".from", "%s is there before; give it once", w.From)
		} else {
			seen[key] = true
		}
	}
}

func (r *reader) seconds(path string, d Duration, least int) {
	if d.D()%time.Second != 0 || int(d.D()/time.Second) < least || d.D()/time.Second > maxDuration {
		r.at(path, "%s: give whole seconds from %d on", d.D(), least)
	}
}

func (r *reader) oneOf(path, s string, of ...string) {
	if !slices.Contains(of, s) {
		r.at(path, "%q is not known; give one of %v", s, of)
	}
}

func (r *reader) absolute(path, file string) {
	if !filepath.IsAbs(file) {
		r.at(path, "%q: give an absolute path", file)
	}
}

func (r *reader) listen(path, s string) {
	if s == "" {
		return
	}
	if a, err := netip.ParseAddrPort(s); err != nil || a.Port() == 0 {
		r.at(path, "%q: give ADDRESS:PORT, such as 127.0.0.1:9153", s)
	}
}
