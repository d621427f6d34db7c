package dns_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func ips(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, ip(a))
	}
	return out
}

func name(s string) model.Name {
	ns, n, _ := strings.Cut(s, "/")
	return model.Name{Namespace: ns, Name: n}
}

// tcp makes ports from "http:80", "53/UDP" or "80".
func ports(specs ...string) (out []model.Port) {
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

func service(n string, clusterIPs []netip.Addr, p ...string) *model.Service {
	return &model.Service{Name: name(n), Type: model.ClusterIP, ClusterIPs: clusterIPs, Ports: ports(p...)}
}

func headless(n string, p ...string) *model.Service {
	return &model.Service{Name: name(n), Type: model.ClusterIP, Headless: true, Ports: ports(p...)}
}

func external(n, to string) *model.Service {
	return &model.Service{Name: name(n), Type: model.ExternalName, ExternalName: to}
}

// slice makes the slice "<service>-<id>" from endpoints such as "10.1.0.1", "host=10.1.0.1", "!10.1.0.1" (not ready).
func slice(svc, id string, p []string, endpoints ...string) *model.EndpointSlice {
	sl := &model.EndpointSlice{Service: name(svc), Name: name(svc)}
	sl.Name.Name += "-" + id
	for _, q := range ports(p...) {
		sl.Ports = append(sl.Ports, model.EndpointPort{Name: q.Name, Protocol: q.Protocol, Port: q.Port})
	}
	for _, e := range endpoints {
		ep := model.Endpoint{Ready: true, Serving: true}
		if rest, ok := strings.CutPrefix(e, "!"); ok {
			ep.Ready, e = false, rest
		}
		if host, rest, ok := strings.Cut(e, "="); ok {
			ep.Hostname, e = host, rest
		}
		ep.Addr = ip(e)
		sl.IPv6 = ep.Addr.Is6()
		sl.Endpoints = append(sl.Endpoints, ep)
	}
	return sl
}

type world struct {
	services []*model.Service
	slices   []*model.EndpointSlice
	spaces   []string
}

// fixture is the cluster that the table of questions is about.
func fixture() world {
	http := []string{"http:80"}
	many := func(format string, n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf(format, i/250, i%250+1))
		}
		return out
	}
	return world{
		spaces: []string{"testns", "emptyns", "kube-system"},
		services: []*model.Service{
			service("testns/svc1", ips("10.0.0.1"), "http:80"),
			service("testns/svc6", ips("1234:abcd::1"), "http:80"),
			service("testns/dual", ips("10.0.0.3", "10::3"), "http:80"),
			service("testns/multi", ips("10.0.0.5"), "http:80", "https:443", "dns:53/UDP", "assoc:9/SCTP"),
			service("testns/plain", ips("10.0.0.6"), "80"),
			service("testns/portless", ips("10.0.0.7")),
			service("testns/1kubernetes", ips("10.0.0.8"), "https:443"),
			service("testns/pending", nil, "http:80"),
			headless("testns/hdls1", "http:80"),
			headless("testns/hdls4", "http:80"),
			headless("testns/hdls6", "http:80"),
			headless("testns/hdlsnone", "http:80"),
			headless("testns/hdlsready", "http:80"),
			headless("testns/hdlsnoports"),
			headless("testns/hdlsports", "http:80", "admin:81"),
			headless("testns/hdlsslices", "http:80"),
			headless("testns/hdlsmixed", "a:1", "b:2"),
			headless("testns/hdlslarge", "http:80"),
			external("testns/ext", "ext.interwebs.test"),
			external("testns/extdot", "ext.interwebs.test."),
			external("testns/extmissing", "missing.interwebs.test"),
			external("testns/extbroken", "broken.interwebs.test"),
			external("testns/extalias", "alias.interwebs.test"),
			external("testns/extaddr", "10.9.9.9"),
			external("testns/ext2svc", "svc1.testns.svc.cluster.local"),
			external("testns/ext2dual", "Dual.testns.svc.cluster.local"),
			external("testns/ext2hdls", "hdls4.testns.svc.cluster.local"),
			external("testns/ext2ep", "pod-a.hdls1.testns.svc.cluster.local"),
			external("testns/ext2pod", "10-240-0-1.testns.pod.cluster.local"),
			external("testns/ext2ext", "ext2svc.testns.svc.cluster.local"),
			external("testns/ext2out", "ext.testns.svc.cluster.local"),
			external("testns/ext2none", "nosuch.testns.svc.cluster.local"),
			external("testns/ext2space", "testns.svc.cluster.local"),
			external("testns/extself", "extself.testns.svc.cluster.local"),
			external("testns/extping", "extpong.testns.svc.cluster.local"),
			external("testns/extpong", "extping.testns.svc.cluster.local"),
			service("kube-system/kube-dns", ips("10.0.0.10"), "dns:53/UDP", "dns-tcp:53"),
			service("implied/only", ips("10.0.0.20"), "http:80"),
		},
		slices: []*model.EndpointSlice{
			slice("testns/svc1", "a", []string{"http:8080"}, "172.0.1.1", "172.0.1.2", "!172.0.1.3"),
			slice("testns/hdls1", "a", http, "172.0.0.2", "172.0.0.3", "dup-name=172.0.0.4", "dup-name=172.0.0.5", "pod-a=172.0.0.6", "!172.0.0.9"),
			slice("testns/hdls1", "b", http, "5678:abcd::1", "5678:abcd::2"),
			slice("testns/hdls1", "c", http, "172.0.0.3"), // the same endpoint once more, as while it moves between slices
			slice("testns/hdls4", "a", http, "172.0.4.1", "172.0.4.2", "172.0.4.3"),
			slice("testns/hdls6", "a", http, "5678:abcd::6:1", "fd00:1::"),
			slice("testns/hdlsnone", "a", nil),
			slice("testns/hdlsready", "a", http, "!172.0.5.1", "!172.0.5.2"),
			slice("testns/hdlsnoports", "a", nil, "172.0.6.1"),
			slice("testns/hdlsports", "a", []string{"http:8080", "admin:8081"}, "172.0.7.1", "172.0.7.2"),
			slice("testns/hdlsslices", "a", []string{"http:8080"}, "172.0.8.1"),
			slice("testns/hdlsslices", "b", []string{"http:9090"}, "172.0.8.2"),
			slice("testns/hdlsmixed", "a", []string{"a:1", "b:2"}, "172.0.9.1", "172.0.9.2"),
			slice("testns/hdlsmixed", "b", []string{"a:1"}, "172.0.9.3", "172.0.4.1"),
			slice("testns/hdlslarge", "a", http, many("172.1.%d.%d", 300)...),
			slice("gone/orphan", "a", http, "172.0.10.1"),
		},
	}
}

// load puts a world into the store; reverse puts slices before Services, one transaction each.
func load(st *store.Store, w world, reverse bool) {
	var steps []func(*store.Txn)
	for _, s := range w.spaces {
		steps = append(steps, func(t *store.Txn) { t.PutNamespace(&model.Namespace{Name: s}) })
	}
	for _, s := range w.services {
		steps = append(steps, func(t *store.Txn) { t.PutService(s) })
	}
	for _, s := range w.slices {
		steps = append(steps, func(t *store.Txn) { t.PutSlice(s) })
	}
	if reverse {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		mustUpdate(st, step)
	}
}

func mustUpdate(st *store.Store, f func(*store.Txn)) store.Revision {
	rev, err := st.Update(func(t *store.Txn) error { f(t); return nil })
	if err != nil {
		panic(err)
	}
	return rev
}
