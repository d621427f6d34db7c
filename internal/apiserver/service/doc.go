// Package service is the storage of Services: upstream's strategy, validation and printing around Fairway's own allocation of
// cluster IPs and node ports, with the ServiceCIDR and IPAddress objects that belong to it (KEP-1880).
//
// What it promises
//
//   - An address or a node port belongs to one Service at most. What is in use is kept in memory and rebuilt from what is stored at start
//     (Storage.Load); the stored Services are the truth.
//   - The IPAddress object of a cluster IP is written and removed in the transaction that writes the Service (joined.go), so a crash at
//     any moment leaves nothing to repair.
//   - The cost of an allocation does not depend on the number of Services.
//   - A create or update that fails gives back what it took, a dry run takes nothing, a delete frees everything. If it is
//     not known whether a write arrived (its request was cut off), what it took stays taken until a look at the stored
//     Services has told (write.go, repair.go).
//   - Addresses come from the ServiceCIDR objects that are ready, the oldest first; what clients do to those, and to IPAddress objects, is in
//     force when their request is answered (servicecidrs.go, ipaddresses.go). An IPAddress object that somebody made reserves its address.
//   - IPAddress objects that were removed or changed by hand are put right, with upstream's events (repairobject.go).
//   - Picks begin at a random place of the upper part of a range; the lower part (the static band, KEP-3070 and KEP-3668) is
//     used last, so that addresses and ports chosen by hand there rarely meet one chosen by the server.
//
// The rules of the fields that hang together (clusterIP and clusterIPs, ipFamilies, ipFamilyPolicy; KEP-563) are pure
// functions on the API types in families.go and linked.go. Allocators is safe for use by several goroutines; exactly one
// process may own it, which the lock of the data directory guarantees. To test: tables of manifests against the real server, and
// faults at every write to etcd.
package service
