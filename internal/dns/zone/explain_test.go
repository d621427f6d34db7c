package zone_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/dns/zone"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// explained is the world of TestExplain: what the API has, and, without the Services that are withheld, what the zone has.
func explained(t *testing.T, withheld ...string) (*zone.Zone, *store.Snapshot) {
	t.Helper()
	ip := netip.MustParseAddr
	name := func(s string) model.Name {
		space, n, _ := strings.Cut(s, "/")
		return model.Name{Namespace: space, Name: n}
	}
	http := []model.Port{{Name: "http", Protocol: model.TCP, Port: 80}}
	services := []*model.Service{
		{Name: name("shop/imaging"), Type: model.ClusterIP, ClusterIPs: []netip.Addr{ip("10.96.0.41")}, Ports: http},
		{Name: name("shop/gallery"), Type: model.ClusterIP, ClusterIPs: []netip.Addr{ip("10.96.0.42"), ip("fd66::42")}},
		{Name: name("test/imaging"), Type: model.ClusterIP, ClusterIPs: []netip.Addr{ip("10.96.0.43")}},
		{Name: name("shop/db"), Headless: true, Type: model.ClusterIP},
		{Name: name("shop/late"), Headless: true, Type: model.ClusterIP},
		{Name: name("shop/void"), Headless: true, Type: model.ClusterIP},
		{Name: name("shop/bare"), Type: model.ClusterIP},
		{Name: name("shop/out"), Type: model.ExternalName, ExternalName: "db.corp.example"},
		{Name: name("shop/bad"), Type: model.ExternalName, ExternalName: "192.0.2.7"},
	}
	port := []model.EndpointPort{{Name: "sql", Protocol: model.TCP, Port: 5432}}
	ends := []*model.EndpointSlice{
		{Name: name("shop/imaging-1"), Service: name("shop/imaging"), Endpoints: []model.Endpoint{
			{Addr: ip("10.244.0.5"), Ready: true, Target: "Pod imaging-a"}, {Addr: ip("10.244.0.6"), Target: "Pod imaging-b"}}},
		{Name: name("shop/db-1"), Service: name("shop/db"), Headless: true, Ports: port, Endpoints: []model.Endpoint{
			{Addr: ip("10.244.0.7"), Ready: true, Hostname: "db-0", Target: "Pod db-0"}, {Addr: ip("10.244.0.8"), Hostname: "db-1", Target: "Pod db-1"}}},
		{Name: name("shop/db-2"), Service: name("shop/db"), Headless: true, Ports: port, Endpoints: []model.Endpoint{
			{Addr: ip("10.244.0.9"), Ready: true, Target: "Pod db-x"}}},
		{Name: name("shop/late-1"), Service: name("shop/late"), Headless: true, Endpoints: []model.Endpoint{
			{Addr: ip("10.244.0.10"), Target: "Pod late-0"}, {Addr: ip("10.244.0.11"), Terminating: true, Target: "Pod late-1"}}},
	}
	z, err := zone.New(zone.Config{TTL: 5, Ranges: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}})
	if err != nil {
		t.Fatal(err)
	}
	st := store.New()
	if _, err := st.Update(func(tx *store.Txn) error {
		for _, n := range []string{"shop", "test", "empty"} {
			tx.PutNamespace(&model.Namespace{Name: n})
			z.PutNamespace(n)
		}
		for _, s := range services {
			tx.PutService(s)
			if !slices.Contains(withheld, s.Name.String()) {
				z.PutService(s, slices.Values(slices.DeleteFunc(slices.Clone(ends), func(e *model.EndpointSlice) bool { return e.Service != s.Name })))
			}
		}
		for _, e := range ends {
			tx.PutSlice(e)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	z.SetSynced(true)
	return z, st.Snapshot()
}

// TestExplain: each way in which a name can be answered, or not, is told from the others, with the object and with what was meant.
func TestExplain(t *testing.T) {
	t.Parallel()
	z, snap := explained(t, "test/imaging")
	kernel := zone.Kernel{Revision: snap.Revision - 1, Failed: map[string]error{"service test/imaging": errors.New("10.96.0.43 belongs to another")}}
	const in = ".svc.cluster.local"
	for _, c := range []struct {
		name    string
		t       wire.Type
		reason  zone.Reason
		object  string
		message string // a part of it
		suggest string // all of them
	}{
		{"imaging.shop" + in, wire.TypeA, zone.Found, "Service shop/imaging", "cluster IP: 10.96.0.41; 1 of 2 endpoints ready", ""},
		{"IMAGING.shop" + in + ".", wire.TypeA, zone.Found, "Service shop/imaging", "", ""},
		{"imaging.shop" + in, wire.TypeAAAA, zone.NoRecordsOfType, "Service shop/imaging", "no IPv6 address", ""},
		{"imaging.shop" + in, wire.TypeMX, zone.NoRecordsOfType, "Service shop/imaging", "no records of this type", ""},
		{"gallery.shop" + in, wire.TypeAAAA, zone.Found, "Service shop/gallery", "refused", ""},
		{"imaging.test" + in, wire.TypeA, zone.NotInForce, "Service test/imaging", "belongs to another", ""},
		{"db.shop" + in, wire.TypeA, zone.Found, "Service shop/db", "2 of 3 endpoints ready", ""},
		{"db-0.db.shop" + in, wire.TypeA, zone.Found, "Service shop/db", "name of an endpoint", ""},
		{"10-244-0-9.db.shop" + in, wire.TypeA, zone.Found, "Service shop/db", "name of an endpoint", ""},
		{"db-1.db.shop" + in, wire.TypeA, zone.EndpointNotReady, "Service shop/db", "not ready", ""},
		{"db-7.db.shop" + in, wire.TypeA, zone.NoSuchEndpoint, "Service shop/db", "no endpoint of the name db-7", "db-0.db.shop" + in},
		{"web-0.gallery.shop" + in, wire.TypeA, zone.NoSuchEndpoint, "Service shop/gallery", "subdomain", ""},
		{"_sql._tcp.db.shop" + in, wire.TypeSRV, zone.Found, "Service shop/db", "is a port", ""},
		{"_tcp.db.shop" + in, wire.TypeSRV, zone.NoRecordsOfType, "Service shop/db", "below", ""},
		{"_http._udp.imaging.shop" + in, wire.TypeSRV, zone.NoSuchPort, "Service shop/imaging", "no port", "_http._tcp.imaging.shop" + in},
		{"late.shop" + in, wire.TypeA, zone.NoReadyEndpoints, "Service shop/late", "none of its 2 endpoints is ready", ""},
		{"void.shop" + in, wire.TypeA, zone.NoReadyEndpoints, "Service shop/void", "no Pod matches", ""},
		{"bare.shop" + in, wire.TypeA, zone.NoClusterIP, "Service shop/bare", "no cluster IP", ""},
		{"out.shop" + in, wire.TypeA, zone.Found, "Service shop/out", "stands for db.corp.example", ""},
		{"x.out.shop" + in, wire.TypeA, zone.NoNamesBelow, "Service shop/out", "ExternalName", ""},
		{"bad.shop" + in, wire.TypeA, zone.BadExternalName, "Service shop/bad", "192.0.2.7", ""},
		{"imagign.shop" + in, wire.TypeA, zone.NoSuchService, "", "no Service imagign in the namespace shop", "imaging.shop" + in},
		{"gallery.test" + in, wire.TypeA, zone.NoSuchService, "", "", "gallery.shop" + in},
		{"shop.gallery" + in, wire.TypeA, zone.NoSuchNamespace, "", "no namespace gallery", "gallery.shop" + in},
		{"gallery.shpo" + in, wire.TypeA, zone.NoSuchNamespace, "", "no namespace shpo", "gallery.shop" + in},
		{"zzzzzz.empty" + in, wire.TypeA, zone.NoSuchService, "", "", ""},
		{"shop" + in, wire.TypeA, zone.NoRecordsOfType, "Namespace shop", "below", ""},
		{"nowhere" + in, wire.TypeA, zone.NoSuchNamespace, "", "no namespace nowhere", ""},
		{"svc.cluster.local", wire.TypeA, zone.NoRecordsOfType, "", "below", ""},
		{"gallery.shop.cluster.local", wire.TypeA, zone.NoSuchName, "", "no svc", "gallery.shop" + in},
		{"gallery.cluster.local", wire.TypeA, zone.NoSuchName, "", "", "gallery.shop" + in},
		{"gallery", wire.TypeA, zone.NotOfTheCluster, "", "search path", "gallery.shop" + in},
		{"gallery.shop.svc", wire.TypeA, zone.NotOfTheCluster, "", "search path", "gallery.shop" + in},
		{"www.example.com", wire.TypeA, zone.NotOfTheCluster, "", "domain is cluster.local", ""},
		{"10-244-0-7.shop.pod.cluster.local", wire.TypeA, zone.Found, "", "Pod's address", ""},
		{"web.shop.pod.cluster.local", wire.TypeA, zone.NoSuchName, "", "dashes", ""},
		{"web.nowhere.pod.cluster.local", wire.TypeA, zone.NoSuchNamespace, "", "", ""},
		{"41.0.96.10.in-addr.arpa", wire.TypePTR, zone.Found, "Service shop/imaging", "cluster IP of the Service", ""},
		{"7.0.244.10.in-addr.arpa", wire.TypePTR, zone.Found, "", "address of an endpoint", ""},
		{"8.0.244.10.in-addr.arpa", wire.TypePTR, zone.EndpointNotReady, "", "not ready", ""},
		{"1.2.0.192.in-addr.arpa", wire.TypePTR, zone.NotOfTheCluster, "", "neither", ""},
		{"9.0.96.10.in-addr.arpa", wire.TypePTR, zone.NoSuchName, "", "nobody else is asked", ""},
		{"0.96.10.in-addr.arpa", wire.TypePTR, zone.NoRecordsOfType, "", "no whole address", ""},
		{"cluster.local", wire.TypeSOA, zone.Found, "", "domain itself", ""},
		{"dns-version.cluster.local", wire.TypeTXT, zone.Found, "", "version", ""},
		{"dns-version.cluster.local", wire.TypeA, zone.NoRecordsOfType, "", "no records of this type", ""},
		{"a..b", wire.TypeA, zone.NoSuchName, "", "label", ""},
	} {
		e := z.Explain(snap, kernel, c.name, c.t)
		if e.Reason != c.reason || e.Object != c.object || !strings.Contains(e.Message, c.message) || strings.Join(e.Suggestions, " ") != c.suggest {
			t.Errorf("%s %d: %+v\nwant %s %q with %q, suggestions %q", c.name, c.t, e, c.reason, c.object, c.message, c.suggest)
		}
	}
}

// TestExplainEndpoints: the slice and the Pod behind each address of a headless Service are named, those not ready too.
func TestExplainEndpoints(t *testing.T) {
	t.Parallel()
	z, snap := explained(t)
	e := z.Explain(snap, zone.Kernel{}, "db.shop.svc.cluster.local", wire.TypeA)
	want := []zone.ExplainedEndpoint{
		{"10.244.0.7", "db-0", "ready", "shop/db-1", "Pod db-0"},
		{"10.244.0.8", "db-1", "not ready", "shop/db-1", "Pod db-1"},
		{"10.244.0.9", "", "ready", "shop/db-2", "Pod db-x"},
	}
	if !slices.Equal(e.Endpoints, want) {
		t.Errorf("%+v", e.Endpoints)
	}
}

// TestExplainNotSynced: as long as a Service that is not known may exist, nothing is said of it but that.
func TestExplainNotSynced(t *testing.T) {
	t.Parallel()
	z, snap := explained(t)
	z.SetSynced(false)
	if e := z.Explain(snap, zone.Kernel{}, "nobody.shop.svc.cluster.local", wire.TypeA); e.Reason != zone.NotSynced {
		t.Errorf("%+v", e)
	}
	if e := z.Explain(snap, zone.Kernel{}, "imaging.shop.svc.cluster.local", wire.TypeA); e.Reason != zone.Found {
		t.Errorf("%+v", e)
	}
}
