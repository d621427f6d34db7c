// Package conntrack makes the kernel forget flows to backends that no longer serve, where nothing else would end them.
//
// A flow lives in the kernel's connection table and keeps the backend that was chosen at its first packet, also when that is gone.
//
//   - UDP: for as long as the client keeps sending. Such a client would never reach the Service again. The same holds for a flow that began
//     before the Service had backends: it goes nowhere for ever.
//   - TCP whose SYN nobody has answered (SYN_SENT): each SYN that is sent again goes to the backend that is gone, until the client gives up. Once
//     forgotten, the next SYN is a new flow. Any other TCP flow is between its two ends: it is never deleted.
//   - A terminating backend that still serves keeps its flows, and so does everybody who is healthy.
//
// Contract. What to delete is a pure function of plans and a dump of flows: Of and Serving.Stale. Tracker, pure too, remembers of
// which frontends the answer may have changed, so that only those are looked at. Table is the thin edge to the kernel: Sweep reads the
// flows in question, deletes what is stale, and may be repeated at any time; that a flow has just ended is no error. It must come after
// the rules that send new flows elsewhere are in force. Sweeper does that in the background, many changes at a time. Once, at the start,
// SweepOrphans deletes what an earlier process has left behind that died between the change of the rules and the sweep.
//
// To debug, compare `conntrack -L` with the plan. To test, give Stale flows as literals.
package conntrack
