// Package discovery holds the tests of names on a real API: the table of questions put to Fairway and to CoreDNS, which follow the same API
// server; the first question after an object was applied; and many clients while endpoints change without end and the API goes away.
//
// The oracle is bin/coredns of test/oracle/coredns, named by $COREDNS; `make test` builds it and says where it is. What may differ is in
// docs/differences.md. The long form of the churn is a matter of flags: see TestChurn.
package discovery
