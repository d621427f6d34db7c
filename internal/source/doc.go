// Package source fills the store from the Kubernetes API: Services, EndpointSlices, Nodes, Namespaces, ServiceCIDRs, Ingresses, IngressClasses
// and the Secrets of type kubernetes.io/tls; or of some of these kinds (Options.Kinds).
//
// Contract. New announces one source per kind that is followed to the store, so the store is Synced once the first full list of every kind is in it. Run
// blocks until its context ends; no goroutine is left after it. A change goes into the store as soon as the store is free: alone when it is
// quiet, and merged with what else has arrived while an earlier transaction was committed; nothing waits for a clock. A row that the API
// repeats unchanged makes no revision. While the API is away the rows stay as they are; when it is back, what has gone meanwhile is
// deleted. No other writer may put rows of these kinds in the store. A kind that the API does not serve (ServiceCIDR, before Kubernetes
// 1.33) is one of which there are no objects. What an object says that no row can hold (an
// address that is none, a port number out of range) is left out, never guessed.
//
// To debug, compare Store.Unsynced and the log of package kube. To test, the conversions are pure functions; for the rest, give newSource
// a list and watch of your own.
package source
