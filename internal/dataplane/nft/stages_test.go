package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/testkit"
)

// watched is a netlink socket that tells of every transaction, once the kernel has carried it out.
type watched struct {
	socket
	sent func(bytes int)
}

func (w watched) send(b []byte) error {
	err := w.socket.send(b)
	if err == nil && binary.NativeEndian.Uint16(b[4:]) == unix.NFNL_MSG_BATCH_BEGIN {
		w.sent(len(b))
	}
	return err
}

func manyBackends(from, n int) (out []netip.AddrPort) {
	for i := from; i < from+n; i++ {
		out = append(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1 + byte(i>>16), byte(i >> 8), byte(i)}), 8080))
	}
	return out
}

// TestLargeService takes a Service through ten thousand endpoints: no transaction is larger than the bound, and after each of them whatever slot may be
// picked is there, with a backend that the Service has or had.
func TestLargeService(t *testing.T) {
	t.Parallel()
	ns := testkit.NewNetNS(t)
	var k *kernel
	var eyes *conn
	var err error
	ns.Do(func() {
		if k, err = newKernel("large", nil, nil); err == nil {
			eyes, err = dial()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	defer eyes.close()
	if err := k.refresh(); err != nil {
		t.Fatal(err)
	}
	p := planOf("large", 1)
	f := &p.Frontends[0]
	apply := func(what string, affinity time.Duration, backends []netip.AddrPort) {
		allowed := map[netip.AddrPort]bool{}
		for _, b := range slices.Concat(f.Inside.Backends, backends) {
			allowed[b] = true
		}
		f.Inside = plan.Choice{Backends: backends}
		if len(backends) == 0 {
			f.Inside = plan.Choice{Verdict: plan.Reject}
		}
		f.Outside, f.Affinity, f.Sticky = f.Inside, affinity, f.Key
		transactions := 0
		kernelSocket := k.conn.socket
		k.conn.socket = watched{kernelSocket, func(bytes int) {
			if transactions++; bytes > 2*bulk {
				t.Errorf("%s: a transaction of %d bytes", what, bytes)
			}
			if problem := inconsistent(eyes, k, f.Key, allowed); problem != "" {
				t.Errorf("%s: after transaction %d: %s", what, transactions, problem)
			}
		}}
		err := k.apply(slices.Values([]*plan.Service{p}))
		k.conn.socket = kernelSocket
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%s: %d transactions", what, transactions)
		k.doubt(false)
		if err := k.refresh(); err != nil {
			t.Fatal(err)
		}
		h := k.mirror.frontends[f.Key]
		got := slices.SortedFunc(slices.Values(h.in), netip.AddrPort.Compare)
		if !slices.Equal(got, backends) || (h.stuck.group != 0) != (affinity > 0) || affinity > 0 && len(h.stuck.live) != len(backends) {
			t.Fatalf("%s: the kernel holds %d backends, group %d, %d live; want %d", what, len(got), h.stuck.group, len(h.stuck.live), len(backends))
		}
		if again := k.diff(p); len(again.ops) > 0 {
			t.Fatalf("%s: applied again, it writes %d elements", what, len(again.ops))
		}
	}
	apply("from nothing", 0, manyBackends(0, 10_000))
	apply("all others", 0, manyBackends(20_000, 10_000))
	apply("down to ten", 0, manyBackends(25_000, 10))
	apply("with affinity", 3*time.Hour, manyBackends(22_000, 9_000))
	apply("half others", 3*time.Hour, manyBackends(26_000, 9_000))
	apply("fewer", 3*time.Hour, manyBackends(27_000, 5_000))
	apply("none", 0, nil)
}

// inconsistent says what is wrong with a frontend as the kernel has it, for a packet that comes now. The kernel lists a set that it is moving to a
// larger table with gaps, so what is missing is looked for again; what is really missing stays so, for nothing is written meanwhile.
func inconsistent(eyes *conn, k *kernel, key plan.Key, allowed map[netip.AddrPort]bool) (problem string) {
	for range 20 {
		if problem = listed(eyes, k, key, allowed); problem == "" {
			return ""
		}
	}
	return problem
}

func listed(eyes *conn, k *kernel, key plan.Key, allowed map[netip.AddrPort]bool) string {
	m := newMirror()
	if err := eyes.readBack(ipv4, "large", m); err != nil {
		return err.Error()
	}
	h := m.frontends[key]
	if h == nil || h.class == 0 {
		return "" // nothing leads to it
	}
	c, known := k.tables[0].classes.class[h.class]
	if !known {
		return fmt.Sprintf("class %d leads nowhere", h.class)
	}
	for i := range int(c.in) {
		if c.sticky > 0 {
			if i >= len(h.stuck.draws) || h.stuck.draws[i] == 0 {
				return fmt.Sprintf("slot %d of %d has no number", i, c.in)
			}
			if b := h.stuck.live[h.stuck.draws[i]]; !allowed[b] {
				return fmt.Sprintf("slot %d of %d has number %x, whose backend is %v", i, c.in, h.stuck.draws[i], b)
			}
		} else if i >= len(h.in) || !allowed[h.in[i]] {
			return fmt.Sprintf("slot %d of %d has no backend", i, c.in)
		}
	}
	return ""
}
