// Package plan decides what one node must do for each Service: for every frontend which backends, in which order, or
// reject or drop; whom to masquerade; how long a client sticks to a backend.
//
// Contract. Everything is a pure function of a snapshot and a View of the node: no clock, no I/O, no state, safe for
// concurrent use. The plan of one Service depends on its own row and slices and on the View alone, so after a change only the
// Services named in the store's Delta need planning again, and all of them when the View changed. The same input always
// gives the same plan, in the same order. Dataplanes carry out a plan and decide nothing themselves.
//
// The rules are those of the Kubernetes API (core/v1 Service, discovery/v1 EndpointSlice) and of KEP-1669 (terminating
// endpoints), KEP-2086 (internal traffic policy), KEP-2433 and KEP-3015 (topology hints).
//
// To debug, print a Service: one line per frontend. To test, write rows and compare the plan; to ask what becomes of one packet,
// use package sim.
package plan
