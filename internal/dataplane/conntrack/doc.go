// Package conntrack makes the kernel forget UDP flows to backends that no longer serve.
//
// A UDP flow lives in the kernel's connection table for as long as the client keeps sending, and keeps the backend that was chosen at its
// first packet, also when that is gone: such a client would never reach the Service again. TCP needs none of this, for there the
// client or the backend ends the connection; a terminating backend that still serves keeps its flows.
//
// Contract. Stale is pure. Sweep reads the whole table and deletes what is stale; deleting a flow that has just ended is no error.
// It may be repeated at any time. It must come after the rules that send new flows elsewhere are in force.
//
// To debug, compare `conntrack -L -p udp` with the plan. To test, give Stale flows as literals.
package conntrack
