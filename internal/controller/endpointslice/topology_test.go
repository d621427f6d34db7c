package endpointslice

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/endpointslice/topologycache"
	"k8s.io/klog/v2"
)

// zonePods gives n ready endpoints in each zone, in one group.
func zonePods(n map[string]int) *group {
	g := &group{family: discoveryv1.AddressTypeIPv4, ports: []discoveryv1.EndpointPort{}}
	for _, zone := range slices.Sorted(maps.Keys(n)) {
		for i := range n[zone] {
			g.endpoints = append(g.endpoints, discoveryv1.Endpoint{
				Addresses: []string{fmt.Sprintf("%s-%d", zone, i)}, Zone: new(zone), TargetRef: &corev1.ObjectReference{Kind: "Pod"},
				Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			})
		}
	}
	return g
}

// hinted counts the endpoints that each zone has the hint of.
func hinted(list []*discoveryv1.EndpointSlice) map[string]int {
	out := map[string]int{}
	for _, sl := range list {
		for _, e := range sl.Endpoints {
			if e.Hints != nil {
				out[e.Hints.ForZones[0].Name]++
			}
		}
	}
	return out
}

// TestSharesAgainstKubernetes gives random zones and endpoints to Kubernetes' own allocation and to this one.
func TestSharesAgainstKubernetes(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 0))
	refused := 0
	for range 3000 {
		var nodes []*corev1.Node
		rows := []node{}
		for i := range r.IntN(6) {
			n := randomNode(r, fmt.Sprint(i))
			nodes = append(nodes, n)
			row, _ := nodeRow(n)
			rows = append(rows, row)
		}
		in := map[string]int{}
		for _, zone := range []string{"z1", "z2", "z3"} {
			in[zone] = r.IntN(12)
		}
		g := zonePods(in)

		kubernetes := func() map[string]int {
			theirs := topologycache.NewTopologyCache()
			theirs.SetNodes(klog.Logger{}, nodes)
			sl := newSlice(&service{}, g.family, g.ports)
			sl.Endpoints = slices.Clone(g.endpoints)
			created, _, _ := theirs.AddHints(klog.Logger{}, &topologycache.SliceInfo{ServiceKey: "default/web", ToCreate: []*discoveryv1.EndpointSlice{sl}})
			return hinted(created)
		}
		want := kubernetes()

		shares := sharesOf(slices.Values(rows))
		quotas, why := shares.quotas([]*group{g})
		if (why == "") != (len(want) > 0) {
			t.Fatalf("shares %v, endpoints %v: ours says %q, Kubernetes has hints %v", shares, in, why, want)
		}
		if why != "" {
			refused++
			continue
		}
		ours := newSlice(&service{}, g.family, g.ports)
		ours.Endpoints = slices.Clone(g.endpoints)
		hintByZone(&service{}, quotas, []*discoveryv1.EndpointSlice{ours}, nil)
		got := hinted([]*discoveryv1.EndpointSlice{ours})
		for range 100 { // Kubernetes chooses at random between zones that need as much
			if maps.Equal(got, want) {
				break
			}
			want = kubernetes()
		}
		if !maps.Equal(got, want) {
			t.Fatalf("shares %v, endpoints %v: hints %v, Kubernetes' %v", shares, in, got, want)
		}
	}
	if refused < 500 || refused > 2500 {
		t.Errorf("%d of 3000 worlds refused: the test tries too little of the other kind", refused)
	}
}

// TestHintsStayPut holds what a change of endpoints or capacity costs in slices written for hints' sake.
func TestHintsStayPut(t *testing.T) {
	t.Parallel()
	svc := &service{hints: topologyHints}
	even := shares{"z1": 0.5, "z2": 0.5}
	quotasOf := func(s shares, n map[string]int) map[string]quota {
		q, why := s.quotas([]*group{zonePods(n)})
		if why != "" {
			t.Fatal(why)
		}
		return q
	}
	pods := map[string]int{"z1": 12, "z2": 8}
	g := zonePods(pods)
	var list []*discoveryv1.EndpointSlice
	for i := range 4 {
		sl := newSlice(svc, g.family, g.ports)
		sl.Name = fmt.Sprint("web-", i)
		sl.Endpoints = slices.Clone(g.endpoints[i*5 : i*5+5])
		list = append(list, sl)
	}
	hintByZone(svc, quotasOf(even, pods), list, nil)
	if got := hinted(list); got["z1"] != 10 || got["z2"] != 10 {
		t.Fatalf("hints %v, want 10 each", got)
	}
	if more := hintByZone(svc, quotasOf(even, pods), nil, list); len(more) != 0 {
		t.Errorf("%d slices are written though nothing changed", len(more))
	}
	if more := hintByZone(svc, quotasOf(shares{"z1": 0.55, "z2": 0.45}, pods), nil, list); len(more) != 0 {
		t.Errorf("%d slices are written for a change within the limit of overload", len(more))
	}
	before := hinted(list)
	more := hintByZone(svc, quotasOf(shares{"z1": 0.8, "z2": 0.2}, pods), nil, list)
	if len(more) == 0 {
		t.Fatal("no slice is written though most CPU is in z1 now")
	}
	after := slices.Clone(list)
	for _, sl := range more {
		i := slices.IndexFunc(after, func(o *discoveryv1.EndpointSlice) bool { return o.Name == sl.Name })
		after[i] = sl
	}
	if got := hinted(after); got["z1"] < 14 || got["z2"] < 4 || got["z1"]+got["z2"] != 20 {
		t.Errorf("hints %v, want 14 to 16 for z1 and the others of 20 for z2", got)
	}
	if got := hinted(list); !maps.Equal(got, before) {
		t.Errorf("the slices that were given changed from %v to %v", before, got)
	}
}
