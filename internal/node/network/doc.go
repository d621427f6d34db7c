// Package network makes the machine's and the Pods' network of a stand-alone node.
//
// Contract. Setup prepares the network namespace that the process runs in: a device that carries the node's addresses, the
// routes that keep every Service and Pod address on this machine, forwarding, and masquerading of what Pods send to the
// outside. It is idempotent, and what it changed is written to a state file first, so that Teardown puts the
// machine back as it was, also after the process that called Setup was killed. Keep calls Setup again when somebody has taken the
// device away. A Sandbox is the network of one Pod:
// a network namespace of its own with one veth pair, no bridge. Addresses come from an Allocator, which is plain
// data and does no I/O.
//
// Nothing sent to a Service or Pod address leaves through the default route: behind the wanted routes there are
// unreachable ones with the worst metric.
//
// Functions here act on the calling thread's network namespace and are safe for concurrent use, but for Setup, Keep
// and Teardown of one instance, which the caller does not run at the same time.
//
// To debug: `ip addr show fairway0`, `ip route`, `nft list table inet fairway-pods-default`, and
// `nsenter --net=<run directory>/netns/<Pod UID> ip addr`. To test: run inside a network namespace made for the test.
package network
