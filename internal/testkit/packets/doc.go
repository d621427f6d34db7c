// Package packets is the table of packets that every data plane must treat alike: a world of Services, and for the first packet of a
// flow from here to there, which backends may get it, or that it is refused or dropped, and which source the backend must see.
//
// Contract. Table gives the rows of one world and, for each View of it (which node looks at it, and what that node was told), the
// packets with what is wanted. Wants are written by hand, never computed by the code under test: situations.go lists endpoints with the
// sets that policy Cluster and policy Local must give, matrix.go says which of the two a client gets at which kind of address and whether
// its source is kept, and the table is the product; singles.go has the rules that stand alone. Everything exists in IPv4 and in
// IPv6, and in TCP, UDP and SCTP.
//
// The table is for three kinds of engines: sim (the plan carried out in Go), Fairway's rules in a kernel, and upstream's
// kube-proxy in a kernel (test/packets). Where upstream does otherwise, the packet says so in KubeProxy, and Difference names the
// row of docs/differences.md with the reason.
//
// A Lab is three network namespaces: the node, its Pods, and the network with all other nodes, their Pods and the outside. Packets are
// written by raw sockets and read where they arrive, so that no program needs to answer and protocols without sockets can be
// sent. Each carries a number by which it is known again on the other side of every translation.
//
// To debug: run one case with `-run 'TestPackets/.../name'`; a failure says what was sent and where it was seen. To add a rule, add a
// situation or a single.
package packets
