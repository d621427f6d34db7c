// Package node is the node of a stand-alone Fairway: it runs the Pods that are bound to it and reports what became of them, as
// a kubelet does.
//
// Contract. New starts nothing. Run registers the node, watches its Pods and runs each by one goroutine of its own, the only one that
// changes the Pod's state; whatever takes time (pulling, starting, probing, stopping) runs beside it and comes back as an event.
// What the state means is decided by pure functions: what to start next (lifecycle.go) and the status to report (status.go). A
// change of the status is written to the API at once, in one patch; while one patch is under way, later changes are merged into the next.
//
// Run returns when its context ends and leaves the Pods running; the next Run finds them again in the run directory. The same holds
// after the process was killed. Cleanup stops everything and leaves nothing.
//
// What volumes hold that come from the API (ConfigMaps, Secrets, the Pod's own fields, tokens of its ServiceAccount) follows it within a minute, and
// changes as a whole (apivolume.go). A token is asked for once for all containers of a Pod, and replaced after four fifths of its life.
//
// The client must not be throttled on its side (rest.Config.QPS = -1), or status is late.
//
// To debug: <run directory>/pods/<UID> holds what is known about a Pod here, <data directory>/pods/<UID>/logs the logs; Events on
// the Pod tell what was done. To test: see nodetest.
package node
