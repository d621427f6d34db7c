package app

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

func TestClusterDNS(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ ranges, want string }{
		{"10.96.0.0/16", "10.96.0.10"},
		{"10.96.0.0/16 fd66:96::/112", "10.96.0.10 fd66:96::a"},
		{"fd66:96::/112 10.96.0.0/16", "fd66:96::a 10.96.0.10"}, // the preferred family first
		{"10.96.0.240/28", "10.96.0.250"},                       // the smallest range that the command line takes
		{"10.96.77.1/16", "10.96.0.10"},
		{"", ""},
	} {
		var ranges []netip.Prefix
		for _, r := range strings.Fields(c.ranges) {
			ranges = append(ranges, netip.MustParsePrefix(r))
		}
		var want []netip.Addr
		for _, a := range strings.Fields(c.want) {
			want = append(want, netip.MustParseAddr(a))
		}
		if got := clusterDNS(ranges); !slices.Equal(got, want) {
			t.Errorf("cluster DNS of %q is %v; want %v", c.ranges, got, want)
		}
	}
}

// TestHasDNS brings the rows one after another, as they come by the watches: only all of them are the DNS that a start promises.
func TestHasDNS(t *testing.T) {
	t.Parallel()
	addrs := []netip.Addr{netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("fd66:244::1")}
	name := model.Name{Namespace: dnsNamespace, Name: dnsService}
	slice := func(own string, service model.Name, addr string) func(*store.Txn) {
		return func(txn *store.Txn) {
			a := netip.MustParseAddr(addr)
			txn.PutSlice(&model.EndpointSlice{
				Name: model.Name{Namespace: dnsNamespace, Name: own}, Service: service, IPv6: a.Is6(),
				Endpoints: []model.Endpoint{{Addr: a, Ready: true, Serving: true}},
			})
		}
	}
	st := store.New()
	for _, step := range []struct {
		what string
		put  func(*store.Txn)
		want bool
	}{
		{"IPv4", slice("a", name, "10.244.0.1"), false},
		{"the Service", func(txn *store.Txn) { txn.PutService(&model.Service{Name: name}) }, false},
		{"another node", slice("b", name, "fd66:245::1"), false},
		{"another Service", slice("c", model.Name{Namespace: dnsNamespace, Name: "other"}, "fd66:244::1"), false},
		{"IPv6", slice("d", name, "fd66:244::1"), true},
		{"without the Service", func(txn *store.Txn) { txn.DeleteService(name) }, false},
	} {
		if _, err := st.Update(func(txn *store.Txn) error { step.put(txn); return nil }); err != nil {
			t.Fatal(err)
		}
		if got := hasDNS(st.Snapshot(), addrs); got != step.want {
			t.Errorf("with %s: %v, want %v", step.what, got, step.want)
		}
	}
}
