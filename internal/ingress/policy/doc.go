// Package policy is what the annotations of an Ingress ask of the proxy, as typed values.
//
// Contract. Read parses the annotations of one Ingress once, strictly, into a Policy that never changes afterwards; it is pure. A value is
// data and never text of a configuration: nothing of it is interpreted but the few variables of a Text and the captures of a rewrite. What
// is not understood is a Problem, and its effect depends on what the annotation is for:
//   - one that guards (who may come in) or routes (where a request goes) makes every path of the Ingress answer 503, since serving it would
//     open what its author closed, or send it where nobody wanted it;
//   - any other is left out, and the Ingress is served without it.
//
// The annotations of ingress-nginx are known by name; Annotations lists each of them as exact, approximate or refused, and
// docs/ingress-annotations.md is made from that list. Whatever else lies under the domain of an Ingress product is unknown: refused, and
// closed if its name speaks of access.
//
// To debug, run `fairway ingress check`. To test, call Read with a map and look at the Policy.
package policy
