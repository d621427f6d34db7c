// Package wire is the DNS message format (RFC 1035, RFC 6891) as far as a server of one zone needs it on its hot path: it
// reads the question of a query and builds the reply into a buffer that the caller owns.
//
// Contract. Nothing here allocates as long as the caller's buffers are large enough, nothing keeps a reference to a buffer
// after the call except the Query, which points into the packet it was parsed from until the next Parse. A Query and a
// Reply belong to one goroutine; the functions may be called from anywhere. No byte sequence makes a function panic.
//
// Names are in wire form: each label behind its length, ended by a zero. A name of at most 255 bytes whose labels are at
// most 63 bytes is all that Parse and EncodeName let through.
//
// To debug a packet, print it with a decoder of your choice: what is built here is plain RFC 1035. To test, build packets
// with an independent codec and compare; FuzzParse looks for panics and for queries that are read differently.
package wire
