// Package mirroring copies Endpoints that somebody writes by hand, for a Service without a selector, into EndpointSlices, which is what everything
// else reads.
//
// Contract. It does what Kubernetes' controller of that name does and stands in for it under the same managed-by label, so it takes over the
// slices that it finds. Endpoints are mirrored if there is a Service of their name, it has no selector, and they carry neither the label
// endpointslice.kubernetes.io/skip-mirror=true nor the annotation of a leader election; what was mirrored before that was so is removed. What the
// slices hold is in desired.go and how the present ones are turned into those in changes.go; both are pure.
//
// New starts nothing. Run blocks until its context ends and leaves no goroutine behind. A failed write is tried again after 5 ms, then twice as
// long each time, ten seconds at most. Run one controller per cluster.
//
// To debug, give it a logger at debug level: every write is one line. What could not be mirrored is an Event of the Endpoints. To test the rules,
// call desired and compare with literals; to test the loop, run it on a real API.
package mirroring
