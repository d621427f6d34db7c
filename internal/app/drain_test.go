package app

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// drainage is a store with one Service, and a Pod behind it that is being drained.
type drainage struct {
	t     *testing.T
	store *store.Store
	done  chan struct{}
	began time.Time
}

const podAddr = "10.244.0.7"

var webService = model.Name{Namespace: "default", Name: "web"}

func newDrainage(t *testing.T) *drainage {
	d := &drainage{t: t, store: store.New(), done: make(chan struct{})}
	d.update(func(txn *store.Txn) { txn.PutService(&model.Service{Name: webService}) })
	return d
}

func (d *drainage) update(f func(*store.Txn)) store.Revision {
	d.t.Helper()
	rev, err := d.store.Update(func(txn *store.Txn) error { f(txn); return nil })
	if err != nil {
		d.t.Fatal(err)
	}
	return rev
}

// slice puts the Service's one slice with one endpoint in it.
func (d *drainage) slice(e model.Endpoint) store.Revision {
	e.Addr = netip.MustParseAddr(podAddr)
	return d.update(func(txn *store.Txn) {
		txn.PutSlice(&model.EndpointSlice{Name: model.Name{Namespace: "default", Name: "web-1"}, Service: webService, Endpoints: []model.Endpoint{e}})
	})
}

// start begins to drain the Pod web-a for two consumers.
func (d *drainage) start(ctx context.Context, ips ...string) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-a"}}
	for _, ip := range ips {
		pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	d.began = time.Now()
	go func() {
		drain(d.store, "nft", "dns")(ctx, pod)
		close(d.done)
	}()
}

// waits and returned look once nothing can happen any more but by time passing.
func (d *drainage) waits(why string) {
	d.t.Helper()
	synctest.Wait()
	select {
	case <-d.done:
		d.t.Fatalf("drain returned: %s", why)
	default:
	}
}

func (d *drainage) returned(why string) {
	d.t.Helper()
	synctest.Wait()
	select {
	case <-d.done:
	default:
		d.t.Fatalf("drain still waits: %s", why)
	}
	if took := time.Since(d.began); took != 0 {
		d.t.Errorf("drain returned after %v: %s", took, why)
	}
}

var offer = model.Endpoint{Ready: true, Serving: true, Target: "Pod web-a"}

// TestDrain runs on a clock that moves only when everybody waits for it, so "at once" means at once.
func TestDrain(t *testing.T) {
	t.Parallel()
	terminating := model.Endpoint{Serving: true, Terminating: true, Target: "Pod web-a"}
	for name, test := range map[string]func(*testing.T, *drainage){
		"until withdrawn and in force": func(t *testing.T, d *drainage) {
			nft, dns := d.store.Follow("nft"), d.store.Follow("dns")
			defer nft.Close()
			defer dns.Close()
			rev := d.slice(offer)
			nft.Report(rev, nil, nil)
			dns.Report(rev, nil, nil)
			d.start(t.Context(), podAddr)
			d.waits("the endpoint is offered")
			rev = d.update(func(txn *store.Txn) {
				txn.PutService(&model.Service{Name: model.Name{Namespace: "default", Name: "other"}})
			})
			nft.Report(rev, nil, nil)
			dns.Report(rev, nil, nil)
			d.waits("something else has changed, and the endpoint is still offered")
			rev = d.slice(terminating)
			d.waits("it is withdrawn, and no consumer has that in force")
			nft.Report(rev, nil, nil)
			d.waits("DNS does not have it in force")
			dns.Report(rev+1, context.DeadlineExceeded, nil) // a failure puts nothing in force
			d.waits("DNS has failed")
			dns.Report(rev, nil, nil)
			d.returned("everybody has it in force")
		},
		"until there is a first list": func(t *testing.T, d *drainage) {
			d.store = store.New()
			arrived := d.store.Announce("endpointslices")
			nft := d.store.Follow("nft")
			defer nft.Close()
			d.start(t.Context(), podAddr)
			d.waits("nobody knows who is offered")
			d.update(func(txn *store.Txn) { txn.PutService(&model.Service{Name: webService}) })
			d.waits("the list is not complete")
			rev := d.slice(terminating)
			arrived()
			d.waits("the kernel does not have it in force")
			nft.Report(rev+1, nil, nil)
			d.returned("everybody has the first list in force, in which the Pod is not offered")
		},
		"a while longer for other nodes": func(t *testing.T, d *drainage) {
			d.update(func(txn *store.Txn) { txn.PutNode(&model.Node{Name: "a"}) })
			d.update(func(txn *store.Txn) { txn.PutNode(&model.Node{Name: "b"}) })
			d.slice(terminating)
			d.start(t.Context(), podAddr)
			d.waits("nobody knows whether the other node has it in force")
			<-d.done
			if took := time.Since(d.began); took != elsewhere {
				t.Errorf("drain took %v; want %v", took, elsewhere)
			}
		},
		"no while for this node": func(t *testing.T, d *drainage) {
			d.update(func(txn *store.Txn) { txn.PutNode(&model.Node{Name: "a"}) })
			d.slice(terminating)
			d.start(t.Context(), podAddr)
			d.returned("there is no other node")
		},
		"until the slice is gone": func(t *testing.T, d *drainage) {
			d.slice(offer)
			d.start(t.Context(), podAddr)
			d.waits("the endpoint is offered")
			d.update(func(txn *store.Txn) { txn.DeleteSlice(model.Name{Namespace: "default", Name: "web-1"}) })
			d.returned("the slice is gone, and there are no consumers")
		},
		"second address": func(t *testing.T, d *drainage) {
			d.slice(offer)
			d.start(t.Context(), "fd66:244::7", podAddr)
			d.waits("one of the Pod's addresses is offered")
			d.slice(terminating)
			d.returned("it is withdrawn")
		},
		"no longer than the limit": func(t *testing.T, d *drainage) {
			d.slice(offer)
			d.start(t.Context(), podAddr)
			d.waits("the endpoint is offered")
			<-d.done
			if took := time.Since(d.began); took != drainLimit {
				t.Errorf("drain gave up after %v; want %v", took, drainLimit)
			}
		},
		"no longer than the limit for a consumer": func(t *testing.T, d *drainage) {
			nft := d.store.Follow("nft")
			defer nft.Close()
			d.slice(terminating)
			d.start(t.Context(), podAddr)
			d.waits("the kernel does not have it in force")
			<-d.done
			if took := time.Since(d.began); took != drainLimit {
				t.Errorf("drain gave up after %v; want %v", took, drainLimit)
			}
		},
		"no longer than its context": func(t *testing.T, d *drainage) {
			ctx, cancel := context.WithCancel(t.Context())
			d.slice(offer)
			d.start(ctx, podAddr)
			d.waits("the endpoint is offered")
			cancel()
			d.returned("its context has ended")
		},
		"not for a slice written by hand": func(t *testing.T, d *drainage) {
			d.slice(model.Endpoint{Ready: true, Serving: true})
			d.start(t.Context(), podAddr)
			d.returned("nobody takes the address out of such a slice")
		},
		"not for another Pod": func(t *testing.T, d *drainage) {
			d.slice(model.Endpoint{Ready: true, Serving: true, Target: "Pod web-b"})
			d.start(t.Context(), podAddr)
			d.returned("another Pod is offered")
		},
		"not for a Pod that was not ready": func(t *testing.T, d *drainage) {
			d.slice(model.Endpoint{Target: "Pod web-a"})
			d.start(t.Context(), podAddr)
			d.returned("the Pod is not offered")
		},
		"not for an endpoint that is published until it is gone": func(t *testing.T, d *drainage) {
			d.slice(model.Endpoint{Ready: true, Serving: true, Terminating: true, Target: "Pod web-a"}) // publishNotReadyAddresses
			d.start(t.Context(), podAddr)
			d.returned("waiting would not withdraw it")
		},
		"not for a Pod without an address": func(t *testing.T, d *drainage) {
			nft := d.store.Follow("nft") // has nothing in force, and is not asked
			defer nft.Close()
			d.start(t.Context())
			d.returned("nobody can have reached the Pod")
		},
		"not for another namespace": func(t *testing.T, d *drainage) {
			other := model.Name{Namespace: "other", Name: "web"}
			d.update(func(txn *store.Txn) {
				txn.PutService(&model.Service{Name: other})
				e := offer
				e.Addr = netip.MustParseAddr(podAddr)
				txn.PutSlice(&model.EndpointSlice{Name: model.Name{Namespace: "other", Name: "web-1"}, Service: other, Endpoints: []model.Endpoint{e}})
			})
			d.start(t.Context(), podAddr)
			d.returned("a Pod of the same name in another namespace is offered")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, newDrainage(t)) })
		})
	}
}
