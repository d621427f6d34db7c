// Package packets sends the table of packets (internal/testkit/packets) through upstream's kube-proxy, and through Fairway from the API on,
// both fed by the same objects of one API server in this process; and compares what Fairway's plan and upstream's code choose among the
// endpoints of random worlds.
//
// It needs root, and kube-proxy's binary: $KUBE_PROXY, or bin/kube-proxy of this tree (`make bin/kube-proxy`). Where upstream does otherwise, the
// table says so, and docs/differences.md says why.
package packets
