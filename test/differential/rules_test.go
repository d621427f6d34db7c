package differential

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// incomparable tells why there is nothing to compare from here on.
func incomparable(upstream *answer) (reason string, skip bool) {
	// Upstream looks up an allocator of a family that is not configured, for example when a headless Service without selector
	// stops being headless on a single-stack server.
	if upstream.code == http.StatusInternalServerError && strings.Contains(upstream.text, "caused apiserver to panic") {
		return "upstream panicked", true
	}
	return "", false
}

// words are refusals of ours, which name the same field and value, and say the same in other words than upstream's.
// docs/differences.md gives the reason.
var words = []struct{ upstream, ours *regexp.Regexp }{
	{regexp.MustCompile(`must be 'RequireDualStack' or 'PreferDualStack' when multiple (cluster IPs|IP families) are specified`), regexp.MustCompile(`must be RequireDualStack or PreferDualStack when two (cluster IPs|IP families) are given`)},
	{regexp.MustCompile(`must be 'SingleStack' to release the secondary (cluster IP|IP family)`), regexp.MustCompile(`must be SingleStack to give up the second (cluster IP|IP family)`)},
}

// internalErrors are what upstream calls an error of its own, although the client has asked for something that it cannot have. Ours
// says which field, with code 422.
var internalErrors = regexp.MustCompile(`failed to allocate requested HealthCheck NodePort|duplicate nodePort`)

// nameless is what upstream says of a Service without a name, having tried to write an IPAddress that refers to it.
var nameless = regexp.MustCompile(`IPAddress\.networking\.k8s\.io .* is invalid: spec\.parentRef\.name: Required value`)

// key is where upstream keeps a Service, in a message about a conflict.
var key = regexp.MustCompile(`Key: /registry/services/specs/`)

// allow applies the rules to both answers, as text.
func allow(r request, upstream, ours string) (string, string) {
	upstream = key.ReplaceAllString(upstream, "Key: /registry/services/")
	for i, w := range words {
		same := fmt.Sprintf("$1 (words %d)", i)
		upstream, ours = w.upstream.ReplaceAllString(upstream, same), w.ours.ReplaceAllString(ours, same)
	}
	if strings.HasPrefix(upstream, "500") && internalErrors.MatchString(upstream) && strings.HasPrefix(ours, "422") && strings.Contains(ours, "odePort") {
		return "", ""
	}
	if nameless.MatchString(upstream) && strings.HasPrefix(ours, "422") && strings.Contains(ours, "metadata.name: Required value") {
		return "", ""
	}
	// A dry run of upstream's asks no allocator of addresses, so it lets through what will be refused.
	if r.dry && strings.HasPrefix(upstream, "20") && strings.HasPrefix(ours, "422") && strings.Contains(ours, "provided IP is already allocated") {
		return "", ""
	}
	return upstream, ours
}

// allowHiddenPolicy leaves out what follows from the internal traffic policy of an ExternalName: upstream stores it and hides it from
// readers, ours does not store it. So the next write changes something for upstream, and not for ours.
func (s *session) allowHiddenPolicy(object map[string]any) {
	kind, _ := lookup(object, "spec.type")
	if name := nameOf(object); kind == "ExternalName" {
		s.external[name] = true
	} else if !s.external[name] {
		return
	}
	meta := object["metadata"].(map[string]any)
	delete(meta, "resourceVersion")
	managers, _ := meta["managedFields"].([]any)
	for _, m := range managers {
		if spec, ok := lookup(m, "fieldsV1.f:spec"); ok {
			delete(spec.(map[string]any), "f:internalTrafficPolicy")
		}
	}
}
