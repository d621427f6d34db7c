// Package dns answers for the cluster's names over UDP and TCP, and asks the machine's own resolvers for all others.
//
// Contract. New opens the sockets, in the network namespace of the calling thread, and starts nothing; Run serves until its context
// ends and leaves no goroutine and no socket behind. Questions to upstream resolvers leave from the same namespace. The
// names come from the store, whose consumer "dns" this is:
//
//   - a name of a Service with a cluster address is answered only after the consumer Config.AfterConsumer has reported the
//     revision that brought the address, or two seconds have passed;
//   - whatever goes away goes at once, and so does every change of endpoints;
//   - until the store is synced, a name that is not known is answered with SERVFAIL instead of "does not exist".
//
// The consumer that is waited for must follow the store before Run is called: one that does not exist is not waited for.
// On the way of a question whose answer is in the zone nothing is allocated and no lock is taken: one socket and one
// goroutine per processor, packets read and written in batches. Forwarded questions run beside that, a bounded number at a
// time.
//
// To debug: dig @ADDRESS name; the metrics have CoreDNS's names; the store's status row "dns" tells how far the names have
// come. To test, give Listen addresses with port 0 and ask Addrs.
package dns
