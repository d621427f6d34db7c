package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// Text is literal text with variables of the request in it.
type Text struct {
	parts []textPart
}

type textPart struct {
	literal  string
	variable Variable
	name     string // of the header, cookie or parameter
}

// Variable is something of a request that a Text may contain.
type Variable uint8

// The variables. Their names are those of nginx.
const (
	literal          Variable = iota
	VarHost                   // $host: the canonical host
	VarScheme                 // $scheme: http or https
	VarURI                    // $uri: the path, decoded
	VarRequestURI             // $request_uri: path and query as received
	VarEscapedURI             // $escaped_request_uri: the same, fit to be the value of a query parameter
	VarMethod                 // $request_method
	VarClient                 // $remote_addr, $binary_remote_addr: the client's address
	VarArgs                   // $args, $query_string
	VarHeader                 // $http_NAME
	VarCookie                 // $cookie_NAME
	VarParameter              // $arg_NAME
	VarProxyHost              // $proxy_host: the Service
	VarServerName             // $server_name: the rule's host
	VarServicePort            // $service_port
	VarRequestScheme          // $pass_access_scheme: as $scheme
)

var variables = map[string]Variable{
	"host": VarHost, "http_host": VarHost, "best_http_host": VarHost, "scheme": VarScheme, "uri": VarURI, "request_uri": VarRequestURI, "escaped_request_uri": VarEscapedURI,
	"request_method": VarMethod, "remote_addr": VarClient, "binary_remote_addr": VarClient, "the_real_ip": VarClient, "args": VarArgs,
	"query_string": VarArgs, "proxy_host": VarProxyHost, "server_name": VarServerName, "service_port": VarServicePort, "pass_access_scheme": VarRequestScheme,
}

// parseText reads variables out of a value; one that is not known is an error, as is a character that could end a line.
func parseText(s string) (Text, error) {
	var t Text
	if err := printable(s); err != nil {
		return t, err
	}
	for s != "" {
		i := strings.IndexByte(s, '$')
		if i != 0 {
			if i < 0 {
				i = len(s)
			}
			t.parts = append(t.parts, textPart{literal: s[:i]})
			s = s[i:]
			continue
		}
		var name string
		if strings.HasPrefix(s, "${") {
			j := strings.IndexByte(s, '}')
			if j < 0 {
				return Text{}, fmt.Errorf(`"${" is not closed`)
			}
			name, s = s[2:j], s[j+1:]
		} else {
			j := 1
			for j < len(s) && isNameByte(s[j]) {
				j++
			}
			name, s = s[1:j], s[j:]
		}
		p, err := variable(name)
		if err != nil {
			return Text{}, err
		}
		t.parts = append(t.parts, p)
	}
	return t, nil
}

func variable(name string) (textPart, error) {
	if v, ok := variables[name]; ok {
		return textPart{variable: v}, nil
	}
	for _, f := range []struct {
		prefix string
		v      Variable
	}{{"http_", VarHeader}, {"cookie_", VarCookie}, {"arg_", VarParameter}} {
		if rest, ok := strings.CutPrefix(name, f.prefix); ok && rest != "" {
			if f.v == VarHeader {
				rest = strings.ReplaceAll(rest, "_", "-")
			}
			return textPart{variable: f.v, name: rest}, nil
		}
	}
	return textPart{}, fmt.Errorf("the variable $%s is not known", name)
}

func isNameByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// Expand gives the text for one request. value gives a variable; name is that of the header, cookie or parameter, or "".
func (t *Text) Expand(value func(v Variable, name string) string) string {
	if len(t.parts) == 1 && t.parts[0].variable == literal {
		return t.parts[0].literal
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.variable == literal {
			b.WriteString(p.literal)
		} else {
			b.WriteString(value(p.variable, p.name))
		}
	}
	return b.String()
}

// Constant gives the text if there is no variable in it.
func (t *Text) Constant() (s string, ok bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].variable == literal:
		return t.parts[0].literal, true
	}
	return "", false
}

// begins is the literal text at the beginning.
func (t *Text) begins() string {
	if len(t.parts) > 0 && t.parts[0].variable == literal {
		return t.parts[0].literal
	}
	return ""
}

// Port is that of a URL, or the one that its scheme stands for.
func (t *Text) Port() uint16 {
	scheme, rest, _ := strings.Cut(t.begins(), "://")
	authority, _, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, ':'); i >= 0 {
		if n, err := strconv.ParseUint(authority[i+1:], 10, 16); err == nil {
			return uint16(n)
		}
	}
	if scheme == "https" {
		return 443
	}
	return 80
}
