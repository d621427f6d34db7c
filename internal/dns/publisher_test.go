package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dns/zone"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// bench is a publisher with a store that it follows by hand, at a time of the test's choosing.
type bench struct {
	t      *testing.T
	st     *store.Store
	cursor *store.Cursor
	p      *publisher
	now    time.Time
}

func newBench(t *testing.T, wait bool) *bench {
	z, err := zone.New(zone.Config{TTL: 5})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, st: store.New(), now: time.Unix(1000, 0)}
	b.cursor = b.st.Follow("dns")
	b.p = newPublisher(z, wait)
	b.pull()
	return b
}

// pull takes the newest snapshot in.
func (b *bench) pull() {
	snap, d, err := b.cursor.Next(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	b.p.update(snap, &d, b.now)
}

// write commits a change and takes it in.
func (b *bench) write(f func(*store.Txn)) store.Revision {
	rev, err := b.st.Update(func(tx *store.Txn) error { f(tx); return nil })
	if err != nil {
		b.t.Fatal(err)
	}
	b.pull()
	return rev
}

func (b *bench) answered(n model.Name) int { return len(b.p.zone.ClusterIPs(n)) }

func row(n model.Name, ips ...string) *model.Service {
	s := &model.Service{Name: n, Type: model.ClusterIP, Ports: []model.Port{{Name: "http", Protocol: model.TCP, Port: 80}}}
	for _, a := range ips {
		s.ClusterIPs = append(s.ClusterIPs, netip.MustParseAddr(a))
	}
	return s
}

// TestHold: how long names wait, and what the revision is meanwhile.
func TestHold(t *testing.T) {
	t.Parallel()
	b := newBench(t, true)
	one, two := model.Name{Namespace: "a", Name: "one"}, model.Name{Namespace: "a", Name: "two"}
	r1 := b.write(func(tx *store.Txn) { tx.PutService(row(one, "10.0.0.1")) })
	if b.answered(one) != 0 || b.p.revision() != r1-1 {
		t.Fatalf("held: %d addresses, revision %d of %d", b.answered(one), b.p.revision(), r1)
	}
	b.now = b.now.Add(holdLimit / 2)
	r2 := b.write(func(tx *store.Txn) { tx.PutService(row(two, "10.0.0.2")) })
	if late := b.p.release(r1, b.now); len(late) != 0 || b.answered(one) != 1 || b.answered(two) != 0 || b.p.revision() != r1 {
		t.Fatalf("first in force: late %v, %d and %d addresses, revision %d", late, b.answered(one), b.answered(two), b.p.revision())
	}
	// A change that is not of its addresses does not make a name wait anew.
	b.write(func(tx *store.Txn) {
		s := row(two, "10.0.0.2")
		s.Ports[0].Port = 81
		tx.PutService(s)
	})
	if late := b.p.release(r2, b.now); len(late) != 0 || b.answered(two) != 1 {
		t.Fatalf("second in force: late %v, %d addresses", late, b.answered(two))
	}
	// Another address waits, and while it changes all the time, not longer than the limit from the first.
	b.write(func(tx *store.Txn) { tx.PutService(row(one, "10.0.0.3")) })
	if b.answered(one) != 0 {
		t.Errorf("the address that is gone is still answered")
	}
	for i := range 4 {
		b.now = b.now.Add(holdLimit / 4)
		b.write(func(tx *store.Txn) { tx.PutService(row(one, fmt.Sprintf("10.0.1.%d", i))) })
		late := b.p.release(r2, b.now)
		if want := i / 3; len(late) != want || b.answered(one) != want {
			t.Errorf("after %d quarters: late %v, %d addresses", i+1, late, b.answered(one))
		}
	}
	// What is deleted while it waits is forgotten.
	b.write(func(tx *store.Txn) { tx.DeleteService(two); tx.PutService(row(two, "10.0.0.9")) })
	b.write(func(tx *store.Txn) { tx.DeleteService(two) })
	if late := b.p.release(^store.Revision(0), b.now); len(late) != 0 || b.answered(two) != 0 || len(b.p.held) != 0 {
		t.Errorf("deleted: late %v, %d addresses, %d held", late, b.answered(two), len(b.p.held))
	}
}

// TestEmptyAgain: in whatever order rows come and go, once all are gone nothing is left.
func TestEmptyAgain(t *testing.T) {
	t.Parallel()
	svc := row(model.Name{Namespace: "a", Name: "web"}, "10.0.0.1", "fd00::1")
	head := &model.Service{Name: model.Name{Namespace: "a", Name: "head"}, Type: model.ClusterIP, Headless: true}
	shared := netip.MustParseAddr("10.1.0.1") // in both Services
	sliceOf := func(s *model.Service, more ...string) *model.EndpointSlice {
		sl := &model.EndpointSlice{Name: s.Name, Service: s.Name, Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 80}}}
		sl.Endpoints = append(sl.Endpoints, model.Endpoint{Addr: shared, Ready: true})
		for _, a := range more {
			sl.Endpoints = append(sl.Endpoints, model.Endpoint{Addr: netip.MustParseAddr(a), Ready: true, Hostname: "h"})
		}
		return sl
	}
	puts := []func(*store.Txn){
		func(tx *store.Txn) { tx.PutNamespace(&model.Namespace{Name: "a"}) },
		func(tx *store.Txn) { tx.PutService(svc) },
		func(tx *store.Txn) { tx.PutService(head) },
		func(tx *store.Txn) { tx.PutSlice(sliceOf(svc, "10.1.0.2")) },
		func(tx *store.Txn) { tx.PutSlice(sliceOf(head, "10.1.0.3", "fd00::3")) },
	}
	deletes := []func(*store.Txn){
		func(tx *store.Txn) { tx.DeleteNamespace("a") },
		func(tx *store.Txn) { tx.DeleteService(svc.Name) },
		func(tx *store.Txn) { tx.DeleteService(head.Name) },
		func(tx *store.Txn) { tx.DeleteSlice(svc.Name) },
		func(tx *store.Txn) { tx.DeleteSlice(head.Name) },
	}
	orders := permutations(len(puts))
	for i, order := range orders {
		b := newBench(t, i%2 == 0)
		for _, k := range order {
			b.write(puts[k])
		}
		b.p.release(^store.Revision(0), b.now)
		if b.p.zone.Len() != 2 || b.p.zone.Addresses() != 6 || len(b.p.zone.Namespaces()) != 1 || b.p.revision() != b.st.Snapshot().Revision {
			t.Fatalf("put in order %v: %d Services, %d addresses, namespaces %v", order, b.p.zone.Len(), b.p.zone.Addresses(), b.p.zone.Namespaces())
		}
		for _, k := range orders[len(orders)-1-i] {
			b.write(deletes[k])
		}
		if b.p.zone.Len() != 0 || b.p.zone.Addresses() != 0 || len(b.p.zone.Namespaces()) != 0 || len(b.p.held) != 0 {
			t.Fatalf("deleted in order %v: %d Services, %d addresses, namespaces %v", orders[len(orders)-1-i], b.p.zone.Len(), b.p.zone.Addresses(), b.p.zone.Namespaces())
		}
	}
	// All at once, and after a resynchronisation that says only that anything may have changed.
	b := newBench(t, false)
	b.write(func(tx *store.Txn) {
		for _, f := range puts {
			f(tx)
		}
	})
	b.cursor.Resync()
	b.write(func(tx *store.Txn) {
		for _, f := range deletes {
			f(tx)
		}
	})
	if b.p.zone.Len() != 0 || b.p.zone.Addresses() != 0 || len(b.p.zone.Namespaces()) != 0 {
		t.Errorf("resync: %d Services, %d addresses", b.p.zone.Len(), b.p.zone.Addresses())
	}
}

// TestMovingEndpoint: a ready endpoint of a headless Service that is in no slice for a moment is answered meanwhile; one that ends is not, nor
// one that has been replaced, nor any for long.
func TestMovingEndpoint(t *testing.T) {
	t.Parallel()
	b := newBench(t, false)
	head := model.Name{Namespace: "a", Name: "head"}
	slice := func(id string, addrs ...string) *model.EndpointSlice {
		sl := &model.EndpointSlice{Name: model.Name{Namespace: "a", Name: id}, Service: head, Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 80}}}
		for _, a := range addrs {
			a, ended := strings.CutPrefix(a, "!")
			sl.Endpoints = append(sl.Endpoints, model.Endpoint{Addr: netip.MustParseAddr(a), Ready: !ended, Terminating: ended})
		}
		return sl
	}
	put := func(all ...*model.EndpointSlice) {
		b.write(func(tx *store.Txn) {
			for _, sl := range all {
				tx.PutSlice(sl)
			}
		})
	}
	after := func(d time.Duration) {
		b.now = b.now.Add(d)
		b.p.letGo(b.now)
	}
	is := func(when string, want ...string) {
		t.Helper()
		var got []string
		for i := range 10 {
			a := fmt.Sprintf("10.0.0.%d", i)
			if b.p.zone.HasAddress(netip.MustParseAddr(a)) {
				got = append(got, a)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	b.write(func(tx *store.Txn) {
		tx.PutService(&model.Service{Name: head, Type: model.ClusterIP, Headless: true})
	})
	put(slice("one", "10.0.0.1", "10.0.0.2", "10.0.0.3"), slice("two", "10.0.0.4"))
	is("at first", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
	put(slice("one", "10.0.0.1", "10.0.0.3"))
	is("2 is on its way", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
	after(lingerLimit / 2)
	put(slice("two", "10.0.0.4", "10.0.0.2"))
	after(lingerLimit)
	is("2 has arrived", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
	if len(b.p.lingering) != 0 {
		t.Errorf("what has arrived lingers: %v", b.p.lingering)
	}
	put(slice("two", "!10.0.0.4", "10.0.0.2"))
	is("4 ends", "10.0.0.1", "10.0.0.2", "10.0.0.3")
	put(slice("two", "10.0.0.2"))
	is("4 has ended", "10.0.0.1", "10.0.0.2", "10.0.0.3")
	put(slice("one", "10.0.0.1", "10.0.0.5"))
	is("3 is replaced", "10.0.0.1", "10.0.0.2", "10.0.0.5")
	b.write(func(tx *store.Txn) { tx.DeleteSlice(model.Name{Namespace: "a", Name: "two"}) })
	is("2 is on its way again", "10.0.0.1", "10.0.0.2", "10.0.0.5")
	after(lingerLimit / 2)
	put(slice("one", "10.0.0.1"))
	is("5, too", "10.0.0.1", "10.0.0.2", "10.0.0.5")
	after(lingerLimit / 2)
	is("2 never came", "10.0.0.1", "10.0.0.5")
	if end, any := b.p.firstEnd(); !any || !end.Equal(b.now.Add(lingerLimit/2)) {
		t.Errorf("the next end is at %v, %v, want %v", end, any, b.now.Add(lingerLimit/2))
	}
	put(slice("three", "!10.0.0.5"))
	is("5 came to end", "10.0.0.1")
	put(slice("one"))
	is("1 is on its way", "10.0.0.1")
	b.write(func(tx *store.Txn) { tx.DeleteService(head) })
	is("the Service is gone")
	if len(b.p.lingering) != 0 {
		t.Errorf("the Service's endpoints linger: %v", b.p.lingering)
	}
}

func permutations(n int) (out [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, p := range permutations(n - 1) {
		for at := range n {
			q := append(append(append([]int{}, p[:at]...), n-1), p[at:]...)
			out = append(out, q)
		}
	}
	return out
}
