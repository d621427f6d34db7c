package compile

import (
	"net/netip"
	"strings"
)

// CanonicalHost gives the name in a Host header or :authority: lower case, without port and without the final dot. ok is
// false if it is not a host at all (RFC 3986 section 3.2.2, without percent-encoding and sub-delimiters, which no DNS name has).
// IPv6 addresses keep their brackets. The empty host, which HTTP/1.0 may send, is ok.
func CanonicalHost(authority string) (host string, ok bool) {
	if strings.HasPrefix(authority, "[") {
		return canonicalIPv6(authority)
	}
	host = authority
	if i := strings.IndexByte(host, ':'); i >= 0 {
		if !isPort(host[i+1:]) {
			return "", false
		}
		host = host[:i]
		if host == "" {
			return "", false
		}
	}
	lower := true
	for i := range len(host) {
		switch c := host[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		case c >= 'A' && c <= 'Z':
			lower = false
		default:
			return "", false
		}
	}
	if !lower {
		host = strings.ToLower(host)
	}
	if n := len(host); n > 1 && host[n-1] == '.' {
		host = host[:n-1]
	}
	return host, len(host) <= 253
}

func canonicalIPv6(authority string) (string, bool) {
	end := strings.IndexByte(authority, ']')
	if end < 0 {
		return "", false
	}
	if rest := authority[end+1:]; rest != "" && (rest[0] != ':' || !isPort(rest[1:])) {
		return "", false
	}
	a, err := netip.ParseAddr(authority[1:end])
	if err != nil || !a.Is6() || a.Zone() != "" {
		return "", false
	}
	return "[" + a.String() + "]", true
}

// isPort admits the empty port, as RFC 3986 section 3.2.3 does.
func isPort(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) <= 5
}

// checkRuleHost says what is wrong with the host of a rule or of a TLS entry, or "" (networking/v1: a DNS name, or "*." and
// a DNS name; never an address, never with a port).
func checkRuleHost(host string) string {
	name := strings.TrimPrefix(host, "*.")
	switch {
	case name == "*":
		return `a lone "*" is not a host: leave the host out to serve every host`
	case strings.Contains(name, "*"):
		return `"*" may only stand for the whole first label, as in "*.example.com"`
	case strings.Contains(name, ":"):
		return "a host carries no port: the listener decides the port"
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "an address is not a host: use a DNS name, or leave the host out"
	}
	if len(name) > 253 {
		return "longer than 253 characters"
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "not a DNS name"
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return "not a DNS name in lower case"
			}
		}
	}
	return ""
}
