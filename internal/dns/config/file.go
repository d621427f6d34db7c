package config

import (
	"time"

	"fairway.dev/fairway/internal/dns/forward"
)

// File is a whole configuration. The tags are the names in YAML.
type File struct {
	Cluster  Cluster   `yaml:"cluster"`
	Forward  Forward   `yaml:"forward"`
	Stubs    []Stub    `yaml:"stubs"`
	Cache    Cache     `yaml:"cache"`
	Hosts    Hosts     `yaml:"hosts"`
	Zones    []Zone    `yaml:"zones"`
	Rewrites []Rewrite `yaml:"rewrites"`
	QueryLog QueryLog  `yaml:"queryLog"`
	Metrics  Listen    `yaml:"metrics"`
	Health   Health    `yaml:"health"`
	Ready    Listen    `yaml:"ready"`
	// MaxConcurrent is how many questions may wait for other servers at once.
	MaxConcurrent int `yaml:"maxConcurrent"`
}

// Cluster is about the cluster's own names. It is read at start.
type Cluster struct {
	// Domain must be what --cluster-domain says; it is here so that a file can be kept from serving another cluster.
	Domain Domain `yaml:"domain"`
	// TTL of the cluster's records, in whole seconds.
	TTL Duration `yaml:"ttl"`
	// Pods says what is answered for names that spell a Pod's address: insecure, verified or disabled.
	Pods string `yaml:"pods"`
	// SearchCompletion walks the client's search path on the server (CoreDNS's autopath).
	SearchCompletion bool `yaml:"searchCompletion"`
}

// Forward is a group of servers for names that are not known here.
type Forward struct {
	// Servers are addresses as forward.ParseAddress reads them, or absolute paths of files like /etc/resolv.conf.
	Servers        []Server `yaml:"servers"`
	Policy         Policy   `yaml:"policy"`
	Timeout        Duration `yaml:"timeout"`
	MaxFails       int      `yaml:"maxFails"`
	HealthInterval Duration `yaml:"healthInterval"`
	Idle           Duration `yaml:"idle"`
	// CAFile has the authorities, in PEM, for servers over TLS; "" is the system's.
	CAFile string `yaml:"caFile"`
	// Except are domains that are not forwarded: they are refused.
	Except []Domain `yaml:"except"`
}

// Stub is a group of servers for some domains.
type Stub struct {
	Domains []Domain `yaml:"domains"`
	Forward `yaml:",inline"`
}

// Cache says how answers of other servers are kept.
type Cache struct {
	// MaxBytes bounds the memory; 0 keeps nothing.
	MaxBytes        Bytes    `yaml:"maxBytes"`
	MinTTL          Duration `yaml:"minTTL"`
	MaxTTL          Duration `yaml:"maxTTL"`
	MaxNegativeTTL  Duration `yaml:"maxNegativeTTL"`
	FailureTTL      Duration `yaml:"failureTTL"`
	PrefetchHits    int      `yaml:"prefetchHits"`
	PrefetchPercent int      `yaml:"prefetchPercent"`
	// StaleFor is how long after its end an answer may be given when no server answers; 0 never.
	StaleFor Duration `yaml:"staleFor"`
	// StaleTTL is the TTL of such an answer; StaleWait is how long the servers have before it is given.
	StaleTTL  Duration `yaml:"staleTTL"`
	StaleWait Duration `yaml:"staleWait"`
}

// Hosts are names with fixed addresses, in the syntax of hosts(5).
type Hosts struct {
	Files   []string `yaml:"files"`
	Entries []string `yaml:"entries"`
	TTL     Duration `yaml:"ttl"`
	// Reverse also answers PTR questions for the addresses.
	Reverse bool `yaml:"reverse"`
}

// Zone is a zone read from a master file (RFC 1035 section 5).
type Zone struct {
	Zone Domain `yaml:"zone"`
	File string `yaml:"file"`
}

// Rewrite answers for one name what another one has.
type Rewrite struct {
	// Match is exact, or suffix: then whatever is below From is looked up below To.
	Match string `yaml:"match"`
	From  Domain `yaml:"from"`
	To    Domain `yaml:"to"`
}

// QueryLog writes questions and answers as JSON, one line for each.
type QueryLog struct {
	// File is where to; "" is nowhere, and stderr is that.
	File string `yaml:"file"`
	// Sample writes one of so many.
	Sample int `yaml:"sample"`
	// Only are the kinds that are written: all, denial, error, success.
	Only []string `yaml:"only"`
}

// Listen is where an HTTP listener is; "" is nowhere. It is read at start.
type Listen struct {
	Listen string `yaml:"listen"`
}

// Health is the listener of /health.
type Health struct {
	Listen string `yaml:"listen"`
	// Lameduck is how long the server goes on answering after it was told to stop, while /health says no.
	Lameduck Duration `yaml:"lameduck"`
}

// Server is an address, or a file in the syntax of resolv.conf(5).
type Server struct {
	forward.Address
	Path string
}

// Policy is the order in which servers are asked.
type Policy struct{ forward.Policy }

// Duration is a length of time, written as 1.5s, 30s, 1h.
type Duration time.Duration

// Bytes is an amount of memory, written as 16Mi, 512Ki or a number.
type Bytes int

// Domain is a domain name in wire form and lower case; nil if none was given.
type Domain []byte

const mebi = 1 << 20

func defaultForward() Forward {
	return Forward{
		Timeout: Duration(1500 * time.Millisecond), MaxFails: 2, HealthInterval: Duration(500 * time.Millisecond), Idle: Duration(10 * time.Second),
	}
}

// Default is what an empty file means. Its Forward has no servers: who calls knows where to take those from.
func Default() *File {
	return &File{
		Cluster: Cluster{TTL: Duration(5 * time.Second), Pods: "insecure"},
		Forward: defaultForward(),
		Cache: Cache{
			MaxBytes: 16 * mebi, MaxTTL: Duration(time.Hour), MaxNegativeTTL: Duration(30 * time.Minute), FailureTTL: Duration(5 * time.Second),
			PrefetchHits: 2, PrefetchPercent: 10,
			StaleFor: Duration(24 * time.Hour), StaleTTL: Duration(30 * time.Second), StaleWait: Duration(1800 * time.Millisecond),
		},
		Hosts: Hosts{TTL: Duration(time.Hour), Reverse: true}, QueryLog: QueryLog{Sample: 1, Only: []string{"all"}},
		MaxConcurrent: 1000,
	}
}
