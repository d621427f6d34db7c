// Package app puts the parts of each role together: Up is the stand-alone Fairway, Agent the data plane of one node of a cluster,
// Controller what a cluster needs once, Down the end of a stand-alone one. It is the only package that knows all the parts, and only package cli imports it.
//
// Contract. Up, Agent and Controller block until their context ends or a part fails; either way every goroutine and listener of theirs is
// gone when they return, and the kernel's rules, the Pods and the data are left as they are, so that the next start takes them over. A start that
// fails leaves nothing half-started. Down leaves nothing at all, also after kill -9.
//
// What the parts tell each other goes through the store, with three exceptions that are wired here: the order in which a
// Pod is stopped (drain.go), the cluster DNS Service (clusterdns.go), and status (status.go).
package app
