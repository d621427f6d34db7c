// Package testkit holds what tests of several parts share: network namespaces of their own and the wires between them.
//
// Contract. Everything made here belongs to one test and is gone when the test ends, also when it is killed: namespaces are
// anonymous, held open by the test process alone. A fresh namespace has its loopback up and no route but that, so no
// packet can leave it until the test itself joins it to another one; the host's network is never touched. What goes wrong in the
// making fails the test. A NetNS may be used from several goroutines, but what may fail the test must run on the test's own
// goroutine, as always with testing.TB.
//
// To debug, pause the test and run `nsenter --net=$(Path) ip addr`. To test code that opens sockets, run it under Do, or
// give it the Dial and Listen methods.
package testkit
