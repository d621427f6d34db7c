package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/testkit"
)

// BenchmarkShape is the time to commit the change of one Service's element, and of one new chain, where the map services gives chains and
// where it gives the numbers of classes: the reason for the numbers (docs/adr/0002).
func BenchmarkShape(b *testing.B) {
	for _, n := range []int{1000, 10000, 40000} {
		for _, verdicts := range []bool{true, false} {
			kind := map[bool]string{true: "chains", false: "numbers"}[verdicts]
			c, r := shape(b, n, verdicts)
			b.Run(fmt.Sprintf("services=%d/%s/element", n, kind), func(b *testing.B) {
				from, to := shapeElement(0, 3, verdicts), shapeElement(0, 4, verdicts)
				for b.Loop() {
					var x batch
					x.elements(ipv4, r.table, unix.NFT_MSG_DELSETELEM, services, []element{from})
					x.elements(ipv4, r.table, unix.NFT_MSG_NEWSETELEM, services, []element{to})
					must(b, c.commit(&x))
					from, to = to, from
				}
			})
			b.Run(fmt.Sprintf("services=%d/%s/chain", n, kind), func(b *testing.B) {
				for b.Loop() {
					var x batch
					name := fmt.Sprintf("new-%d", len(r.chains))
					r.chains[name] = struct{}{}
					r.chain(&x, name)
					r.pick(&x, name, 3, 0)
					must(b, c.commit(&x))
				}
			})
			c.close()
		}
	}
}

// shape makes a table with n Services, all of them with three backends.
func shape(b *testing.B, n int, verdicts bool) (c *conn, r *ruleset) {
	if verdicts {
		defer func(old setSpec) { setSpecs[services] = old }(setSpecs[services])
		setSpecs[services].value = toChain
	}
	ns := testkit.NewNetNS(b)
	var err error
	ns.Do(func() { c, err = dial() })
	must(b, err)
	r = &ruleset{family: ipv4, table: "shape", classes: newRegistry(), chains: map[string]struct{}{}}
	var x batch
	x.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, r.proto)
	x.str(unix.NFTA_TABLE_NAME, r.table)
	x.end()
	for id := range setSpecs {
		r.set(&x, setID(id))
	}
	for i := 1; i <= 4; i++ {
		name := fmt.Sprintf("pick-%d", i)
		r.chain(&x, name)
		r.pick(&x, name, pool(i), 0)
	}
	x.elements(ipv4, r.table, unix.NFT_MSG_NEWSETELEM, inPicks, []element{{key: native(3), chain: "pick-3"}, {key: native(4), chain: "pick-4"}})
	for name, hook := range map[string]uint32{chainPrerouting: unix.NF_INET_PRE_ROUTING, chainOutput: unix.NF_INET_LOCAL_OUT} {
		r.baseChain(&x, name, "nat", hook, -100)
		way := findClass(0, r.words()+2, inPicks)
		if verdicts {
			way = []expr{dispatch(setSpecs[services].name, 0)}
		}
		r.add(&x, name, "", slices.Concat(r.frontend(0), way)...)
	}
	must(b, c.commit(&x))
	for i := 0; i < n; i += 1000 {
		var x batch
		var es []element
		for j := range 1000 {
			es = append(es, shapeElement(i+j, 3, verdicts))
		}
		x.elements(ipv4, r.table, unix.NFT_MSG_NEWSETELEM, services, es)
		must(b, c.commit(&x))
	}
	return c, r
}

func shapeElement(i, backends int, verdict bool) element {
	addr := netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})
	e := element{key: appendKey(nil, plan.Key{Addr: addr, Protocol: model.TCP, Port: 80})}
	if verdict {
		e.chain = fmt.Sprintf("pick-%d", backends)
	} else {
		e.value = native(uint32(backends))
	}
	return e
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
