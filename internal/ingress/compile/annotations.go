package compile

import (
	"fmt"
	"slices"
	"strings"
)

// foreign are the annotation domains of other Ingress products. What Fairway finds under them it does not do.
var foreign = []string{
	"nginx.ingress.kubernetes.io/", "nginx.org/", "traefik.ingress.kubernetes.io/", "haproxy.org/", "haproxy-ingress.github.io/",
	"ingress.kubernetes.io/", "projectcontour.io/", "konghq.com/",
}

// restrictive are the annotations, without their domain, that limit who may come in.
var restrictive = []string{
	"allow-list", "allowlist-source-range", "deny-list", "denylist-source-range", "enable-modsecurity", "enable-owasp-core-rules",
	"modsecurity-snippet", "plugins", "router.middlewares", "satisfy", "waf", "whitelist", "whitelist-source-range",
}

// annotations reports what other products' annotations ask for, and says why the Ingress must be refused, or "".
func (b *builder) annotations() (refused string) {
	var ignored, closed []string
	for key, value := range b.ing.Annotations {
		for _, domain := range foreign {
			name, ok := strings.CutPrefix(key, domain)
			if !ok {
				continue
			}
			off := value == "" || value == "false"
			if !off && (strings.HasPrefix(name, "auth-") || slices.Contains(restrictive, name)) {
				closed = append(closed, key)
			} else {
				ignored = append(ignored, key)
			}
			break
		}
	}
	slices.Sort(ignored)
	slices.Sort(closed)
	if len(ignored) > 0 {
		b.find(Warning, "annotations of other products are ignored: %s", strings.Join(ignored, ", "))
	}
	if len(closed) == 0 {
		return ""
	}
	refused = fmt.Sprintf("annotation %s restricts access in a way that Fairway does not know", strings.Join(closed, ", "))
	b.find(Error, "all of it answers 503: %s; remove it to serve the Ingress without that protection", refused)
	return refused
}
