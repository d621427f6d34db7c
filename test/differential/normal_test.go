package differential

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// slots is how many cases run at once. Each has numbers of its own from the lower bands, from which nothing is picked while
// there is something else: 256 addresses and 128 ports.
const (
	slots        = 16
	addressStart = 16
	perSlot      = 12 // addresses
	portsPerSlot = 7
)

// chosen are the addresses that choice gives.
var chosen = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/24"), netip.MustParsePrefix("fd00:96::/120")}

// choice is a number that a manifest may choose.
func (s *session) choice(kind string, n int) string {
	switch kind {
	case "ip4":
		return fmt.Sprintf("10.96.0.%d", addressStart+s.slot*perSlot+n)
	case "ip6":
		return fmt.Sprintf("fd00:96::%x", addressStart+s.slot*perSlot+n)
	case "port":
		return fmt.Sprint(nodePorts.Base + s.slot*portsPerSlot + n)
	case "net4": // the first three numbers of an IPv4 network
		i := (s.attempt*4 + n) % (128 << 8)
		return fmt.Sprintf("10.%d.%d", 128+i>>8, i&255)
	case "net6": // the first four of an IPv6 network
		return fmt.Sprintf("fd01:0:0:%x", (s.attempt*4+n)%(1<<16))
	}
	return "unknown-" + kind
}

// tokens are names for what a server makes up, by the order in which they appear. Equal values have equal names, so that it shows
// when an address was kept on one server and not on the other.
type tokens struct {
	names    map[string]string
	count    map[string]int
	prefixes []string // of generated names
}

func (t *tokens) of(kind, value string) string {
	if t.names == nil {
		t.names, t.count = make(map[string]string), make(map[string]int)
	}
	name, ok := t.names[value]
	if !ok {
		t.count[kind]++
		name = fmt.Sprintf("<%s-%d>", kind, t.count[kind])
		t.names[value] = name
	}
	return name
}

// loose are numbers in messages that no two servers share.
var loose = regexp.MustCompile(`((?:ResourceVersion in the precondition|in record) \(|in object meta: |resourceVersion\\*": ?\\*"|creationTimestamp\\*": ?\\*"|time\\*": ?\\*")[0-9TZ:-]+([),"\\])`)

// in replaces the values in a text. Resource versions are not among them: other numbers look the same.
func (t *tokens) in(text string) string {
	text = loose.ReplaceAllString(text, "$1<made>$2")
	for _, prefix := range t.prefixes {
		text = regexp.MustCompile(regexp.QuoteMeta(prefix[:min(len(prefix), 58)])+`[bcdfghjklmnpqrstvwxz2456789]{5}\b`).ReplaceAllString(text, prefix+"<more>")
	}
	for _, value := range slices.SortedFunc(maps.Keys(t.names), func(a, b string) int { return len(b) - len(a) }) {
		if strings.Contains(text, value) {
			text = regexp.MustCompile(`(^|[^0-9a-zA-Z.:])`+regexp.QuoteMeta(value)+`($|[^0-9a-zA-Z])`).ReplaceAllString(text, "${1}"+t.names[value]+"${2}")
		}
	}
	return text
}

// picked are addresses in messages. Those that nobody has seen before were picked for a request that was then refused.
var picked = regexp.MustCompile(`\bfd00:96::[0-9a-f:]+\b|\b10\.(?:9[6-9]|10[0-9]|11[01])\.[0-9]+\.[0-9]+\b`)

func withoutPicked(text string) string {
	return picked.ReplaceAllStringFunc(text, func(address string) string {
		if addr, err := netip.ParseAddr(address); err != nil || slices.ContainsFunc(chosen, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			return address
		}
		return "<picked>"
	})
}

// normal is an answer as text in which only what must be equal is left.
func (s *session) normal(r request, a *answer) string {
	s.dry = r.dry
	var out strings.Builder
	fmt.Fprintln(&out, a.code)
	for _, w := range a.warnings {
		fmt.Fprintln(&out, "warning:", s.names.in(w))
	}
	if a.body == nil {
		out.WriteString(a.text)
		return out.String()
	}
	var body any = copyOf(a.body)
	switch object := body.(map[string]any); {
	case object["kind"] == "Status":
		body = s.normalStatus(object)
	case object["items"] != nil:
		s.normalList(object)
	default:
		s.normalObject(object)
	}
	encoder := json.NewEncoder(&out)
	encoder.SetIndent("", " ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		panic(err) // it has been decoded from JSON
	}
	return out.String()
}

func copyOf(object map[string]any) (out map[string]any) {
	text, err := json.Marshal(object)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		panic(err) // it has been decoded from JSON
	}
	return out
}

func (s *session) normalStatus(status map[string]any) map[string]any {
	walk(status, func(text string) any { return withoutPicked(s.names.in(text)) })
	if details, _ := status["details"].(map[string]any); details != nil {
		if uid, _ := details["uid"].(string); uid != "" {
			details["uid"] = s.names.of("uid", uid)
		}
		if causes, _ := details["causes"].([]any); causes != nil {
			slices.SortStableFunc(causes, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
	}
	return status
}

func (s *session) normalList(list map[string]any) {
	items, _ := list["items"].([]any)
	items = slices.DeleteFunc(items, func(item any) bool { return !s.own(item) })
	list["items"] = items
	slices.SortFunc(items, func(a, b any) int { return strings.Compare(nameOf(a), nameOf(b)) })
	for _, item := range items {
		s.normalObject(item.(map[string]any))
	}
	delete(list, "metadata")
}

// own tells whether an object of a list is of this case; what is in no namespace may be of another one.
func (s *session) own(item any) bool {
	in, _ := lookup(item, "metadata.namespace")
	parent, _ := lookup(item, "spec.parentRef.namespace")
	return in != nil || s.made[nameOf(item)] || parent == s.namespace || strings.Contains(nameOf(item), s.namespace+"-")
}

func nameOf(object any) string {
	name, _ := lookup(object, "metadata.name")
	return fmt.Sprint(name)
}

func (s *session) normalObject(object map[string]any) {
	if meta, _ := object["metadata"].(map[string]any); meta != nil {
		s.normalMeta(meta)
	}
	if object["kind"] == "Service" || object["kind"] == nil { // an item of a list has no kind
		if spec, _ := object["spec"].(map[string]any); spec != nil {
			s.normalService(spec)
			s.allowHiddenPolicy(object)
		}
	}
	if spec, _ := object["spec"].(map[string]any); spec["cidrs"] != nil {
		conditions, _ := lookup(object, "status.conditions")
		list, _ := conditions.([]any)
		for _, c := range list {
			c.(map[string]any)["lastTransitionTime"] = "<time>"
		}
	}
}

func (s *session) normalMeta(meta map[string]any) {
	if uid, _ := meta["uid"].(string); uid != "" {
		meta["uid"] = s.names.of("uid", uid)
	}
	if version := meta["resourceVersion"]; version != nil {
		name := fmt.Sprint(meta["name"])
		meta["resourceVersion"] = "<new>"
		if s.versions[name] == version {
			meta["resourceVersion"] = "<as before>"
		}
		s.versions[name] = version
	}
	for _, when := range []string{"creationTimestamp", "deletionTimestamp"} {
		if meta[when] != nil {
			meta[when] = "<time>"
		}
	}
	if name, _ := meta["name"].(string); meta["generateName"] != nil {
		meta["name"] = s.names.in(name)
	}
	allowComponents(meta)
	managers, _ := meta["managedFields"].([]any)
	for _, m := range managers {
		delete(m.(map[string]any), "time")
	}
	// They are ordered by time, which has seconds: two of them change places where one server was a little later.
	slices.SortFunc(managers, func(a, b any) int { return strings.Compare(managerKey(a), managerKey(b)) })
}

func managerKey(entry any) string {
	m := entry.(map[string]any)
	return fmt.Sprint(m["manager"], m["operation"], m["subresource"], m["apiVersion"])
}

func (s *session) normalService(spec map[string]any) {
	for _, at := range []string{"clusterIP", "clusterIPs"} {
		switch v := spec[at].(type) {
		case string:
			spec[at] = s.address(v)
		case []any:
			for i := range v {
				if text, ok := v[i].(string); ok {
					v[i] = s.address(text)
				}
			}
		}
	}
	ports, _ := spec["ports"].([]any)
	for _, p := range ports {
		s.normalPort(p, "nodePort")
	}
	s.normalPort(spec, "healthCheckNodePort")
}

func (s *session) normalPort(in any, key string) {
	object, _ := in.(map[string]any)
	if number, ok := object[key].(float64); ok && int(number) >= nodePorts.Base+slots*portsPerSlot {
		object[key] = s.names.of("port", fmt.Sprint(int(number)))
	}
}

// address is the token of an address that was picked; what the manifest chose stays.
func (s *session) address(text string) string {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	if slices.ContainsFunc(chosen, func(p netip.Prefix) bool { return p.Contains(addr) && p.Addr() != addr }) {
		return text
	}
	if s.dry && s.names.names[text] == "" { // see docs/differences.md
		return "<some address>"
	}
	if addr.Is4() {
		return s.names.of("ip4", text)
	}
	return s.names.of("ip6", text)
}

// walk replaces every text in a decoded JSON value.
func walk(in any, replace func(string) any) {
	switch v := in.(type) {
	case map[string]any:
		for key, value := range v {
			if text, ok := value.(string); ok {
				v[key] = replace(text)
			} else {
				walk(value, replace)
			}
		}
	case []any:
		for i, value := range v {
			if text, ok := value.(string); ok {
				v[i] = replace(text)
			} else {
				walk(value, replace)
			}
		}
	}
}
