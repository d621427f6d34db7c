package questions

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// IP reads an address.
func IP(s string) netip.Addr { return netip.MustParseAddr(s) }

// IPs reads addresses.
func IPs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, IP(a))
	}
	return out
}

// Name reads "namespace/name".
func Name(s string) model.Name {
	ns, n, _ := strings.Cut(s, "/")
	return model.Name{Namespace: ns, Name: n}
}

// Ports makes ports from "http:80", "53/UDP" or "80".
func Ports(specs ...string) (out []model.Port) {
	for _, s := range specs {
		s, proto, _ := strings.Cut(s, "/")
		p, ok := model.ParseProtocol(proto)
		if !ok {
			panic(proto)
		}
		port := model.Port{Protocol: p}
		if i := strings.IndexByte(s, ':'); i >= 0 {
			port.Name, s = s[:i], s[i+1:]
		}
		if _, err := fmt.Sscan(s, &port.Port); err != nil {
			panic(err)
		}
		out = append(out, port)
	}
	return out
}

// Service makes a Service with cluster addresses.
func Service(n string, clusterIPs []netip.Addr, p ...string) *model.Service {
	return &model.Service{Name: Name(n), Type: model.ClusterIP, ClusterIPs: clusterIPs, Ports: Ports(p...)}
}

// Headless makes a headless Service.
func Headless(n string, p ...string) *model.Service {
	return &model.Service{Name: Name(n), Type: model.ClusterIP, Headless: true, Ports: Ports(p...)}
}

// External makes a Service that is another name for a host.
func External(n, to string) *model.Service {
	return &model.Service{Name: Name(n), Type: model.ExternalName, ExternalName: to}
}

// Slice makes the slice "<service>-<id>" from endpoints such as "10.1.0.1", "host=10.1.0.1", "!10.1.0.1" (not ready), "?10.1.0.1"
// (terminating and not serving, but published as ready, as publishNotReadyAddresses asks).
func Slice(svc, id string, p []string, endpoints ...string) *model.EndpointSlice {
	sl := &model.EndpointSlice{Service: Name(svc), Name: Name(svc)}
	sl.Name.Name += "-" + id
	for _, q := range Ports(p...) {
		sl.Ports = append(sl.Ports, model.EndpointPort{Name: q.Name, Protocol: q.Protocol, Port: q.Port})
	}
	for _, e := range endpoints {
		ep := model.Endpoint{Ready: true, Serving: true}
		if rest, ok := strings.CutPrefix(e, "!"); ok {
			ep.Ready, e = false, rest
		}
		if rest, ok := strings.CutPrefix(e, "?"); ok {
			ep.Serving, ep.Terminating, e = false, true, rest
		}
		if host, rest, ok := strings.Cut(e, "="); ok {
			ep.Hostname, e = host, rest
		}
		ep.Addr = IP(e)
		sl.IPv6 = ep.Addr.Is6()
		sl.Endpoints = append(sl.Endpoints, ep)
	}
	return sl
}

// World is what is in a cluster.
type World struct {
	Services   []*model.Service
	Slices     []*model.EndpointSlice
	Namespaces []string
}

// KubeDNS is the Service of cluster DNS itself.
func KubeDNS() []*model.Service {
	return []*model.Service{Service("kube-system/kube-dns", IPs("10.0.0.10"), "dns:53/UDP", "dns-tcp:53")}
}

// Fixture is the cluster that the table of questions is about.
func Fixture() World {
	http := []string{"http:80"}
	many := func(format string, n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf(format, i/250, i%250+1))
		}
		return out
	}
	return World{
		Namespaces: []string{"testns", "emptyns", "kube-system"},
		Services: []*model.Service{
			Service("testns/svc1", IPs("10.0.0.1"), "http:80"),
			Service("testns/svc6", IPs("1234:abcd::1"), "http:80"),
			Service("testns/dual", IPs("10.0.0.3", "10::3"), "http:80"),
			Service("testns/multi", IPs("10.0.0.5"), "http:80", "https:443", "dns:53/UDP", "assoc:9/SCTP"),
			Service("testns/plain", IPs("10.0.0.6"), "80"),
			Service("testns/portless", IPs("10.0.0.7")),
			Service("testns/1kubernetes", IPs("10.0.0.8"), "https:443"),
			Service("testns/pending", nil, "http:80"),
			Headless("testns/hdls1", "http:80"),
			Headless("testns/hdls4", "http:80"),
			Headless("testns/hdls6", "http:80"),
			Headless("testns/hdlsnone", "http:80"),
			Headless("testns/hdlsready", "http:80"),
			Headless("testns/hdlsnoports"),
			Headless("testns/hdlsports", "http:80", "admin:81"),
			Headless("testns/hdlsslices", "http:80"),
			Headless("testns/hdlsmixed", "a:1", "b:2"),
			Headless("testns/hdlslarge", "http:80"),
			Headless("testns/publish", "http:80"),
			Headless("testns/hdlsdual", "http:80", "dns:53/UDP"),
			External("testns/ext", "ext.interwebs.test"),
			External("testns/extdot", "ext.interwebs.test."),
			External("testns/extmissing", "missing.interwebs.test"),
			External("testns/extbroken", "broken.interwebs.test"),
			External("testns/extalias", "alias.interwebs.test"),
			External("testns/extaddr", "10.9.9.9"),
			External("testns/ext2svc", "svc1.testns.svc.cluster.local"),
			External("testns/ext2dual", "Dual.testns.svc.cluster.local"),
			External("testns/ext2hdls", "hdls4.testns.svc.cluster.local"),
			External("testns/ext2ep", "pod-a.hdls1.testns.svc.cluster.local"),
			External("testns/ext2pod", "10-240-0-1.testns.pod.cluster.local"),
			External("testns/ext2ext", "ext2svc.testns.svc.cluster.local"),
			External("testns/ext2out", "ext.testns.svc.cluster.local"),
			External("testns/ext2none", "nosuch.testns.svc.cluster.local"),
			External("testns/ext2space", "testns.svc.cluster.local"),
			External("testns/extself", "extself.testns.svc.cluster.local"),
			External("testns/extping", "extpong.testns.svc.cluster.local"),
			External("testns/extpong", "extping.testns.svc.cluster.local"),
			Service("kube-system/kube-dns", IPs("10.0.0.10"), "dns:53/UDP", "dns-tcp:53"),
			Service("implied/only", IPs("10.0.0.20"), "http:80"),
		},
		Slices: []*model.EndpointSlice{
			Slice("testns/svc1", "a", []string{"http:8080"}, "172.0.1.1", "172.0.1.2", "!172.0.1.3"),
			Slice("testns/hdls1", "a", http, "172.0.0.2", "172.0.0.3", "dup-name=172.0.0.4", "dup-name=172.0.0.5", "pod-a=172.0.0.6", "!172.0.0.9"),
			Slice("testns/hdls1", "b", http, "5678:abcd::1", "5678:abcd::2"),
			Slice("testns/hdls1", "c", http, "172.0.0.3"), // the same endpoint once more, as while it moves between slices
			Slice("testns/hdls4", "a", http, "172.0.4.1", "172.0.4.2", "172.0.4.3"),
			Slice("testns/hdls6", "a", http, "5678:abcd::6:1", "fd00:1::"),
			Slice("testns/hdlsnone", "a", nil),
			Slice("testns/hdlsready", "a", http, "!172.0.5.1", "!172.0.5.2"),
			Slice("testns/hdlsnoports", "a", nil, "172.0.6.1"),
			Slice("testns/hdlsports", "a", []string{"http:8080", "admin:8081"}, "172.0.7.1", "172.0.7.2"),
			Slice("testns/hdlsslices", "a", []string{"http:8080"}, "172.0.8.1"),
			Slice("testns/hdlsslices", "b", []string{"http:9090"}, "172.0.8.2"),
			Slice("testns/hdlsmixed", "a", []string{"a:1", "b:2"}, "172.0.9.1", "172.0.9.2"),
			Slice("testns/hdlsmixed", "b", []string{"a:1"}, "172.0.9.3", "172.0.4.1"),
			Slice("testns/hdlslarge", "a", http, many("172.1.%d.%d", 300)...),
			Slice("testns/publish", "a", http, "?172.0.11.1", "?web-0=172.0.11.2", "172.0.11.3", "!172.0.11.4"),
			Slice("testns/hdlsdual", "a", []string{"http:80", "dns:53/UDP"}, "db-0=172.0.12.1", "db-1=172.0.12.2"),
			Slice("testns/hdlsdual", "b", []string{"http:80", "dns:53/UDP"}, "db-0=5678:abcd::12:1", "db-1=5678:abcd::12:2"),
			Slice("gone/orphan", "a", http, "172.0.10.1"),
		},
	}
}

// Load puts a world into the store; reverse puts slices before Services, one transaction each.
func Load(st *store.Store, w World, reverse bool) {
	var steps []func(*store.Txn)
	for _, s := range w.Namespaces {
		steps = append(steps, func(t *store.Txn) { t.PutNamespace(&model.Namespace{Name: s}) })
	}
	for _, s := range w.Services {
		steps = append(steps, func(t *store.Txn) { t.PutService(s) })
	}
	for _, s := range w.Slices {
		steps = append(steps, func(t *store.Txn) { t.PutSlice(s) })
	}
	if reverse {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		Update(st, step)
	}
}

// Update commits one transaction.
func Update(st *store.Store, f func(*store.Txn)) store.Revision {
	rev, err := st.Update(func(t *store.Txn) error { f(t); return nil })
	if err != nil {
		panic(err)
	}
	return rev
}
