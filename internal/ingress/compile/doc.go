// Package compile turns the Ingresses of a snapshot into one immutable routing table.
//
// Contract. Build and Resolve are pure: same rows and options, same answer; no I/O, no clock, no log. A Table never changes after
// Build and any number of goroutines may ask it. One broken Ingress affects only itself: what cannot be served is left out or
// answered as refused, and a Finding says what, why, and what to write instead.
//
// Where networking/v1 is silent or contradicts itself, these are the choices:
//   - The matching path is the decoded one. A request whose path hides a separator (%2F, a backslash, %00) or walks (a "." or ".."
//     element, encoded or not) is refused, because this table and a backend could read it differently. An empty element ("//") is
//     an element like any other.
//   - The longest path wins, counted in elements, and Exact comes before Prefix: Exact /foo wins over Prefix /foo/ at /foo.
//   - Hosts do not fall through: a request for a host that has rules is never served by the rules of a wildcard or of no host. What
//     no path matches goes to the default backend of the oldest Ingress that names the host and has one, then to the
//     default backend of the table.
//   - The default backend of the table is that of the oldest Ingress that has one, those without rules first.
//   - Of two Ingresses that claim the same thing the older one has it, then the one whose namespace and name are smaller.
//   - ImplementationSpecific means Prefix, unless the class's parameters say path-matching: ingress-nginx. Then it is a prefix of the text, and
//     once a path of the host is an expression or is rewritten, all paths of such classes on that host are expressions, as there. Where
//     classes of both kinds share a host, the strict ones are asked first.
//   - A certificate that does not cover its host is served all the same, with a finding.
//   - A class whose parameters cannot be read has all its Ingresses refused: what they say may restrict.
//   - Annotations are those of package policy; what restricts access and is not done makes the Ingress refused.
//
// To debug, print Table.Explain for a scheme, host and path: it names the rule that decided. To test, write rows to a
// store and compare what Find says.
package compile
