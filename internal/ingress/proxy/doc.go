// Package proxy is the Ingress listener: it takes HTTP/1.1 and HTTP/2 requests, finds their route in the compiled table and carries them to an
// endpoint.
//
// Contract. New opens the sockets and starts nothing; Run serves until its context ends, then drains, and leaves no goroutine
// behind. No connection is accepted before the first complete snapshot, so nobody is told 404 about a route that is
// still being loaded. A change of routes, endpoints or certificates never closes a client's connection.
//
// What a request may count on:
//   - It goes straight to an endpoint of the Service, round robin, over a pooled connection.
//   - An endpoint that leaves the ready set gets no new request from then on: its idle connections are closed at once and what is
//     open finishes.
//   - It is tried again, elsewhere if it can be, when a connection could not be made or no byte of it was written; and when the
//     connection ended before the first byte of an answer, its body is at hand (64 KiB), and it is idempotent or the other side has provably not
//     read it (RFC 9110 section 9.2.2).
//   - Once the status table shows a revision, every request to an endpoint that left with it has been written.
//   - Framing is made anew: whatever the client sent, the backend reads exactly one request with one length (RFC 9112 section 6).
//     Hop-by-hop headers stop here (RFC 9110 section 7.6.1), the Host header goes through, and X-Forwarded-For, -Proto and
//     -Host say who really asked; what the client claims in them counts only from a trusted address.
//   - Bodies, trailers, 1xx answers and upgraded connections stream both ways.
//
// To debug, ask Table().Explain, read Findings, or give Config an AccessLog. To test, write rows to a store and speak HTTP to Addrs;
// tests here use real sockets on loopback and nothing else.
package proxy
