package service

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	api "k8s.io/kubernetes/pkg/apis/core"
)

func newTestAllocators(t *testing.T) *Allocators {
	t.Helper()
	a, err := NewAllocators([]netip.Prefix{netip.MustParsePrefix("10.96.0.0/24")}, utilnet.PortRange{Base: 30000, Size: 100})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetRanges([]Range{{netip.MustParsePrefix("10.96.0.0/24"), true}}); err != nil {
		t.Fatal(err)
	}
	return a
}

func nodePortService(name, ip string, nodePort int32) *api.Service {
	svc := &api.Service{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}}
	svc.Spec.Type = api.ServiceTypeNodePort
	svc.Spec.IPFamilies = []api.IPFamily{api.IPv4Protocol}
	svc.Spec.ClusterIP, svc.Spec.ClusterIPs = ip, []string{ip}
	svc.Spec.Ports = []api.ServicePort{{Port: 80, Protocol: api.ProtocolTCP, NodePort: nodePort}}
	return svc
}

// held lists which of two addresses and two node ports are in use.
func held(a *Allocators) (h struct{ first, second bool }) {
	of := func(addr string, port int32) bool {
		_, address := a.addresses.holdings[netip.MustParseAddr(addr)]
		_, nodePort := a.ports.holdings[port]
		if address != nodePort {
			panic("address and node port of one Service went different ways")
		}
		return address
	}
	h.first, h.second = of("10.96.0.1", 30001), of("10.96.0.2", 30002)
	return h
}

// An update moves a Service from one address and port to others (by way of ExternalName, so to say). Whatever the generic
// store reports, what it held is freed only when the write is stored, and what it took only when it is certainly not.
func TestWriteOutcomes(t *testing.T) {
	t.Parallel()
	gr := api.Resource("services")
	for _, test := range []struct {
		what                    string
		attempts                []bool // what the store tells the hook of each attempt
		err                     error
		first, second, doubtful bool
	}{
		{"stored", []bool{true}, nil, false, true, false},
		{"stored at the third attempt", []bool{true, false, true}, nil, false, true, false},
		{"refused", []bool{false}, apierrors.NewInvalid(api.Kind("Service"), "s", nil), true, false, false},
		{"in conflict at last", []bool{true, true}, apierrors.NewConflict(gr, "s", errors.New("changed")), true, false, false},
		{"gone meanwhile", []bool{true}, apierrors.NewNotFound(gr, "s"), true, false, false},
		{"became a deletion", []bool{false}, nil, true, false, false},
		{"cut off", []bool{true}, context.Canceled, true, true, true},
		{"timed out in the database", []bool{true}, apierrors.NewServerTimeout(gr, "update", 1), true, true, true},
		{"lost at the second attempt", []bool{true, true}, apierrors.NewInternalError(errors.New("etcd is gone")), true, true, true},
	} {
		a := newTestAllocators(t)
		old := nodePortService("s", "10.96.0.1", 30001)
		if errs := a.adopt(old); len(errs) > 0 {
			t.Fatal(errs)
		}
		_, w := withWrite(t.Context())
		for _, passed := range test.attempts {
			svc := nodePortService("s", "10.96.0.2", 30002)
			before := old.DeepCopy()
			before.Spec.Type = api.ServiceTypeExternalName // as after such a type, everything is taken anew
			w.next()
			r, err := a.reserve(svc, before, false)
			if err != nil {
				t.Fatalf("%s: %v", test.what, err)
			}
			r.hadAddresses, r.hadPorts = heldAddresses(old), heldPorts(old)
			w.attempt(r)(t.Context(), passed)
		}
		if doubtful := w.end(nodePortService("s", "10.96.0.2", 30002), test.err); doubtful != test.doubtful {
			t.Errorf("%s: doubtful %v", test.what, doubtful)
		}
		if h := held(a); h.first != test.first || h.second != test.second {
			t.Errorf("%s: old address held: %v, want %v; new address held: %v, want %v", test.what, h.first, test.first, h.second, test.second)
		}
		// A repair finds out what a lost write has left, both ways.
		for _, stored := range []*api.Service{old, nodePortService("s", "10.96.0.2", 30002)} {
			if !test.doubtful {
				continue
			}
			b := newTestAllocators(t)
			b.adopt(old)
			b.adopt(nodePortService("s", "10.96.0.2", 30002))
			b.suspectAll()
			if addresses, ports := b.freeSuspects([]api.Service{*stored}, nil); addresses != 1 || ports != 1 {
				t.Errorf("%s: the repair freed %d addresses and %d ports", test.what, addresses, ports)
			}
			if h := held(b); h.first != (stored == old) || h.second == (stored == old) {
				t.Errorf("%s: stored is %s, and held is %+v", test.what, stored.Spec.ClusterIP, h)
			}
		}
	}
}

// Services in the store that contradict each other are told, and the first one keeps what both claim.
func TestAdoptTellsOfTrouble(t *testing.T) {
	t.Parallel()
	a := newTestAllocators(t)
	if errs := a.adopt(nodePortService("a", "10.96.0.1", 30001)); len(errs) != 0 {
		t.Error(errs)
	}
	if errs := a.adopt(nodePortService("b", "10.96.0.1", 30001)); len(errs) != 2 {
		t.Errorf("want a taken address and a taken port, got %v", errs)
	}
	if errs := a.adopt(nodePortService("c", "192.0.2.1", 29999)); len(errs) != 2 {
		t.Errorf("want an address and a port out of range, got %v", errs)
	}
	a.release(nodePortService("b", "10.96.0.1", 30001))
	a.release(nodePortService("c", "192.0.2.1", 29999))
	if !held(a).first {
		t.Error("the deletion of the second freed what the first one holds")
	}
}

// A repair reads all Services and then marks what they hold. One that is deleted between the two gives back what it had, for good.
func TestDeletedWhileRepaired(t *testing.T) {
	t.Parallel()
	a := newTestAllocators(t)
	svc := nodePortService("a", "10.96.0.1", 30001)
	a.adopt(svc)
	a.suspectAll()
	read := svc.DeepCopy()
	a.release(svc)
	if errs := a.adopt(read); len(errs) > 0 || held(a).first {
		t.Errorf("a Service that is gone has its address again: %v", errs)
	}
	// Another one may have it meanwhile, and the first one does not complain.
	a.adopt(nodePortService("b", "10.96.0.1", 30001))
	if errs := a.adopt(read); len(errs) > 0 || a.addresses.holdings[netip.MustParseAddr("10.96.0.1")].uid != "b" {
		t.Errorf("a Service that is gone has the address of another: %v", errs)
	}
	a.release(nodePortService("b", "10.96.0.1", 30001))
	a.endRepair()
	if a.adopt(svc); !held(a).first {
		t.Error("what is stored is not adopted after the repair")
	}
}
