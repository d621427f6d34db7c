package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"fairway.dev/fairway/examples/imaging/photos"
)

// Sighting is what a probe found in one way of reaching a Service. It prints one a line, as JSON.
type Sighting struct {
	Way      string   `json:"way"`                // the name that was asked for, or "env IMAGING"
	Host     string   `json:"host,omitempty"`     // what was connected to: the name, or the address from the environment
	Resolved []string `json:"resolved,omitempty"` // addresses of the name
	ServedBy string   `json:"servedBy,omitempty"` // Pod that answered
	Bytes    int      `json:"bytes,omitempty"`    // size of its answer
	Took     string   `json:"took,omitempty"`     // of resolving and asking
	Error    string   `json:"error,omitempty"`
}

// probe is "gallery probe [-env PREFIX] NAME…": it reaches imaging once by each name, and once by the environment variables
// PREFIX_SERVICE_HOST and PREFIX_SERVICE_PORT, prints a Sighting for each, and reports whether all of them answered.
func probe(ctx context.Context, out io.Writer, args []string) bool {
	flags := flag.NewFlagSet("probe", flag.ExitOnError)
	prefix := flags.String("env", "", "also use the environment variables `PREFIX`_SERVICE_HOST and PREFIX_SERVICE_PORT")
	_ = flags.Parse(args) // ExitOnError
	lines := json.NewEncoder(out)
	fine := true
	report := func(s Sighting, begin time.Time, err error) {
		s.Took = time.Since(begin).Round(10 * time.Microsecond).String()
		if err != nil {
			s.Error = err.Error()
			fine = false
		}
		_ = lines.Encode(s) // standard output; if it is gone, nobody looks
	}
	for _, name := range flags.Args() {
		begin := time.Now()
		s, err := byName(ctx, name)
		report(s, begin, err)
	}
	if *prefix != "" {
		begin := time.Now()
		s, err := byEnvironment(ctx, *prefix)
		report(s, begin, err)
	}
	return fine
}

func byName(ctx context.Context, name string) (Sighting, error) {
	s := Sighting{Way: name, Host: name}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var err error
	if s.Resolved, err = net.DefaultResolver.LookupHost(ctx, name); err != nil {
		return s, err
	}
	return s.ask(ctx)
}

func byEnvironment(ctx context.Context, prefix string) (Sighting, error) {
	s := Sighting{Way: "env " + prefix}
	host, port := os.Getenv(prefix+"_SERVICE_HOST"), os.Getenv(prefix+"_SERVICE_PORT")
	if _, err := netip.ParseAddr(host); err != nil {
		return s, fmt.Errorf("%s_SERVICE_HOST=%q is not an address", prefix, host)
	}
	if port == "" {
		return s, fmt.Errorf("%s_SERVICE_PORT is not set", prefix)
	}
	s.Host = net.JoinHostPort(host, port)
	return s.ask(ctx)
}

// ask makes the request over a connection of its own.
func (s Sighting) ask(ctx context.Context) (Sighting, error) {
	b, err := newBackend("http://" + strings.TrimSuffix(s.Host, ".") + "/")
	if err != nil {
		return s, err
	}
	defer b.http.CloseIdleConnections()
	b.http.Transport.(*http.Transport).DisableKeepAlives = true
	p, err := b.ask(ctx, photos.All()[0], operations[0].Query)
	s.ServedBy, s.Bytes = p.ServedBy, len(p.Bytes)
	return s, err
}
