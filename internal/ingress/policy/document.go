package policy

import (
	"fmt"
	"strings"
)

// Document gives docs/ingress-annotations.md.
func Document() string {
	var b strings.Builder
	b.WriteString(`# Annotations of Ingresses

This page is made from the list in ` + "`internal/ingress/policy/annotations.go`" + ` by ` + "`go generate`" + `. Names are without the domain, ` + "`" + Domain + "`" + `.

- *exact*: the same as in ingress-nginx, as far as a client or an endpoint can tell.
- *approximate*: the same purpose; the note says where it differs.
- *refused*: not done. If the annotation restricts access or decides where requests go, every path of its Ingress answers 503, and an Event
  on the object says why; otherwise the Ingress is served without it, with an Event. A value that cannot be read has the same effect.

Annotations that are not listed, and those of other products, are refused: with 503 if their name speaks of access (auth, allow, deny, limit, …).
` + "`fairway ingress check -f DIR`" + ` says all of this about your manifests before anything is moved. [ingress.md](ingress.md) has the rest.

`)
	counts := map[Level]int{}
	for _, a := range Annotations {
		counts[a.Level]++
	}
	fmt.Fprintf(&b, "%d annotations: %d exact, %d approximate, %d refused.\n\n", len(Annotations), counts[Exact], counts[Approximate], counts[Refused])
	b.WriteString("| annotation | level | if it cannot be done | note |\n|---|---|---|---|\n")
	for _, a := range Annotations {
		effect := "served without"
		if a.Purpose.closes() {
			effect = "503"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", a.Name, a.Level, effect, a.Note)
	}
	b.WriteString("\n## Parameters of a class\nKeys of the ConfigMap that `spec.parameters` of an IngressClass names.\n\n| key | values | default | meaning |\n|---|---|---|---|\n")
	for _, p := range Parameters {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", p.Name, p.Values, p.Default, p.Meaning)
	}
	return b.String()
}
