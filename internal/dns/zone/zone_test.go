package zone_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/dns/zone"
	"fairway.dev/fairway/internal/model"
)

// answerTo gives the response code and the records' data of one section, in no more detail than these tests need.
func answerTo(tb testing.TB, z *zone.Zone, name string, t wire.Type) (wire.Rcode, []string) {
	var q wire.Query
	var r wire.Reply
	if code, ok := q.Parse(packet(tb, name, t)); !ok || code != wire.NoError {
		tb.Fatalf("parse %s: %v", name, code)
	}
	r.Start(&q, nil, wire.MaxMessage)
	z.Answer(&q, &r)
	var out []string
	if err := wire.EachAnswer(r.Finish(), func(_ []byte, _ wire.Type, _ uint32, data []byte) bool {
		if a, ok := netip.AddrFromSlice(data); ok {
			out = append(out, a.String())
		} else {
			out = append(out, wire.NameString(data))
		}
		return true
	}); err != nil {
		tb.Fatal(err)
	}
	return r.Rcode, out
}

// TestReadersAndWriter: while endpoints, Services and addresses come and go, a reader sees only states that were put, and what
// does not change is always there.
func TestReadersAndWriter(t *testing.T) {
	t.Parallel()
	z, err := zone.New(zone.Config{TTL: 5})
	if err != nil {
		t.Fatal(err)
	}
	z.SetSynced(true)
	for i := range 50 {
		z.PutService(loadService(i), loadSlices(i))
	}
	head := &model.Service{Name: model.Name{Namespace: "a", Name: "head"}, Headless: true}
	states := [][]string{{"10.0.0.1"}, {"10.0.0.1", "10.0.0.2", "10.0.0.3"}, {"10.0.0.4", "10.0.0.5"}}
	put := func(i int) {
		sl := &model.EndpointSlice{Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 80}}}
		for _, a := range states[i%len(states)] {
			sl.Endpoints = append(sl.Endpoints, model.Endpoint{Addr: netip.MustParseAddr(a), Ready: true})
		}
		z.PutService(head, slices.Values([]*model.EndpointSlice{sl}))
	}
	put(0)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if code, got := answerTo(t, z, fmt.Sprintf("svc-%d.ns-%d.svc.cluster.local", i%50, i%2), wire.TypeA); code != wire.NoError || len(got) != 1 {
					t.Errorf("a Service that never changes: %v %v", code, got)
					return
				}
				_, got := answerTo(t, z, "head.a.svc.cluster.local", wire.TypeA)
				slices.Sort(got)
				if !slices.ContainsFunc(states, func(s []string) bool { return slices.Equal(s, got) }) {
					t.Errorf("a state that never was: %v", got)
					return
				}
				answerTo(t, z, "_http._tcp.head.a.svc.cluster.local", wire.TypeSRV)
				answerTo(t, z, "1.0.0.10.in-addr.arpa", wire.TypePTR)
			}
		})
	}
	for i := range 2000 {
		put(i)
		svc := loadService(100 + i%500) // the index grows and shrinks meanwhile
		if i/500%2 == 0 {
			z.PutService(svc, loadSlices(100+i%500))
		} else {
			z.DeleteService(svc.Name)
		}
	}
	close(stop)
	readers.Wait()
	if z.Len() != 51 {
		t.Errorf("%d Services, want 51", z.Len())
	}
}

// TestPodAddresses compares the reader of addresses in labels with the standard library's: whatever it takes, that takes, and means the
// same by it.
func TestPodAddresses(t *testing.T) {
	t.Parallel()
	z, err := zone.New(zone.Config{TTL: 5})
	if err != nil {
		t.Fatal(err)
	}
	z.SetSynced(true)
	z.PutNamespace("a")
	for _, label := range []string{
		"1-2-3-4", "0-0-0-0", "255-255-255-255", "256-1-1-1", "1-2-3", "1-2-3-4-5", "01-2-3-4", "1-2-3-", "-1-2-3", "1--2-3", "a-b-c-d", "1-2-3-4a",
		"--", "--1", "1--", "fd00--1", "fd00--0", "fd00-1--", "1-2-3-4-5-6-7-8", "1-2-3-4-5-6-7", "1-2-3-4-5-6-7-8-9", "1-2-3-4-5-6-7--", "--2-3-4-5-6-7-8",
		"1--8", "1--2--3", "1---2", "12345--", "g--", "-1--", "1--2-", "fe80--1%eth0", "ABCD--1", "1-2--5-6-7-8", "1-2-3--5-6-7-8", "1-2-3-4--5-6-7-8", "-", "---",
	} {
		sep := ":"
		if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
			sep = "."
		}
		want := ""
		if a, err := netip.ParseAddr(strings.ReplaceAll(label, "-", sep)); err == nil && a.Zone() == "" {
			want = a.String()
		}
		_, v4 := answerTo(t, z, label+".a.pod.cluster.local", wire.TypeA)
		_, v6 := answerTo(t, z, label+".a.pod.cluster.local", wire.TypeAAAA)
		if got := strings.Join(append(v4, v6...), " "); got != want {
			t.Errorf("%s: %q, want %q", label, got, want)
		}
	}
	disabled, err := zone.New(zone.Config{TTL: 5, Pods: zone.PodsDisabled})
	if err != nil {
		t.Fatal(err)
	}
	disabled.SetSynced(true)
	disabled.PutNamespace("a")
	if code, got := answerTo(t, disabled, "1-2-3-4.a.pod.cluster.local", wire.TypeA); code != wire.NameError || len(got) != 0 {
		t.Errorf("disabled: %v %v", code, got)
	}
}

// TestOddRows: rows that can have no name are left out, and take away what was there.
func TestOddRows(t *testing.T) {
	t.Parallel()
	z, err := zone.New(zone.Config{Domain: "Corp.Example.", TTL: 5})
	if err != nil {
		t.Fatal(err)
	}
	if z.Domain() != "corp.example." {
		t.Errorf("domain %s", z.Domain())
	}
	none := slices.Values([]*model.EndpointSlice(nil))
	n := model.Name{Namespace: "a", Name: "x"}
	good := &model.Service{Name: n, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	for _, odd := range []*model.Service{
		{Name: n},
		{Name: n, Type: model.ExternalName},
		{Name: n, Type: model.ExternalName, ExternalName: "10.0.0.1"},
		{Name: n, Type: model.ExternalName, ExternalName: "fd00::1"},
		{Name: n, Type: model.ExternalName, ExternalName: "a..b"},
		{Name: n, Type: model.ExternalName, ExternalName: strings.Repeat("a", 64)},
	} {
		z.PutService(good, none)
		if _, got := answerTo(t, z, "x.a.svc.corp.example", wire.TypeA); len(got) != 1 || z.Len() != 1 || z.Addresses() != 1 {
			t.Fatalf("good row: %v", got)
		}
		z.PutService(odd, none)
		if z.Len() != 0 || z.Addresses() != 0 {
			t.Errorf("%v: %d Services, %d addresses", odd, z.Len(), z.Addresses())
		}
	}
	z.PutService(&model.Service{Name: model.Name{Namespace: "a", Name: strings.Repeat("x", 64)}, Headless: true}, none)
	if z.Len() != 0 {
		t.Error("a name over 63 bytes is kept")
	}
	for _, bad := range []string{".", "a..b", strings.Repeat("a.", 40)} {
		if _, err := zone.New(zone.Config{Domain: bad}); err == nil {
			t.Errorf("domain %q: no error", bad)
		}
	}
}
