package endpointslice

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// membersOf gives Pods of those numbers, ready, each with the IPv4 address of its number.
func membersOf(numbers ...int) (out []member) {
	for _, i := range numbers {
		p, _ := podRow(aPod(fmt.Sprintf("p%d", i), "web", []string{fmt.Sprintf("10.1.%d.%d", i/250, i%250+1)}))
		out = append(out, member{pod: p, nodeKnown: true})
	}
	return out
}

func upTo(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

// apply does the changes to have, as the API would.
func apply(c changes, have []*discoveryv1.EndpointSlice, named *int) []*discoveryv1.EndpointSlice {
	byName := map[string]*discoveryv1.EndpointSlice{}
	for _, sl := range have {
		byName[sl.Name] = sl
	}
	for _, sl := range c.create {
		*named++
		sl.Name = fmt.Sprintf("web-%d", *named)
		byName[sl.Name] = sl
	}
	for _, sl := range c.update {
		byName[sl.Name] = sl
	}
	for _, sl := range c.remove {
		delete(byName, sl.Name)
	}
	var out []*discoveryv1.EndpointSlice
	for _, n := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[n])
	}
	return out
}

// TestPackCost holds what each step costs in writes, and how full it leaves the slices.
func TestPackCost(t *testing.T) {
	t.Parallel()
	row, _ := serviceRow(aService("web"))
	without := func(n int, gone ...int) (out []int) {
		for _, i := range upTo(n) {
			if !slices.Contains(gone, i) {
				out = append(out, i)
			}
		}
		return out
	}
	var have []*discoveryv1.EndpointSlice
	var named int
	for _, step := range []struct {
		name   string
		pods   []int
		writes [3]int // creates, updates, deletes
		sizes  []int  // of web-1, web-2, ...
	}{
		{"nothing yet", nil, [3]int{1, 0, 0}, []int{0}},
		{"still nothing", nil, [3]int{}, []int{0}},
		{"the placeholder takes the first in", upTo(1), [3]int{0, 1, 0}, []int{1}},
		{"250", upTo(250), [3]int{2, 1, 0}, []int{50, 100, 100}},
		{"unchanged", upTo(250), [3]int{}, []int{50, 100, 100}},
		{"one more goes where there is room", upTo(251), [3]int{0, 1, 0}, []int{51, 100, 100}},
		{"one less is one write", without(251, 100), [3]int{0, 1, 0}, []int{51, 99, 100}},
		{"one more goes to the fullest with room", upTo(251), [3]int{0, 1, 0}, []int{51, 100, 100}},
		{"one replaced: its slice is written anyway", append(without(251, 150), 251), [3]int{0, 1, 0}, []int{51, 100, 100}},
		{"few left come together", []int{60, 249}, [3]int{0, 1, 2}, []int{2}},
		{"none leaves one, without ports", nil, [3]int{0, 1, 0}, []int{0}},
	} {
		groups, _ := desired(row, membersOf(step.pods...))
		c := pack(row, groups, stock{opened: have}, time.Time{})
		if got := [3]int{len(c.create), len(c.update), len(c.remove)}; got != step.writes {
			t.Errorf("%s: creates, updates, deletes: %v, want %v", step.name, got, step.writes)
		}
		have = apply(c, have, &named)
		var sizes []int
		total := map[string]bool{}
		for _, sl := range have {
			sizes = append(sizes, len(sl.Endpoints))
			for _, e := range sl.Endpoints {
				total[e.Addresses[0]] = true
			}
		}
		if !slices.Equal(sizes, step.sizes) || len(total) != len(step.pods) {
			t.Errorf("%s: sizes %v with %d addresses, want %v with %d", step.name, sizes, len(total), step.sizes, len(step.pods))
		}
	}
}

func TestPackLeavesItsInputAlone(t *testing.T) {
	t.Parallel()
	row, _ := serviceRow(aService("web"))
	groups, _ := desired(row, membersOf(1, 2))
	have := pack(row, groups, stock{}, epoch).create
	have[0].Name = "web-1"
	before := have[0].DeepCopy()
	groups, _ = desired(row, membersOf(2, 3))
	c := pack(row, groups, stock{opened: have}, epoch.Add(time.Hour))
	c.update[0].Endpoints[0].Addresses = []string{"changed"}
	c.update[0].Labels["changed"] = ""
	if got := have[0]; line(got) != line(before) || !maps.Equal(got.Labels, before.Labels) || !maps.Equal(got.Annotations, before.Annotations) {
		t.Errorf("slice was %v, is %v", before, got)
	}
}

func TestPackMetadata(t *testing.T) {
	t.Parallel()
	row, _ := serviceRow(aService("web", func(s *corev1.Service) {
		s.Labels = map[string]string{"team": "a", discoveryv1.LabelManagedBy: "me", corev1.IsHeadlessService: "mine"}
		s.Spec.ClusterIP = corev1.ClusterIPNone
	}))
	sl := pack(row, nil, stock{}, epoch).create[0]
	want := map[string]string{"team": "a", discoveryv1.LabelManagedBy: managedBy, discoveryv1.LabelServiceName: "web", corev1.IsHeadlessService: ""}
	if !maps.Equal(sl.Labels, want) {
		t.Errorf("labels %v, want %v", sl.Labels, want)
	}
	if got, want := sl.Annotations[corev1.EndpointsLastChangeTriggerTime], "2026-11-25T01:00:00Z"; got != want {
		t.Errorf("trigger %q, want %q", got, want)
	}
	if sl.GenerateName != "web-" || sl.Namespace != "default" || !metav1.IsControlledBy(sl, aService("web")) {
		t.Errorf("name %q, namespace %q, owners %v", sl.GenerateName, sl.Namespace, sl.OwnerReferences)
	}

	sl.Name, sl.Annotations["user"] = "web-1", "kept"
	groups, _ := desired(row, membersOf(1))
	sl = pack(row, groups, stock{opened: []*discoveryv1.EndpointSlice{sl}}, time.Time{}).update[0]
	if want := map[string]string{"user": "kept"}; !maps.Equal(sl.Annotations, want) {
		t.Errorf("annotations without a trigger %v, want %v", sl.Annotations, want)
	}

	// The label headless on a slice is the user's way to take it from the proxies, and stays.
	row, _ = serviceRow(aService("web"))
	marked := pack(row, groups, stock{}, epoch).create
	marked[0].Name, marked[0].Labels[corev1.IsHeadlessService] = "web-2", ""
	if c := pack(row, groups, stock{opened: marked}, epoch); len(c.update)+len(c.create)+len(c.remove) != 0 {
		t.Errorf("a slice that a user made headless was written: %v", c)
	}
}

func TestTriggers(t *testing.T) {
	t.Parallel()
	row, _ := serviceRow(aService("web"))
	ms := membersOf(1, 2, 3)
	at := func(i int, told, ready time.Duration) member {
		m, p := ms[i], *ms[i].pod
		p.readyAt, m.pod = epoch.Add(ready), &p
		if told != 0 {
			m.told = epoch.Add(told)
		}
		return m
	}
	for _, step := range []struct {
		name  string
		first bool
		pods  []member
		want  time.Time
	}{
		{"the first time: the Service's creation", true, []member{at(0, 0, time.Minute)}, epoch},
		{"nothing new", false, []member{at(0, time.Minute, time.Minute)}, time.Time{}},
		{"the oldest of what is new", false, []member{at(0, time.Minute, time.Minute), at(1, 0, 3*time.Minute), at(2, 0, 2*time.Minute)}, epoch.Add(2 * time.Minute)},
		{"one changed", false, []member{at(0, time.Minute, 5*time.Minute), at(1, 3*time.Minute, 3*time.Minute)}, epoch.Add(5 * time.Minute)},
		{"one gone is no event", false, nil, time.Time{}},
	} {
		if got := triggered(row, step.first, step.pods); !got.Equal(step.want) {
			t.Errorf("%s: %v, want %v", step.name, got, step.want)
		}
	}
}
