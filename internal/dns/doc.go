// Package dns answers for the cluster's names over UDP and TCP, and asks other servers for all others, as a configuration says that is
// read again when it changes.
//
// Contract. New opens the sockets, or takes them over from whoever kept them, in the network namespace of the calling thread, and starts
// nothing; Run serves until its context ends and leaves no goroutine and no socket behind, but for copies that a successor has. Questions to upstream resolvers leave from the same namespace. The
// names come from the store, whose consumer "dns" this is:
//
//   - a name of a Service with a cluster address is answered only after the consumer Config.AfterConsumer has reported the
//     revision that brought the address, or two seconds have passed;
//   - whatever goes away goes at once, and so does every change of endpoints;
//   - until the store is synced, a name that is not known is answered with SERVFAIL instead of "does not exist".
//
// The consumer that is waited for must follow the store before Run is called: one that does not exist is not waited for.
// The names of an earlier run (Config.Checkpoint) are answered until the store is synced, and then replaced as a whole.
//
// A question goes through rewrites, fixed names, the cluster's zone, zones from files, the cache, and then to other servers (resolve.go has
// the order). Whatever needs no other server and no rewrite is answered in the loop that reads the socket, and allocates nothing; where the answer is
// in the zone, no lock is taken either: one socket and one goroutine per processor, packets read and written in batches. What takes longer runs
// beside that, a bounded number at a time, and equal questions to other servers are one.
//
// To debug: dig @ADDRESS name; the metrics have CoreDNS's names; the store's status row "dns" tells how far the names have
// come. To test, give Listen addresses with port 0 and ask Addrs.
package dns
