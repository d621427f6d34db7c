// Package zone turns Services and EndpointSlices into DNS answers: the Kubernetes DNS specification 1.1.0 and, where that
// is silent, what clusters are used to.
//
// Contract. Pure: no clock, no I/O, no log; what time it is the caller says with Touch. One writer puts and deletes, and
// any number of readers call Answer at the same time, without a lock and without allocating: each Service is one immutable
// set of records behind an atomic pointer. An update costs what that one Service weighs, never what the zone weighs, and
// each Service changes at once as a whole; two Services are not one transaction.
//
// A and AAAA records are packed when the Service changes and copied when they are asked for. SRV records are composed
// when asked for, because their targets may not be compressed and packing them would hold every name twice. Nothing is
// kept per endpoint but its address and host name: the names under a Service are found by reading the address out of the label.
//
// To debug, ask: Answer says all there is; Len tells how many Services have names. To test, put rows and compare answers,
// read by an independent decoder.
package zone
