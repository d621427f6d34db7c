// Package store is the one place where Fairway keeps what the API says, as immutable rows in numbered snapshots.
//
// Contract. One call of Update publishes one snapshot, atomically: readers see all of it or nothing. A snapshot never
// changes and reading it takes no lock. Nobody is called back: a consumer owns a Cursor and pulls, and gets the newest
// snapshot with everything that changed since it last asked, merged; a slow consumer delays only itself. Rows given to a Txn must not be
// changed afterwards. What a consumer has done with a revision goes into the status table, the only way back.
// Everything here is safe for concurrent use, except that one Cursor belongs to one goroutine.
//
// A snapshot is Synced once every source has delivered its first full list; until then no consumer may take anything
// away from the kernel, from DNS or from the routes.
//
// To debug, print Statuses: each consumer's applied revision beside the newest. To test, write rows and read a snapshot.
package store
