package policy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairway.dev/fairway/internal/model"
)

// Input is what Read looks at.
type Input struct {
	Namespace   string
	Annotations map[string]string
	// Class has the parameters of the Ingress's class; never nil.
	Class *Class
	// Secret and ConfigMap give what annotations name, or nil.
	Secret    func(model.Name) *model.Secret
	ConfigMap func(model.Name) *model.ConfigMap
}

// Verdict is what becomes of one annotation.
type Verdict struct {
	// Annotation is its full name.
	Annotation string
	// Result is its level; Refused as well if its value cannot be used.
	Result Level
	// Closes: because of it every path answers 503.
	Closes bool
	// Problem: it is not done, and Message says why. Otherwise Message is the note of its level, or "".
	Problem bool
	Message string
}

// Outcome is what Read makes of one Ingress.
type Outcome struct {
	// Policy is what the proxy must do; nil asks for nothing.
	Policy *Policy
	// Verdicts has each annotation of an Ingress product, in the order of their names.
	Verdicts []Verdict
	// Refused says why no path may be served, or "".
	Refused string
}

// foreign are the domains of other products, whose annotations are all unknown here.
var foreign = []string{
	"nginx.org/", "nginx.com/", "traefik.ingress.kubernetes.io/", "haproxy.org/", "haproxy-ingress.github.io/", "ingress.kubernetes.io/",
	"projectcontour.io/", "konghq.com/", "appgw.ingress.kubernetes.io/", "alb.ingress.kubernetes.io/",
}

// access are parts of names that speak of who may come in.
var access = []string{
	"auth", "allow", "deny", "whitelist", "blacklist", "block", "modsecurity", "owasp", "waf", "snippet", "satisfy", "limit", "jwt", "oidc", "oauth",
	"plugins", "middlewares", "verify", "client-ca", "security",
}

// neutral are the values that ask for what happens anyway.
var neutral = map[string][]string{
	"backend-protocol": {"HTTP", "AUTO_HTTP"}, "proxy-ssl-verify": {"off"}, "proxy-ssl-server-name": {"off"}, "auth-tls-verify-client": {"off"},
	"load-balance": {"round_robin"}, "limit-rate": {"0"}, "limit-rate-after": {"0"}, "proxy-http-version": {"1.1"}, "mirror-request-body": {"on"},
}

// Read parses the annotations of one Ingress.
func Read(in Input) Outcome {
	if len(in.Annotations) == 0 && !in.Class.asks() {
		return Outcome{}
	}
	r := &reader{in: in, wrong: map[string]error{}}
	names := slices.Sorted(maps.Keys(in.Annotations))
	if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, Domain) }) || in.Class.asks() {
		r.all()
	}
	var o Outcome
	var closed []string
	for _, key := range names {
		v, ours := r.verdict(key)
		if !ours {
			continue
		}
		if v.Closes {
			closed = append(closed, fmt.Sprintf("annotation %s: %s", key, v.Message))
		}
		o.Verdicts = append(o.Verdicts, v)
	}
	o.Refused = strings.Join(closed, "; ")
	if r.used {
		o.Policy = &r.out
	}
	return o
}

// asks tells whether the class has something to say to an Ingress without annotations.
func (c *Class) asks() bool {
	return c.ToHTTPS != Never || c.MaxBody != 0 || c.HSTS != "" || c.Connect != 0 || c.Send != 0 || c.Read != 0
}

func (r *reader) verdict(key string) (v Verdict, ours bool) {
	v = Verdict{Annotation: key, Result: Refused, Problem: true}
	value := strings.TrimSpace(r.in.Annotations[key])
	name, known := strings.CutPrefix(key, Domain)
	if !known {
		i := slices.IndexFunc(foreign, func(d string) bool { return strings.HasPrefix(key, d) })
		if i < 0 {
			return v, false
		}
		name = key[len(foreign[i]):]
	}
	a := Lookup(name)
	off := value == "" || value == "false" || slices.Contains(neutral[name], value)
	switch {
	case !known || a == nil:
		v.Closes = !off && slices.ContainsFunc(access, func(part string) bool { return strings.Contains(name, part) })
		v.Message = "it is not known here"
		if v.Closes {
			v.Message = "it is not known here, and may restrict access: remove it to serve the Ingress without"
		}
	case off && a.Level == Refused:
		v.Result, v.Problem, v.Message = a.Level, false, "switched off, as it is here"
	case a.Level == Refused:
		v.Closes = a.Purpose.closes()
		v.Message = "it is refused"
		if a.Note != "" {
			v.Message += ": " + a.Note
		}
		if v.Closes {
			v.Message += "; remove it to serve the Ingress without"
		}
	case r.wrong[name] != nil:
		v.Closes = a.Purpose.closes()
		v.Message = fmt.Sprintf("its value %s cannot be used: %v", quote(value), r.wrong[name])
	default:
		v.Result, v.Problem, v.Message = a.Level, false, a.Note
	}
	return v, true
}

func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return strconv.Quote(s)
}

// reader takes the annotations one by one. A method that meets a value it cannot read notes that and goes on with the default.
type reader struct {
	in    Input
	out   Policy
	used  bool             // something was asked for
	wrong map[string]error // by name
}

// get gives the value of an annotation that is done here, or "".
func (r *reader) get(name string) string {
	a := Lookup(name)
	if a == nil {
		panic("policy: no annotation " + name)
	}
	if a.Level == Refused {
		return ""
	}
	v := strings.TrimSpace(r.in.Annotations[Domain+name])
	if v != "" {
		r.used = true
	}
	return v
}

func (r *reader) bad(name string, err error) {
	if err != nil && r.wrong[name] == nil {
		r.wrong[name] = err
	}
}

func (r *reader) flag(name string, otherwise bool) bool {
	v := r.get(name)
	if v == "" {
		return otherwise
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		r.bad(name, errors.New("write true or false"))
		return otherwise
	}
	return b
}

func (r *reader) number(name string, otherwise, low, high int) int {
	v := r.get(name)
	if v == "" {
		return otherwise
	}
	n, err := parseInt(v, low, high)
	if err != nil {
		r.bad(name, err)
		return otherwise
	}
	return n
}

func (r *reader) seconds(name string, otherwise time.Duration) time.Duration {
	v := r.get(name)
	if v == "" {
		return otherwise
	}
	d, err := parseSeconds(v)
	if err != nil {
		r.bad(name, err)
		return otherwise
	}
	return d
}

func (r *reader) prefixes(name string) []netip.Prefix {
	v := r.get(name)
	if v == "" {
		return nil
	}
	p, err := parsePrefixes(v)
	r.bad(name, err)
	return p
}

// line gives a value that may stand in a header.
func (r *reader) line(name, otherwise string) string {
	v := r.get(name)
	if v == "" {
		return otherwise
	}
	if err := printable(v); err != nil {
		r.bad(name, err)
		return otherwise
	}
	return v
}

func (r *reader) text(name string) *Text {
	v := r.get(name)
	if v == "" {
		return nil
	}
	t, err := parseText(v)
	if err != nil {
		r.bad(name, err)
		return nil
	}
	return &t
}

// oneOf gives a value of a fixed set.
func (r *reader) oneOf(name, otherwise string, of ...string) string {
	v := r.get(name)
	if v == "" {
		return otherwise
	}
	if !slices.Contains(of, v) {
		r.bad(name, fmt.Errorf("write one of %s", strings.Join(of, ", ")))
		return otherwise
	}
	return v
}

// object reads the name of a Secret or ConfigMap, with or without the Ingress's own namespace before it.
func (r *reader) object(name string) (model.Name, bool) {
	v := r.get(name)
	if v == "" {
		return model.Name{}, false
	}
	n := model.Name{Namespace: r.in.Namespace, Name: v}
	if ns, rest, ok := strings.Cut(v, "/"); ok {
		n = model.Name{Namespace: ns, Name: rest}
	}
	if n.Namespace != r.in.Namespace {
		r.bad(name, errors.New("it lies in another namespace, from where nothing is taken"))
		return n, false
	}
	if _, err := parseName(n.Name); err != nil {
		r.bad(name, err)
		return n, false
	}
	return n, true
}
