package differential

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// incomparable tells why there is nothing to compare from here on.
func incomparable(upstream *answer) (reason string, skip bool) {
	// Upstream looks up an allocator of a family that is not configured, for example when a headless Service without selector
	// stops being headless on a single-stack server.
	if upstream.code == http.StatusInternalServerError && strings.Contains(upstream.text, panicked) {
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

// outOfRange is what a dry run of upstream's says of an address of no range; without dry run it says what ours says.
var outOfRange = regexp.MustCompile(`the provided IP \([0-9a-f.:]+\) is not in the valid range\. The range of valid IPs is [0-9a-f.:/]+`)

// nameless is what upstream says of a Service without a name, having tried to write an IPAddress that refers to it.
var nameless = regexp.MustCompile(`IPAddress\.networking\.k8s\.io .* is invalid: spec\.parentRef\.name: Required value`)

// key is where an object is kept, in a message about a conflict. Upstream's have other names for some resources.
var key = regexp.MustCompile(`Key: /\S*/([^/ ]+/[^/ ]+),`)

// components are the field managers of the servers and controllers themselves. What they are called, and whether they fill in and
// finalize an object in one write or two, does not matter to anybody.
var components = []string{"kube-apiserver", "kube-controller-manager", "service-cidr-controller", "kubernetes-service-cidr-controller", "fairway"}

// allow applies the rules to both answers, as text.
func allow(r request, upstream, ours string) (string, string) {
	upstream, ours = key.ReplaceAllString(upstream, "Key: $1,"), key.ReplaceAllString(ours, "Key: $1,")
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
	if r.dry {
		upstream = outOfRange.ReplaceAllString(upstream, "the provided network does not match the current range")
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
		delete(object["spec"].(map[string]any), "internalTrafficPolicy") // not hidden by the status
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

// allowComponents leaves out the field managers of components, and all managers of the IPAddress of a Service: ours counts none for it.
func allowComponents(meta map[string]any) {
	if labels, _ := meta["labels"].(map[string]any); labels["ipaddress.kubernetes.io/managed-by"] != nil {
		delete(meta, "managedFields")
	}
	managers, _ := meta["managedFields"].([]any)
	managers = slices.DeleteFunc(managers, func(m any) bool {
		manager, _ := lookup(m, "manager")
		return slices.Contains(components, fmt.Sprint(manager))
	})
	if len(managers) == 0 {
		delete(meta, "managedFields")
	} else {
		meta["managedFields"] = managers
	}
}
