package proxy

import (
	"net/http"
	"strings"
)

// isHopByHop tells the headers that end at each hop (RFC 9110 section 7.6.1, and the older ones that are still met). The
// key is canonical. Content-Length is among them because framing is made anew.
func isHopByHop(key string) bool {
	switch key {
	case "Connection", "Content-Length", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// namedByConnection tells whether a Connection header lists the key, which ends it at this hop as well.
func namedByConnection(connection []string, key string) bool {
	return hasToken(connection, key)
}

// hasToken looks for a token in comma-separated header values, without regard to case.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for len(v) > 0 {
			var part string
			part, v, _ = strings.Cut(v, ",")
			if strings.EqualFold(strings.Trim(part, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// claimsOrigin tells the headers by which a proxy says who is behind it, also in the spellings that some servers take for the
// same: underscores for hyphens. "Proxy" would become HTTP_PROXY in a CGI environment.
func claimsOrigin(key string) bool {
	switch key {
	case "Forwarded", "Proxy", "X-Real-Ip":
		return true
	}
	if len(key) < 6 || key[0] != 'X' {
		return false
	}
	if strings.HasPrefix(key, "X-Forwarded-") {
		return true
	}
	if strings.IndexByte(key, '_') < 0 {
		return false
	}
	plain := http.CanonicalHeaderKey(strings.ReplaceAll(key, "_", "-"))
	return plain == "X-Real-Ip" || strings.HasPrefix(plain, "X-Forwarded-")
}
