// Package forward asks other DNS servers: a group of them, in the order of a policy, over UDP, TCP or TLS.
//
// Contract. New starts nothing; Run keeps watch over servers that have failed until its context ends; Ask works without it, but then
// nobody notices that a server is well again. Ask returns within its context's time. A response is taken only if it comes from the address that was
// asked and repeats identifier and question; over UDP every question has a socket of its own, hence a port of the kernel's choice, a random
// identifier, and random case of letters (RFC 5452), which servers that do not keep the case are found out about and spared. Truncated
// responses are asked for again over TCP. With TLS the server's certificate must be good for its name, or, without a name, for its address; there is no way around that.
//
// A server that sends our questions back to us is found out by questions that nobody else can know of: the caller shows each
// question of type HINFO to Echo. Such a server is not asked until it stops.
//
// To debug, read Stats, or the log: each change of a server's state is one line. To test, give Dial.
package forward
