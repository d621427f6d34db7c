// Package endpointslice keeps the EndpointSlices of every Service with a selector equal to the Pods that it selects.
//
// Contract. It does what Kubernetes' own controller of that name does and stands in for it under the same managed-by label, so it takes over the
// slices that it finds, and hands them back: neither rewrites what the other one wrote. Which Pods count, and as what, is in desired.go; how endpoints
// are spread over slices is in pack.go; hints by the CPU of zones are in topology.go; all three are pure. Where this controller means to do better than
// Kubernetes', docs/differences.md says so.
//
// Each Service is worked on by one goroutine at a time, different Services in parallel. A change is written as soon as its Service is idle; what
// arrives during a write is merged into the next one. What a write returned counts as seen, so the watch's echo of it starts nothing. A Pod's
// change costs the slices that name it, not what there is in all: neither the Services nor the Service's other Pods (entry.go). Only a Service with
// hints by zone CPU is always looked at as a whole. A failed write is tried again after 5 ms, then twice as long each time, ten seconds at most; a change
// meanwhile does not wait for that.
//
// New starts nothing. Run blocks until its context ends and leaves no goroutine behind. Run one controller per cluster.
//
// To debug, give it a logger at debug level: every write is one line. To test the rules, call desired and pack with literals; to test the
// loop, run it on an API in memory.
package endpointslice
