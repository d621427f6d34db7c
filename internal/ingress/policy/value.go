package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxValue bounds the values that are read, in bytes; ConfigMaps and certificates are not values.
const maxValue = 4 << 10

// printable refuses what could end a line or a header field, or hide in a log.
func printable(s string) error {
	if len(s) > maxValue {
		return fmt.Errorf("longer than %d characters", maxValue)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return errors.New("it contains a control character, such as the end of a line")
		}
	}
	return nil
}

func parseInt(s string, low, high int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errors.New("write a whole number, without a unit")
	}
	if n < low || n > high {
		return 0, fmt.Errorf("it must be from %d to %d", low, high)
	}
	return n, nil
}

func parseSeconds(s string) (time.Duration, error) {
	n, err := parseInt(s, 1, 365*24*3600)
	if err != nil {
		return 0, fmt.Errorf("seconds: %w", err)
	}
	return time.Duration(n) * time.Second, nil
}

// parseSize reads a size as nginx writes them: a number with k, m or g for the powers of 1024.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, errors.New("write a size such as 8m")
	}
	shift := 0
	switch s[len(s)-1] {
	case 'b', 'B':
		s = s[:len(s)-1]
	case 'k', 'K':
		s, shift = s[:len(s)-1], 10
	case 'm', 'M':
		s, shift = s[:len(s)-1], 20
	case 'g', 'G':
		s, shift = s[:len(s)-1], 30
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, errors.New("write a size such as 8m: a number and k, m, g or nothing")
	}
	return int64(n) << shift, nil
}

// parsePrefixes reads ranges and addresses, separated by commas.
func parsePrefixes(s string) ([]netip.Prefix, error) {
	out := []netip.Prefix{}
	for one := range strings.SplitSeq(s, ",") {
		one = strings.TrimSpace(one)
		if a, err := netip.ParseAddr(one); err == nil && a.Zone() == "" {
			a = a.Unmap()
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(one)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a range such as 10.0.0.0/8", one)
		}
		if p.Addr().Is4In6() {
			return nil, fmt.Errorf("%q: write the IPv4 range itself", one)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// parseToken reads an RFC 9110 token: a method, the name of a header or a cookie.
func parseToken(s string) (string, error) {
	if s == "" {
		return "", errors.New("empty")
	}
	for i := range len(s) {
		if c := s[i]; !isNameByte(c) && !strings.ContainsRune("!#$%&'*+-.^`|~", rune(c)) || c >= 0x7f {
			return "", fmt.Errorf("%q may only have letters, digits and a few signs such as - and _", s)
		}
	}
	return s, nil
}

// parseTokens reads a list of tokens, separated by commas.
func parseTokens(s string) (out []string, err error) {
	for one := range strings.SplitSeq(s, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		if one, err = parseToken(one); err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// parseTarget reads the URL of a redirect: http or https, or on this host.
func parseTarget(s string) (Text, error) {
	t, err := parseText(s)
	if err != nil {
		return t, err
	}
	start, rest := t.begins(), ""
	if strings.HasPrefix(s, "$scheme://") || strings.HasPrefix(s, "${scheme}://") {
		_, rest, _ = strings.Cut(s, "://")
	} else if rest = strings.TrimPrefix(strings.TrimPrefix(start, "https://"), "http://"); rest == start {
		return t, errors.New("it must begin with http:// or https://")
	} else if rest == "" && len(t.parts) > 1 {
		rest = "$"
	}
	if rest == "" || rest[0] == '/' {
		return t, errors.New("it names no host")
	}
	if c, ok := t.Constant(); ok {
		u, err := url.Parse(c)
		if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" {
			return t, errors.New("it is not a URL")
		}
	}
	if strings.ContainsAny(s, " \"<>\\^`") {
		return t, errors.New("a URL has no spaces, quotes or backslashes: encode them")
	}
	return t, nil
}

// parseRegexp compiles an expression in linear time; what needs more, such as (?=…) and \1, does not exist there.
func parseRegexp(s string) (*regexp.Regexp, error) {
	if err := printable(s); err != nil {
		return nil, err
	}
	if len(s) > 1024 {
		return nil, errors.New("an expression may have 1024 characters")
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil, fmt.Errorf("it is not an RE2 expression: %w", err)
	}
	return re, nil
}

// parseName reads a DNS label or subdomain, as the names of objects are.
func parseName(s string) (string, error) {
	if s == "" || len(s) > 253 {
		return "", errors.New("it is not the name of an object")
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return "", errors.New("it is not the name of an object")
		}
	}
	return s, nil
}

// parseHost reads a DNS name or address with an optional port, as it stands in a URL.
func parseHost(s string) (string, error) {
	u, err := url.Parse("http://" + s + "/")
	if err != nil || u.Host != s || u.Hostname() == "" || strings.ContainsAny(s, "@?#/\\%") {
		return "", fmt.Errorf("%q is not a host", s)
	}
	return strings.ToLower(s), nil
}

// list reads words that are separated by commas or white space.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' || r == '\r' })
}
