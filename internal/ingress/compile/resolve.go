package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// Endpoints is what stands behind a Ref at one revision.
type Endpoints struct {
	// Addrs take new requests: the ready endpoints, or those that are terminating but still serve when none is ready
	// (KEP-1669). In order, no duplicates.
	Addrs []netip.AddrPort
	// Problem says why there can be no endpoint whatever the Pods do: the Service or its port does not exist. Else "".
	Problem string
	// Advice is about something that will be served, but maybe not as wished. Else "".
	Advice string
}

// Resolve finds the endpoints of a Service port. The target port is looked up in each slice, because slices of one Service may
// differ in it.
func Resolve(snap *store.Snapshot, opts Options, ref Ref) Endpoints {
	svc := snap.Services.Get(ref.Service)
	if svc == nil {
		return Endpoints{Problem: fmt.Sprintf("service %s does not exist", ref.Service)}
	}
	if svc.Type == model.ExternalName {
		return Endpoints{Problem: fmt.Sprintf("service %s is an ExternalName, which is not followed: name a Service with endpoints", ref.Service)}
	}
	port, ok := servicePort(svc, ref)
	if !ok {
		return Endpoints{Problem: noPort(svc, ref)}
	}
	var e Endpoints
	if p := port.AppProtocol; p == "https" || strings.HasSuffix(p, "h2c") || p == "grpc" {
		e.Advice = fmt.Sprintf("service %s port %d has appProtocol %q, but requests are sent as plain HTTP/1.1", ref.Service, port.Port, p)
	}
	// A dual-stack Pod stands in a slice of each family; one of its addresses is enough. The family of the Service's
	// first address is the one that its author put first.
	prefer6 := len(svc.ClusterIPs) > 0 && svc.ClusterIPs[0].Is6()
	var ready, leaving [2][]netip.AddrPort
	for s := range snap.Slices(ref.Service) {
		family := 0
		if s.IPv6 != prefer6 {
			family = 1
		}
		for _, p := range s.Ports {
			if p.Name != port.Name || p.Protocol != model.TCP || p.Port == 0 {
				continue
			}
			for _, ep := range s.Endpoints {
				switch {
				case !routable(ep.Addr, opts):
				case ep.Ready:
					ready[family] = append(ready[family], netip.AddrPortFrom(ep.Addr, p.Port))
				case ep.Serving && ep.Terminating:
					leaving[family] = append(leaving[family], netip.AddrPortFrom(ep.Addr, p.Port))
				}
			}
		}
	}
	for _, list := range [][]netip.AddrPort{ready[0], ready[1], leaving[0], leaving[1]} {
		if len(list) > 0 {
			slices.SortFunc(list, netip.AddrPort.Compare)
			e.Addrs = slices.Compact(list)
			break
		}
	}
	return e
}

func servicePort(svc *model.Service, ref Ref) (model.Port, bool) {
	for _, p := range svc.Ports {
		if p.Protocol != model.TCP {
			continue
		}
		if ref.PortName != "" && p.Name == ref.PortName || ref.PortNumber != 0 && p.Port == ref.PortNumber || ref.PortName == "" && ref.PortNumber == 0 {
			return p, true
		}
	}
	return model.Port{}, false
}

func noPort(svc *model.Service, ref Ref) string {
	want := fmt.Sprintf("%q", ref.PortName)
	if ref.PortNumber != 0 {
		want = fmt.Sprint(ref.PortNumber)
	}
	var have []string
	for _, p := range svc.Ports {
		if p.Protocol == model.TCP {
			have = append(have, strings.TrimSpace(fmt.Sprintf("%d %s", p.Port, p.Name)))
		}
	}
	if len(have) == 0 {
		return fmt.Sprintf("service %s has no TCP port %s, nor any other", svc.Name, want)
	}
	return fmt.Sprintf("service %s has no TCP port %s; it has: %s", svc.Name, want, strings.Join(have, ", "))
}

// routable keeps requests from being led to the machine itself and to link-local services such as metadata servers. The API refuses such
// endpoints too; this is the second lock.
func routable(a netip.Addr, opts Options) bool {
	a = a.Unmap()
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.Zone() != "" {
		return false
	}
	return !a.IsLoopback() || opts.LoopbackEndpoints
}
