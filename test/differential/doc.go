// Package differential sends the same requests to Fairway's API server and to upstream's kube-apiserver, and compares every answer:
// status code, warnings, the reason and causes of a refusal, the resulting object with its managedFields, and what is stored in
// the end. Only what a server makes up may differ (times, UIDs, resource versions, picked addresses and ports), and that only in
// its value: where one server answers with the same number twice, so must the other. Whatever else may differ is a rule in
// rules_test.go, with its reason in docs/differences.md.
//
// The kube-apiserver and its etcd are $KUBE_APISERVER and $ETCD; `make test` builds and names them. Each case runs against a
// dual-stack and a single-stack pair of servers.
//
// # Cases
//
// testdata/*.txt hold the cases; the first line of a file names the resource. A case begins with "== title". Then follow the requests
// one by one, each a verb, options and a body in YAML's flow style, which may go on in indented lines:
//
//	create   POST
//	put      PUT, the body as it is
//	edit     GET, the body merged into that (RFC 7386), PUT
//	merge, strategic, json, apply    PATCH
//	delete   DELETE, the body being the DeleteOptions
//	get, list, clear (of the whole collection)
//	await    GET until the object has all of the body
//	gone     GET until there is no such object
//
// A body without kind is one of the file's resource, and without a name it is named s. Options are
//
//	name=N      the object of that name, instead of s
//	of=R        another resource than the file's
//	as=M        the field manager; for apply it is "alice" unless given
//	force       takes conflicting fields over
//	dry         changes nothing
//	status      the subresource
//	strict      unknown fields are refused, instead of warned of
//	until=CODE  again and again until the answer has that code; until=CODE:spec.x until it has that field as well
//
// In a body or a name <ip4:1>, <ip6:1> and <port:1> are numbers that a client may choose, the case's own; <net4:1>.0/24 and <net6:1>::/64
// are networks outside the Service ranges, and <ns> is the case's namespace, with which the names of objects begin that are in none.
// <s.spec.clusterIP> is what the object s had there when that server answered last, <first s.metadata.resourceVersion> what it had at first.
//
// TestGenerated makes up sequences in the same language, from a seed that it prints and the parts of manifests in
// testdata/generated-*.txt. When one fails, the log has it whole, to be put into testdata. More of them, from another seed:
//
//	go test ./test/differential -run TestGenerated -seed=0 -sequences=1000
//
// # What upstream loses
//
// Upstream writes a Service and the IPAddress objects of its addresses one after the other, and has a controller beside that repairs what it sees
// in between. upstream_test.go tells how that shows, avoids it where it can, and otherwise finds it out from what upstream has stored and
// from its Events; only then a case is run again as if it had not been.
package differential
