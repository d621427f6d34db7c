package app

import (
	"context"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairway.dev/fairway/internal/store"
)

// drainLimit bounds how long a Pod's stop waits for the consumers; past it the Pod is stopped anyway, as the kubelet would have.
const drainLimit = 5 * time.Second

// elsewhere is how long a Pod goes on after everybody here has let go of it, where the cluster has other nodes: what routes there follows the same
// watch, a few milliseconds behind or ahead, but does not tell how far it has come (docs/adr/0005).
const elsewhere = time.Second

// drain gives the function that the node calls between a Pod's deletion and its SIGTERM. It waits until no endpoint offers
// the Pod to new connections any more, and until DNS, Ingress and the kernel have that in force: so no new connection meets a
// process that is going away, and nothing that runs in a Pod needs a preStop sleep.
func drain(st *store.Store, consumers ...string) func(context.Context, *corev1.Pod) {
	return func(ctx context.Context, pod *corev1.Pod) {
		var addrs []netip.Addr
		for _, ip := range pod.Status.PodIPs {
			if a, err := netip.ParseAddr(ip.IP); err == nil {
				addrs = append(addrs, a)
			}
		}
		if len(addrs) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, drainLimit)
		defer cancel()
		cur := st.Follow("")
		defer cur.Close()
		for {
			snap, _, err := cur.Next(ctx)
			if err != nil {
				return
			}
			// After a restart the first snapshots know of nobody, while the kernel still sends to whom it was told to send.
			if snap.Synced && !offered(snap, pod, addrs) {
				_ = st.Applied(ctx, snap.Revision, consumers...)
				if snap.Nodes.Len() > 1 {
					rest := time.NewTimer(elsewhere)
					defer rest.Stop()
					select {
					case <-rest.C:
					case <-ctx.Done():
					}
				}
				return
			}
		}
	}
}

// offered tells whether a slice made for the Pod offers one of its addresses to new connections. Slices that somebody wrote by hand
// name no Pod, and nobody takes the address out of them when the Pod goes: there is nothing to wait for.
func offered(snap *store.Snapshot, pod *corev1.Pod, addrs []netip.Addr) bool {
	target := "Pod " + pod.Name
	for svc := range snap.Services.In(pod.Namespace) {
		for s := range snap.Slices(svc.Name) {
			for _, e := range s.Endpoints {
				if e.Ready && !e.Terminating && e.Target == target && slices.Contains(addrs, e.Addr) {
					return true
				}
			}
		}
	}
	return false
}
