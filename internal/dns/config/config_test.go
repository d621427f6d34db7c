package config_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dns/config"
	"fairway.dev/fairway/internal/dns/forward"
)

const whole = `
cluster: {domain: Cluster.Local., ttl: 30s, pods: disabled, searchCompletion: true}
forward:
  servers: [192.0.2.1, "[2001:db8::1]:5353", tcp://192.0.2.2, tls://192.0.2.3@dns.example, /etc/resolv.conf]
  policy: roundRobin
  timeout: 2s
  maxFails: 0
  healthInterval: 1s
  idle: 30s
  caFile: /etc/ssl/own.pem
  except: [internal.example]
stubs:
- domains: [corp.example, 10.in-addr.arpa]
  servers: [10.0.0.1]
  policy: random
cache: {maxBytes: 32Mi, minTTL: 1s, maxTTL: 30s, maxNegativeTTL: 10s, failureTTL: 0s, prefetchHits: 0, prefetchPercent: 20, staleFor: 0s, staleTTL: 5s, staleWait: 0s}
hosts: {files: [/etc/hosts.extra], entries: [192.0.2.9 nine.example], ttl: 60s, reverse: false}
zones: [{zone: example.org, file: /etc/db.example.org}]
rewrites: [{from: a.example, to: b.example}, {match: suffix, from: old.example, to: new.example}]
queryLog: {file: stderr, sample: 100, only: [denial, error]}
metrics: {listen: "127.0.0.1:9153"}
health: {listen: "127.0.0.1:8080", lameduck: 5s}
ready: {listen: "[::1]:8181"}
maxConcurrent: 50
`

func TestParse(t *testing.T) {
	f, err := config.Parse("dns.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if f.Cluster.Domain.String() != "cluster.local." || f.Cluster.TTL.D() != 30*time.Second || !f.Cluster.SearchCompletion {
		t.Errorf("%+v", f.Cluster)
	}
	var servers []string
	for _, s := range f.Forward.Servers {
		if servers = append(servers, s.Path); s.Path == "" {
			servers[len(servers)-1] = s.Address.String()
		}
	}
	if got := strings.Join(servers, " "); got != "192.0.2.1:53 [2001:db8::1]:5353 tcp://192.0.2.2:53 tls://192.0.2.3:853@dns.example /etc/resolv.conf" {
		t.Error(got)
	}
	if f.Forward.Policy.Policy != forward.RoundRobin || f.Forward.MaxFails != 0 || f.Stubs[0].MaxFails != 2 || f.Stubs[0].Policy.Policy != forward.Random {
		t.Errorf("%+v %+v", f.Forward, f.Stubs)
	}
	if f.Cache.MaxBytes != 32<<20 || f.Hosts.Reverse || f.Rewrites[0].Match != "exact" || f.MaxConcurrent != 50 {
		t.Errorf("%+v", f)
	}
	for _, empty := range []string{"", "# nothing\n", "---\n", "forward:\ncache:\n"} {
		if f, err := config.Parse("e", []byte(empty)); err != nil || !reflect.DeepEqual(f, config.Default()) {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

// TestMistakes: one line for each mistake: file, line, field, what helps.
func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"forwarder:\n  servers: []":                    `dns.yaml:1: forwarder: no such field; there are cache, cluster, forward`,
		"forward:\n  servers: [1.2.3]":                 `dns.yaml:2: forward.servers[0]: "1.2.3" is no address; give ADDRESS[:PORT]`,
		"forward:\n  servers: [dns.example]":           `dns.yaml:2: forward.servers[0]: "dns.example" is no address`,
		"forward:\n  servers: [quic://1.1.1.1]":        `quic:// is not known`,
		"forward:\n  policy: best":                     `dns.yaml:2: forward.policy: "best" is not known; give sequential, random or roundRobin`,
		"forward:\n  timeout: 10":                      `dns.yaml:2: forward.timeout: "10" is no length of time; write it like 1.5s`,
		"forward:\n  timeout: 1m":                      `dns.yaml:2: forward.timeout: 1m0s: give from 10ms to 4s`,
		"forward:\n  maxFails: -1":                     `dns.yaml:2: forward.maxFails: "-1" is no number from 0 on`,
		"forward:\n  servers: 1.1.1.1":                 `dns.yaml:2: forward.servers: want a list, not a value`,
		"forward:\n  caFile: /x\n  servers: [1.1.1.1]": `dns.yaml:2: forward.caFile: none of the servers is asked over TLS`,
		"forward: [a]":                                 `dns.yaml:1: forward: want fields, not a list`,
		"forward: {}\ncache: {}\nforward: {}":          `dns.yaml:3: forward: given before, in line 1; keep one`,
		"cache:\n  maxTTL: 1.5s":                       `dns.yaml:2: cache.maxTTL: 1.5s: give whole seconds`,
		"cache:\n  minTTL: 2h":                         `dns.yaml:2: cache.minTTL: 2h0m0s is above maxTTL`,
		"cache:\n  maxBytes: 5MB":                      `dns.yaml:2: cache.maxBytes: "5MB" is no amount of memory; write it like 16Mi`,
		"cache:\n  maxBytes: 1Ki":                      `give 0 for no cache, or at least 256Ki`,
		"stubs:\n- servers: [1.1.1.1]":                 `dns.yaml:2: stubs[0]: no domains; say which`,
		"stubs:\n- domains: [a.example]":               `dns.yaml:2: stubs[0]: no servers; say who`,
		"stubs:\n- {domains: [a], servers: [1.1.1.1]}\n- domains:\n  - A.\n  servers: [1.1.1.1]": `dns.yaml:4: stubs[1].domains[0]: a. is in stubs[0].domains[0], too`,
		"stubs:\n- {domains: [.], servers: [1.1.1.1]}":                                           `the root is what forward is for`,
		"stubs:\n- {domains: [a..b], servers: [1.1.1.1]}":                                        `"a..b" is no domain name`,
		"rewrites:\n- {from: a}":                                                                 `dns.yaml:2: rewrites[0]: give both from and to`,
		"rewrites:\n- {from: a, to: a}":                                                          `from and to are the same name`,
		"rewrites:\n- {from: a, to: b, match: regex}":                                            `dns.yaml:2: rewrites[0].match: "regex" is not known`,
		"zones:\n- {zone: a, file: db.a}":                                                        `dns.yaml:2: zones[0].file: "db.a": give an absolute path`,
		"queryLog: {sample: 0}":                                                                  `queryLog.sample: 0 of none`,
		"health: {listen: 8080}":                                                                 `"8080": give ADDRESS:PORT`,
		"cluster: {pods: maybe}":                                                                 `"maybe" is not known; give one of`,
		"hosts: {reverse: maybe}":                                                                `"maybe" is neither true nor false`,
		"maxConcurrent: 0":                                                                       `dns.yaml:1: maxConcurrent: 0 would answer nothing`,
		"a: [":                                                                                   `dns.yaml: line 1`,
		"{}\n---\n{}":                                                                            `more than one document`,
		"text":                                                                                   `dns.yaml:1: want fields, not a value`,
	} {
		_, err := config.Parse("dns.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n  %v\nwant\n  %s", text, err, want)
		}
	}
	// All mistakes are told, not the first one.
	_, err := config.Parse("f", []byte("x: 1\ny: 2\nforward: {policy: z}"))
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("%v", err)
	}
}

// TestReference: docs/dns.md has every field, and no other.
func TestReference(t *testing.T) {
	text, err := os.ReadFile("../../../docs/dns.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z][A-Za-z.]*)` \\|").FindAllStringSubmatch(string(text), -1) {
		told[m[1]] = true
	}
	var walk func(path string, v reflect.Type)
	walk = func(path string, v reflect.Type) {
		for v.Kind() == reflect.Slice && v.Elem().Kind() == reflect.Struct {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct || v.Field(0).Tag.Get("yaml") == "" {
			if !told[path] {
				t.Errorf("docs/dns.md does not tell of %s", path)
			}
			delete(told, path)
			return
		}
		for i := range v.NumField() {
			name, inline, _ := strings.Cut(v.Field(i).Tag.Get("yaml"), ",")
			if inline != "" {
				continue // the fields of forward, told there
			}
			walk(strings.TrimPrefix(path+"."+name, "."), v.Field(i).Type)
		}
	}
	walk("", reflect.TypeFor[config.File]())
	for path := range told {
		t.Errorf("docs/dns.md tells of %s, which is no field", path)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("a: &x {b: *x}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := config.Parse("f", b)
		if (file == nil) == (err == nil) {
			t.Fatal(file, err)
		}
	})
}
