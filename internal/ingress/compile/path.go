package compile

import (
	"errors"
	"net/url"
	"strings"

	"fairway.dev/fairway/internal/model"
)

// The reasons for which CanonicalPath refuses a path.
var (
	ErrPathRelative  = errors.New("the path does not begin with a slash")
	ErrPathSeparator = errors.New("the path hides a separator: %2F, %00 and backslashes are not accepted")
	ErrPathDots      = errors.New(`the path has a "." or ".." element: send it resolved`)
)

// CanonicalPath gives the path that rules are compared with: the decoded path of u. It refuses paths that a backend could read
// differently.
func CanonicalPath(u *url.URL) (string, error) {
	p := u.Path
	if p == "" || p[0] != '/' {
		return "", ErrPathRelative
	}
	// RawPath is set only when the path cannot be told from its decoded form; %2F is such a case.
	if u.RawPath != "" && hasEncodedSlash(u.RawPath) {
		return "", ErrPathSeparator
	}
	for i := range len(p) {
		switch p[i] {
		case '\\', 0:
			return "", ErrPathSeparator
		case '/':
			if isDotElement(p[i+1:]) {
				return "", ErrPathDots
			}
		}
	}
	return p, nil
}

// isDotElement tells whether s begins with an element "." or "..". Parameters after a semicolon do not save it: servers that
// know them take them off before they resolve dots.
func isDotElement(s string) bool {
	if s == "" || s[0] != '.' {
		return false
	}
	s = s[1:]
	if s != "" && s[0] == '.' {
		s = s[1:]
	}
	return s == "" || s[0] == '/' || s[0] == ';'
}

func hasEncodedSlash(raw string) bool {
	for i := 0; i+2 < len(raw); i++ {
		if raw[i] == '%' && raw[i+1] == '2' && (raw[i+2] == 'F' || raw[i+2] == 'f') {
			return true
		}
	}
	return false
}

// rulePath checks the path of a rule and gives it decoded; problem is "" when it can be served. Where paths may be expressions, one that is
// ImplementationSpecific may have any characters.
func rulePath(p model.IngressPath, expression bool) (path, problem string) {
	switch p.Type {
	case model.PathExact, model.PathPrefix:
	case model.PathImplementationSpecific:
		if p.Path == "" {
			return "/", ""
		}
	default:
		return "", "pathType must be Exact, Prefix or ImplementationSpecific"
	}
	if !strings.HasPrefix(p.Path, "/") {
		return "", `the path must begin with "/"`
	}
	if expression && p.Type == model.PathImplementationSpecific {
		for i := range len(p.Path) {
			if p.Path[i] < ' ' || p.Path[i] == 0x7f {
				return "", "the path has a control character"
			}
		}
		return p.Path, ""
	}
	if strings.ContainsAny(p.Path, "?#") {
		return "", "a rule cannot match a query: write the path alone"
	}
	u := url.URL{Path: p.Path}
	if d, err := url.PathUnescape(p.Path); err == nil {
		u.Path = d
		if d != p.Path {
			u.RawPath = p.Path
		}
	}
	path, err := CanonicalPath(&u)
	if err != nil {
		return "", "no request can match it: " + err.Error()
	}
	return path, ""
}

// prefixKey is the form in which prefixes are kept: a final slash has no meaning (networking/v1), and the root is "".
func prefixKey(path string) string { return strings.TrimSuffix(path, "/") }

// elements counts the elements of a prefix key.
func elements(key string) int { return strings.Count(key, "/") }
