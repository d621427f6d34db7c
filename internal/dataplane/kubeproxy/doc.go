// Package kubeproxy takes away what kube-proxy left in the kernel, once another data plane has its place.
//
// Contract. It touches what is kube-proxy's by name and nothing else: the nftables tables "kube-proxy" of its nftables mode, and, where there
// are iptables programs, the chains of its iptables and IPVS modes with the rules of built-in chains that lead to them. What belongs to
// the kubelet (KUBE-FIREWALL, KUBE-MARK-DROP, canaries, hints), to network policies or to others stays; so does a chain of
// kube-proxy's that somebody else's chain leads to. What to take away from iptables is a pure function of a listing (leftovers). All of
// one program goes in one transaction. Conntrack is left alone: connections go on as long as there are NAT chains of somebody.
//
// It works in the network namespace of the calling thread. kube-proxy must not run, or it writes everything again. To debug, read
// `nft list ruleset` and `iptables-save`.
package kubeproxy
