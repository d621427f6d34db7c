package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fairway.dev/fairway/internal/dns/forward"
	"fairway.dev/fairway/internal/dns/wire"
)

// UnmarshalText reads a length of time.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no length of time; write it like 1.5s, 30s or 1h", b)
	}
	*d = Duration(v)
	return nil
}

// D is the length of time.
func (d Duration) D() time.Duration { return time.Duration(d) }

// UnmarshalText reads an amount of memory.
func (n *Bytes) UnmarshalText(b []byte) error {
	s, unit := string(b), 1
	for suffix, u := range map[string]int{"Ki": 1 << 10, "Mi": mebi, "Gi": 1 << 30} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			s, unit = rest, u
		}
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < 0 || v > 1<<40/unit {
		return fmt.Errorf("%q is no amount of memory; write it like 16Mi", b)
	}
	*n = Bytes(v * unit)
	return nil
}

// UnmarshalText reads the name of a domain; "." is the root.
func (d *Domain) UnmarshalText(b []byte) error {
	name, err := wire.EncodeName(nil, string(b))
	if len(b) == 0 {
		err = errors.New("empty")
	}
	if err != nil {
		return fmt.Errorf("%q is no domain name: %w", b, err)
	}
	*d = name
	return nil
}

// String writes the name with dots.
func (d Domain) String() string { return wire.NameString(d) }

// UnmarshalText reads an address or an absolute path.
func (s *Server) UnmarshalText(b []byte) (err error) {
	if filepath.IsAbs(string(b)) {
		s.Path = string(b)
		return nil
	}
	s.Address, err = forward.ParseAddress(string(b))
	return err
}

// UnmarshalText reads the name of a policy.
func (p *Policy) UnmarshalText(b []byte) error {
	switch string(b) {
	case "sequential":
		p.Policy = forward.Sequential
	case "random":
		p.Policy = forward.Random
	case "roundRobin":
		p.Policy = forward.RoundRobin
	default:
		return fmt.Errorf("%q is not known; give sequential, random or roundRobin", b)
	}
	return nil
}
