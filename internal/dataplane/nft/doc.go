// Package nft carries out plans with nftables: the data plane that works on every kernel since 5.13.
//
// Contract. It is that of package dataplane. Everything is in two tables of one name, "ip NAME" and "ip6 NAME"; nothing else in the
// network namespace is touched: no mark, no label, no foreign table. The number of rules and chains depends on how many
// kinds of frontends there are, never on the number of Services: a Service is elements of a few maps.
//
//	services     frontend (address . protocol . port)  →  class
//	picks        class  →  chain, for instance pick-3: three backends    (node-picks: the same for clients on the node)
//	slots        frontend . slot  →  backend;  pick-3 sends a new flow to a random slot of three
//	masquerades  class  →  chain that says whose source address becomes the node's
//	cluster-ips  addresses that belong to a Service whole: on other ports they refuse
//	hairpins     Pods of this node that may be their own backend
//	sources      frontend . range that may come in
//	sticky, draws, affinity, live   ClientIP affinity by numbers: whose it is, of which slot, what a client had, what is still there
//	second-chances           flows whose first refusal was kept from the client
//
// All of it is asked for the first packet of a flow only, conntrack remembers the answer; the one exception is the rule for second
// chances, which looks at the flags of every TCP packet. When a backend is removed, the last one moves into its slot: one endpoint
// change is a handful of elements, whatever the size of the Service and their number. Transactions are bounded; stages.go says how a Service with
// thousands of endpoints to write comes into force in several.
//
// A table is read back at the start, after a failed transaction, and when a transaction by somebody else has been seen; the
// difference to the plan is written. Base chains, through which packets enter, come last on a cold start, and stay when the process
// ends.
//
// Concurrency: a Dataplane may be run once; Cleanup may be called when no Dataplane of that table runs.
//
// To debug: `nft list table ip fairway` is meant to be read; classes, services and rules carry comments. Every rule must be one
// that nft 1.0.6 can print: TestListing holds that. To test: TestPackets sends every packet of testkit/packets through the rules,
// TestConnections opens connections, TestHistories makes the kernel fail.
package nft
