// Package cache keeps answers of other servers for as long as they may be kept.
//
// Contract. Pure: no clock, no I/O, no goroutine; what time it is the caller says. Its memory is bounded by Config.MaxBytes, keys and
// bookkeeping counted. Get takes one short lock of one of 64 shards and allocates nothing; all methods may be called at the same time.
// Positive answers are kept for the lowest TTL among their records, negative ones as RFC 2308 says, failures for a few seconds, and
// what has run out for a while longer in case that nobody can be asked (RFC 8767). Truncated answers and negative ones without an SOA
// record are not kept.
//
// Which answer goes when there is no room: one that was not asked for since it came or was last spared (SIEVE).
//
// To debug, read Stats. To test, put and get at times of your own.
package cache
