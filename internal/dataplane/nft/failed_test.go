package nft_test

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/dataplane/sim"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit/connections"
)

// TestRefusedByTheKernel makes the kernel refuse one of three Services: somebody else keeps writing a source range into our set that
// overlaps the one that it needs. It is named as failed, the two others are in force, and it is tried again until it succeeds.
func TestRefusedByTheKernel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	before, s1 := web(v4, 1, "before", connections.PodA)
	listed, s2 := web(v4, 2, "listed", connections.PodB)
	listed.Type, listed.LoadBalancerIPs = model.LoadBalancer, []netip.Addr{v4.External(40)}
	listed.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/26")}
	later, s3 := web(v4, 3, "zlater", connections.PodC)
	l.applied(l.store.Snapshot().Revision)

	// The range is there when the Service is first written, unless it is repaired just in between: then try again.
	for attempt := 1; ; attempt++ {
		stop := l.intrude("add element ip fairway sources { 203.0.113.40 . tcp . 80 . 192.0.2.5-192.0.2.70 }")
		rev := connections.Put(l.store, nil, []*model.Service{before, listed, later}, []*model.EndpointSlice{s1, s2, s3})
		failed := l.failures(rev)
		if len(failed) > 0 {
			err := failed["service default/listed"]
			if len(failed) != 1 || err == nil || !strings.HasPrefix(err.Error(), "service default/listed: write to nftables: file exists") {
				t.Errorf("failed: %v", failed)
			}
			l.expect(connections.PodD, tcp(1), sim.Forward, connections.PodA)
			l.expect(connections.PodD, tcp(3), sim.Forward, connections.PodC)
		}
		stop()
		l.await(func() bool { return len(l.store.Statuses()[0].Failed) == 0 })
		l.expect(connections.OnNode, plan.Key{Addr: v4.External(40), Protocol: model.TCP, Port: 80}, sim.Forward, connections.PodB)
		l.expect(connections.PodD, tcp(2), sim.Forward, connections.PodB)
		if len(failed) > 0 {
			return
		}
		if attempt == 10 {
			t.Fatal("the kernel has not refused the Service once")
		}
		l.empty()
	}
}

// intrude runs a command of nft over and over, the first time before it returns, until stop is called.
func (l *lab) intrude(command string) (stop func()) {
	l.ns[connections.OnNode].Run("nft", command)
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				_ = l.ns[connections.OnNode].Command("nft", command).Run() // refused while we hold the range
			}
		}
	})
	stop = sync.OnceFunc(func() { close(done); running.Wait() })
	l.t.Cleanup(stop)
	return stop
}

// failures waits until a revision is in force and gives what is not.
func (l *lab) failures(rev store.Revision) map[string]error {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := l.store.Applied(ctx, rev, nft.Consumer); err != nil {
		l.t.Fatal(err)
	}
	return l.store.Statuses()[0].Failed
}
