// Package model holds the rows that every part of Fairway reads: what the Kubernetes API says about Services and the
// things around them, reduced to the fields that decide where a packet, a question or a request goes.
//
// Contract. A row is a value that is never changed after it was given to the store; slices and maps inside a row are
// shared by all readers, so whoever wants another row builds a new one. The package imports the standard library only and does
// no I/O. The names are those of the Kubernetes API wherever the API has one.
//
// To debug, print a row: each one has a String method that says on one line what it is. To test, build rows as literals.
package model
