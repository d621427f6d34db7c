package compile

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"fairway.dev/fairway/internal/model"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	svc := &model.Service{Name: name("web"), Type: model.ClusterIP, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		Ports: []model.Port{{Name: "http", Protocol: model.TCP, Port: 80}, {Name: "dns", Protocol: model.UDP, Port: 53}, {Name: "admin", Protocol: model.TCP, Port: 81}}}
	six := *svc
	six.ClusterIPs = []netip.Addr{netip.MustParseAddr("fd00::1")}
	n := 0
	// slice has port http and endpoints as "address flags"; flags r ready, s serving, t terminating.
	slice := func(port uint16, endpoints ...string) *model.EndpointSlice {
		n++
		s := &model.EndpointSlice{Name: name(fmt.Sprint("s", n)), Service: name("web"),
			Ports: []model.EndpointPort{{Name: "dns", Protocol: model.UDP, Port: 1}, {Name: "http", Protocol: model.TCP, Port: port}}}
		for _, e := range endpoints {
			a, flags, _ := strings.Cut(e, " ")
			addr := netip.MustParseAddr(a)
			s.IPv6 = addr.Is6()
			s.Endpoints = append(s.Endpoints, model.Endpoint{Addr: addr, Ready: strings.Contains(flags, "r"),
				Serving: strings.Contains(flags, "s"), Terminating: strings.Contains(flags, "t")})
		}
		return s
	}
	http := Ref{Service: name("web"), PortName: "http"}
	for _, tt := range []struct {
		name string
		ref  Ref
		rows []any
		want string
	}{
		{"by name", http, []any{svc, slice(8080, "10.1.0.1 rs", "10.1.0.2 rs")}, "10.1.0.1:8080 10.1.0.2:8080"},
		{"by number", Ref{Service: name("web"), PortNumber: 80}, []any{svc, slice(8080, "10.1.0.1 rs")}, "10.1.0.1:8080"},
		{"each slice its own target port", http, []any{svc, slice(8080, "10.1.0.1 rs"), slice(9090, "10.1.0.2 rs")}, "10.1.0.1:8080 10.1.0.2:9090"},
		{"once", http, []any{svc, slice(8080, "10.1.0.1 rs"), slice(8080, "10.1.0.1 rs")}, "10.1.0.1:8080"},
		{"ready alone", http, []any{svc, slice(8080, "10.1.0.1 rs", "10.1.0.2 st", "10.1.0.3 ")}, "10.1.0.1:8080"},
		{"leaving when nothing is ready", http, []any{svc, slice(8080, "10.1.0.1 t", "10.1.0.2 st", "10.1.0.3 ")}, "10.1.0.2:8080"},
		{"the first family", http, []any{svc, slice(8080, "10.1.0.1 rs"), slice(8080, "fd01::1 rs")}, "10.1.0.1:8080"},
		{"the first family is 6", http, []any{&six, slice(8080, "10.1.0.1 rs"), slice(8080, "fd01::1 rs")}, "[fd01::1]:8080"},
		{"the other family for want of the first", http, []any{svc, slice(8080, "10.1.0.1 "), slice(8080, "fd01::1 rs")}, "[fd01::1]:8080"},
		{"no dangerous address", http, []any{svc, slice(8080, "127.0.0.1 rs", "169.254.169.254 rs", "0.0.0.0 rs", "224.0.0.1 rs"),
			slice(8080, "::1 rs", "fe80::1 rs", "::ffff:127.0.0.1 rs")}, ""},
		{"nothing", http, []any{svc}, ""},
		{"no Service", http, []any{slice(8080, "10.1.0.1 rs")}, "service default/web does not exist"},
		{"ExternalName", http, []any{&model.Service{Name: name("web"), Type: model.ExternalName}}, "service default/web is an ExternalName"},
		{"no such name", Ref{Service: name("web"), PortName: "https"}, []any{svc}, `service default/web has no TCP port "https"; it has: 80 http, 81 admin`},
		{"no such number", Ref{Service: name("web"), PortNumber: 443}, []any{svc}, "service default/web has no TCP port 443"},
		{"UDP is no TCP", Ref{Service: name("web"), PortNumber: 53}, []any{svc}, "service default/web has no TCP port 53"},
	} {
		e := Resolve(snapshot(t, tt.rows...), Options{}, tt.ref)
		got := e.Problem
		if got == "" {
			var s []string
			for _, a := range e.Addrs {
				s = append(s, a.String())
			}
			got = strings.Join(s, " ")
		}
		if got != tt.want && (e.Problem == "" || !strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
