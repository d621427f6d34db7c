package nft

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit"
)

// TestStorm lets somebody else change nftables without a pause, in a table of their own, next to many Services: what changes meanwhile comes into force, the
// sets are read back for a small part of those changes only, and what is broken in the end is repaired.
func TestStorm(t *testing.T) {
	t.Parallel()
	ns := testkit.NewNetNS(t)
	st := store.New()
	const services, updates, least = 2000, 20, 1000
	name := func(i int) model.Name { return model.Name{Namespace: "default", Name: fmt.Sprintf("s%d", i)} }
	slice := func(i, round int) *model.EndpointSlice {
		s := &model.EndpointSlice{Name: name(i), Service: name(i), Ports: []model.EndpointPort{{Protocol: model.TCP, Port: 8080}}}
		for e := range 5 {
			s.Endpoints = append(s.Endpoints, model.Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(100 + round), byte(i), byte(e)}), Ready: true, Serving: true})
		}
		return s
	}
	_, _ = st.Update(func(txn *store.Txn) error {
		for i := range services {
			txn.PutService(&model.Service{Name: name(i), ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
				Ports: []model.Port{{Protocol: model.TCP, Port: 80}}})
			txn.PutSlice(slice(i, 0))
		}
		return nil
	})
	d := New(st, Config{})
	var reads readCounter
	d.between = func(s socket) socket { reads.socket = s; return &reads }
	ctx, cancel := context.WithCancel(t.Context())
	defer st.Expect(Consumer)()
	var running sync.WaitGroup
	running.Go(func() { ns.Do(func() { _ = d.Run(ctx) }) })
	defer running.Wait()
	defer cancel()
	applied := func(rev store.Revision) {
		t.Helper()
		limit, stop := context.WithTimeout(ctx, time.Minute)
		defer stop()
		if err := st.Applied(limit, rev, Consumer); err != nil {
			t.Fatalf("revision %d is not in force: %v; %+v", rev, err, st.Statuses())
		}
	}
	applied(st.Snapshot().Revision)

	var others *conn
	var err error
	ns.Do(func() { others, err = dial() })
	if err != nil {
		t.Fatal(err)
	}
	defer others.close()
	var transactions atomic.Int64
	calm := make(chan struct{})
	var storm sync.WaitGroup
	storm.Go(func() {
		noise := &ruleset{family: ipv4, table: "noise"}
		for n := 0; ; n++ {
			select {
			case <-calm:
				return
			default:
			}
			var b batch
			if n%2 == 0 {
				b.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, ipv4.proto)
				b.str(unix.NFTA_TABLE_NAME, noise.table)
				b.end()
			} else {
				noise.remove(&b)
			}
			if err := others.commit(&b); err != nil {
				t.Errorf("the storm: %v", err)
				return
			}
			transactions.Add(1)
		}
	})
	first := reads.slots.Load()
	for round := range updates {
		before := transactions.Load()
		rev, _ := st.Update(func(txn *store.Txn) error { txn.PutSlice(slice(round, 1)); return nil })
		applied(rev)
		for transactions.Load() < before+least/updates && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
	}
	close(calm)
	storm.Wait()
	n, all := reads.slots.Load()-first, transactions.Load()
	t.Logf("%d updates among %d transactions by somebody else; read back %d times", updates, all, n)
	if n > all/10 {
		t.Errorf("read back %d times for %d transactions", n, all)
	}

	var b batch
	(&ruleset{family: ipv4, table: DefaultTable}).remove(&b)
	if err := others.commit(&b); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		held := 0
		_ = others.readElements(ipv4, DefaultTable, slots, func(element) { held++ })
		if held == services*5 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a table that somebody deleted has %d slots again, want %d", held, services*5)
		}
	}
}

// readCounter counts how often the slots of IPv4 are read.
type readCounter struct {
	socket
	slots atomic.Int64
}

func (r *readCounter) send(b []byte) error {
	if binary.NativeEndian.Uint16(b[4:]) == subsystem(unix.NFT_MSG_GETSETELEM) && b[unix.SizeofNlMsghdr] == ipv4.proto && bytes.Contains(b, []byte("slots\x00")) {
		r.slots.Add(1)
	}
	return r.socket.send(b)
}
