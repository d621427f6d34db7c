package mirroring

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// hand makes Endpoints from subsets written as "80/TCP,81/TCP: 10.0.0.1 !10.0.0.2"; the ! is for an address that is not ready.
func hand(subsets ...string) *corev1.Endpoints {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db", UID: "uid-1"}}
	for _, text := range subsets {
		ports, addresses, _ := strings.Cut(text, ": ")
		var s corev1.EndpointSubset
		for p := range strings.SplitSeq(ports, ",") {
			var port corev1.EndpointPort
			if p == "-" {
				continue
			}
			number, protocol, _ := strings.Cut(p, "/")
			if _, err := fmt.Sscan(number, &port.Port); err != nil {
				panic(err)
			}
			port.Name, port.Protocol = "p"+number, corev1.Protocol(protocol)
			s.Ports = append(s.Ports, port)
		}
		for a := range strings.FieldsSeq(addresses) {
			if ip, not := strings.CutPrefix(a, "!"); not {
				s.NotReadyAddresses = append(s.NotReadyAddresses, corev1.EndpointAddress{IP: ip})
			} else {
				s.Addresses = append(s.Addresses, corev1.EndpointAddress{IP: a})
			}
		}
		e.Subsets = append(e.Subsets, s)
	}
	return e
}

// written gives slices in the form of hand, with their family in front, sorted.
func written(list []*discoveryv1.EndpointSlice) []string {
	out := []string{}
	for _, sl := range list {
		var ports, addresses []string
		for _, p := range sl.Ports {
			ports = append(ports, fmt.Sprintf("%d/%s", *p.Port, *p.Protocol))
		}
		if len(ports) == 0 {
			ports = []string{"-"}
		}
		for _, e := range sl.Endpoints {
			mark := "!"
			if *e.Conditions.Ready {
				mark = ""
			}
			addresses = append(addresses, mark+strings.Join(e.Addresses, "+"))
		}
		slices.Sort(ports)
		slices.Sort(addresses)
		out = append(out, fmt.Sprintf("%s %s: %s", sl.AddressType, strings.Join(ports, ","), strings.Join(addresses, " ")))
	}
	slices.Sort(out)
	return out
}

func TestDesired(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ subsets, want []string }{
		"one":               {[]string{"80/TCP: 10.0.0.1 !10.0.0.2"}, []string{"IPv4 80/TCP: !10.0.0.2 10.0.0.1"}},
		"nothing":           {nil, []string{}},
		"two families":      {[]string{"80/TCP: 10.0.0.1 fd00::1"}, []string{"IPv4 80/TCP: 10.0.0.1", "IPv6 80/TCP: fd00::1"}},
		"no ports":          {[]string{"-: 10.0.0.1"}, []string{"IPv4 -: 10.0.0.1"}},
		"ports of the same": {[]string{"80/TCP: 10.0.0.1", "81/UDP: 10.0.0.1"}, []string{"IPv4 80/TCP,81/UDP: 10.0.0.1"}},
		"addresses of the same": {
			[]string{"80/TCP: 10.0.0.1", "80/TCP: 10.0.0.2"}, []string{"IPv4 80/TCP: 10.0.0.1 10.0.0.2"},
		},
		"a port of some": {
			[]string{"80/TCP,81/TCP: 10.0.0.1", "80/TCP: 10.0.0.2"}, []string{"IPv4 80/TCP: 10.0.0.1 10.0.0.2", "IPv4 81/TCP: 10.0.0.1"},
		},
		"ready and not":  {[]string{"80/TCP: 10.0.0.1", "80/TCP: !10.0.0.1"}, []string{"IPv4 80/TCP: !10.0.0.1"}},
		"usual spelling": {[]string{"80/TCP: 010.0.0.01 FD00::0:1"}, []string{"IPv4 80/TCP: 10.0.0.1", "IPv6 80/TCP: fd00::1"}},
		"no address":     {[]string{"80/TCP: nowhere 10.0.0.1"}, []string{"IPv4 80/TCP: 10.0.0.1"}},
	} {
		got, _ := desired(hand(test.subsets...))
		if d := cmp.Diff(test.want, written(got)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	e := hand("80/TCP: 10.0.0.1")
	e.Labels = map[string]string{"team": "a", discoveryv1.LabelManagedBy: "somebody", discoveryv1.LabelServiceName: "other"}
	e.Annotations = map[string]string{"note": "n", corev1.EndpointsLastChangeTriggerTime: "t", corev1.LastAppliedConfigAnnotation: "{}"}
	e.Subsets[0].Addresses[0].Hostname = "h"
	e.Subsets[0].Addresses[0].NodeName = new("n1")
	e.Subsets[0].Addresses[0].TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: "p", UID: "u"}
	got, _ := desired(e)
	sl := got[0]
	if d := cmp.Diff(map[string]string{"team": "a", discoveryv1.LabelManagedBy: managedBy, discoveryv1.LabelServiceName: "db"}, sl.Labels); d != "" {
		t.Error("labels", d)
	}
	if d := cmp.Diff(map[string]string{"note": "n"}, sl.Annotations); d != "" {
		t.Error("annotations", d)
	}
	owner := sl.OwnerReferences[0]
	if owner.Kind != "Endpoints" || owner.APIVersion != "v1" || owner.Name != "db" || owner.UID != "uid-1" || !*owner.Controller {
		t.Error("owner", owner)
	}
	if one := sl.Endpoints[0]; *one.Hostname != "h" || *one.NodeName != "n1" || one.TargetRef.Name != "p" {
		t.Error("endpoint", one)
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	e := hand("80/TCP: nowhere")
	for i := range maxAddresses {
		e.Subsets[0].NotReadyAddresses = append(e.Subsets[0].NotReadyAddresses, corev1.EndpointAddress{IP: fmt.Sprintf("10.0.%d.%d", i/250, i%250)})
	}
	e.Subsets[0].Addresses = append(e.Subsets[0].Addresses, corev1.EndpointAddress{IP: "fd00::1"}, corev1.EndpointAddress{IP: "10.1.0.1"})
	got, l := desired(e)
	total := 0
	for _, sl := range got {
		total += len(sl.Endpoints)
	}
	if total != maxAddresses || l != (left{invalid: 1, tooMany: 2}) {
		t.Errorf("%d addresses, left out %+v", total, l)
	}
	if text := strings.Join(written(got), "\n"); !strings.Contains(text, "IPv6 80/TCP: fd00::1") || !strings.Contains(text, " 10.1.0.1") {
		t.Error("a ready address gave way to one that is not")
	}
}

func TestMirrorable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		labels, annotations map[string]string
		want                bool
	}{
		{nil, nil, true},
		{map[string]string{discoveryv1.LabelSkipMirror: "true"}, nil, false},
		{map[string]string{discoveryv1.LabelSkipMirror: "false"}, nil, true},
		{nil, map[string]string{leader: "{}"}, false},
	} {
		e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Labels: test.labels, Annotations: test.annotations}}
		if got := mirrorable(e); got != test.want {
			t.Errorf("%v %v: %v", test.labels, test.annotations, got)
		}
	}
}

// A change needs no more writes than there are slices that differ, and never removes one to make another of the same family.
func TestChange(t *testing.T) {
	t.Parallel()
	slicesOf := func(e *corev1.Endpoints) []*discoveryv1.EndpointSlice {
		list, _ := desired(e)
		for i, sl := range list {
			sl.Name, sl.UID, sl.ResourceVersion = fmt.Sprintf("db-%d", i), types.UID(fmt.Sprint(i)), "7"
			sl.Finalizers = []string{"example.test/kept"}
		}
		return list
	}
	other := hand("80/TCP: 10.0.0.1")
	other.UID = "uid-2"
	for name, test := range map[string]struct {
		from, to               *corev1.Endpoints
		create, update, remove int
	}{
		"the same":          {hand("80/TCP: 10.0.0.1"), hand("80/TCP: 10.0.0.1"), 0, 0, 0},
		"new":               {hand(), hand("80/TCP: 10.0.0.1 fd00::1"), 2, 0, 0},
		"gone":              {hand("80/TCP: 10.0.0.1"), hand(), 0, 0, 1},
		"an address":        {hand("80/TCP: 10.0.0.1"), hand("80/TCP: 10.0.0.1 10.0.0.2"), 0, 1, 0},
		"readiness":         {hand("80/TCP: 10.0.0.1"), hand("80/TCP: !10.0.0.1"), 0, 1, 0},
		"a port":            {hand("80/TCP: 10.0.0.1"), hand("81/TCP: 10.0.0.1"), 0, 1, 0},
		"another family":    {hand("80/TCP: 10.0.0.1"), hand("80/TCP: fd00::1"), 1, 0, 1},
		"made anew":         {hand("80/TCP: 10.0.0.1"), other, 0, 1, 0},
		"one of two subset": {hand("80/TCP: 10.0.0.1", "81/TCP: 10.0.0.2"), hand("81/TCP: 10.0.0.2"), 0, 0, 1},
	} {
		wanted, _ := desired(test.to)
		c := change(slicesOf(test.from), wanted)
		if len(c.create) != test.create || len(c.update) != test.update || len(c.remove) != test.remove {
			t.Errorf("%s: %d created, %d updated, %d removed", name, len(c.create), len(c.update), len(c.remove))
		}
		for _, sl := range c.update {
			if sl.Name == "" || sl.ResourceVersion != "7" || len(sl.Finalizers) != 1 || sl.OwnerReferences[0].UID != test.to.UID {
				t.Errorf("%s: an update of %+v", name, sl.ObjectMeta)
			}
		}
	}
}
