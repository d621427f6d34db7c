// Package dataplane is the room of the parts that carry out plans in the kernel, and of the contract that they share.
//
// Contract. A dataplane follows the store by itself and owns what it writes: nobody else tells it what to do, and it decides
// nothing, for all decisions are in package plan.
//
//   - New starts nothing. Run(ctx) error follows the store in the network namespace of the thread that called it, and returns when
//     ctx ends. What is in the kernel then stays there and goes on working.
//   - Applying is idempotent: the same snapshot twice writes nothing the second time. Deleting what is absent is no failure. After a
//     failure the kernel is read back, so that a write is never based on a wrong idea of what is there.
//   - A change comes into force as one transaction: no packet sees one half of it. A Service too large for one comes in stages, between which each
//     new flow gets a backend that the Service has or had.
//   - Nothing is written before the snapshot is Synced, and only then is anything pruned that no Service claims. A restart
//     adopts what is there and writes the difference.
//   - One bad Service never keeps the others out: it is named in Status.Failed, and tried again.
//   - The revision reported is in force: whoever reads it may announce an address or answer a name.
//
// The parts: nft (nftables, the ground truth), conntrack (flows that the kernel must forget), sim (a plan carried out in Go for one
// packet, the reference for tests and for tracing); and kubeproxy, which takes another proxy's leftovers away. Tests run one table of packets (testkit/packets) against sim, the kernel and upstream.
package dataplane
