package service

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	apiservice "k8s.io/kubernetes/pkg/api/service"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	"k8s.io/kubernetes/pkg/registry/core/service/portallocator"
)

// minAddresses is the smallest configured service range worth having; upstream asks for the same.
const minAddresses = 8

// Allocators are all cluster IPs and node ports, with what is in use.
type Allocators struct {
	// families are those of the configured service CIDRs, the default one first. Services can have no other.
	families []api.IPFamily
	first    netip.Addr
	// freed is told when an address becomes free.
	freed chan struct{}

	mu        sync.Mutex
	ranges    []*addressRange // what addresses are taken from, in this order. They may overlap
	addresses ledger[netip.Addr]
	observed  netip.Addr // see observe
	portRange *portRange
	ports     ledger[int32]
}

// Range is a prefix of which addresses may be given to Services.
type Range struct {
	Prefix netip.Prefix
	// Ready is false while nothing new is to be taken from it.
	Ready bool
}

// NewAllocators makes empty allocators for Services of the families of these service CIDRs (one, or one of each family, the default
// one first) and node ports of that range. There is no address to give out until SetRanges has told.
func NewAllocators(cidrs []netip.Prefix, nodePorts utilnet.PortRange) (*Allocators, error) {
	a := &Allocators{freed: make(chan struct{}, 1)}
	a.addresses = newLedger(a.markAddress)
	a.ports = newLedger(a.markPort)
	for _, cidr := range cidrs {
		r, err := newAddressRange(cidr)
		if err != nil {
			return nil, err
		}
		if cidr.Addr().BitLen()-cidr.Bits() < 3 {
			return nil, fmt.Errorf("service CIDR %s: too small, it must hold at least %d addresses", r.prefix, minAddresses)
		}
		if a.has(r.family()) {
			return nil, fmt.Errorf("service CIDR %s: there is already one of family %s", cidr, r.family())
		}
		if len(a.families) == 0 {
			a.first = r.address(0)
		}
		a.families = append(a.families, r.family())
	}
	if len(a.families) == 0 {
		return nil, fmt.Errorf("no service CIDR given")
	}
	var err error
	a.portRange, err = newPortRange(nodePorts)
	return a, err
}

// FirstAddress is the address of the Service default/kubernetes: the lowest of the default family's configured range.
func (a *Allocators) FirstAddress() netip.Addr { return a.first }

// has tells whether Services can have addresses of that family.
func (a *Allocators) has(family api.IPFamily) bool { return slices.Contains(a.families, family) }

// SetRanges says what addresses are taken from from now on. What is in use stays in use, inside the ranges or not. A range that
// is given twice is ready if one of the two is.
func (a *Allocators) SetRanges(ranges []Range) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.ranges
	a.ranges = nil
	for _, want := range ranges {
		same := func(r *addressRange) bool { return r.prefix == want.Prefix.Masked() }
		if i := slices.IndexFunc(a.ranges, same); i >= 0 {
			a.ranges[i].ready = a.ranges[i].ready || want.Ready
			continue
		}
		var r *addressRange
		if i := slices.IndexFunc(before, same); i >= 0 {
			r = before[i]
		} else {
			var err error
			if r, err = newAddressRange(want.Prefix); err != nil {
				a.ranges = before
				return err
			}
			for addr := range a.addresses.holdings {
				if n, ok := r.number(addr); ok {
					r.used.add(n)
				}
			}
		}
		r.ready = want.Ready
		a.ranges = append(a.ranges, r)
	}
	return nil
}

func (a *Allocators) markAddress(addr netip.Addr, used bool) {
	if addr == a.observed {
		a.observed = netip.Addr{}
	}
	for _, r := range a.ranges {
		if n, ok := r.number(addr); ok && used {
			r.used.add(n)
		} else if ok {
			r.used.remove(n)
		}
	}
	if !used {
		select {
		case a.freed <- struct{}{}:
		default:
		}
	}
}

func (a *Allocators) markPort(port int32, used bool) {
	if n, ok := a.portRange.number(port); ok && used {
		a.portRange.used.add(n)
	} else if ok {
		a.portRange.used.remove(n)
	}
}

// takeable says why an address cannot be claimed, in upstream's words, or nil. The lock is held.
func (a *Allocators) takeable(addr netip.Addr) error {
	// Upstream counts neither the network's own address nor the broadcast address as inside.
	inside := slices.ContainsFunc(a.ranges, func(r *addressRange) bool {
		_, ok := r.number(addr)
		return ok && r.ready
	})
	_, held := a.addresses.holdings[addr]
	switch {
	case !inside:
		return ipallocator.ErrMismatchedNetwork
	case held:
		return ipallocator.ErrAllocated
	}
	return nil
}

// portTakeable is the same for a node port. The lock is held.
func (a *Allocators) portTakeable(port int32) error {
	if _, ok := a.portRange.number(port); !ok {
		return &portallocator.ErrNotInRange{ValidPorts: a.portRange.PortRange.String()}
	}
	if _, held := a.ports.holdings[port]; held {
		return portallocator.ErrAllocated
	}
	return nil
}

// trouble is something that a stored Service holds although it should not.
type trouble struct {
	service      *api.Service
	reason, note string // as upstream's events have them
}

func (t trouble) String() string {
	return fmt.Sprintf("service %s/%s: %s", t.service.Namespace, t.service.Name, t.note)
}

// adopt marks what a stored Service holds as used. What another Service holds too stays that one's. It returns what is wrong with
// what the Service holds; it keeps working, but the trouble should be known.
func (a *Allocators) adopt(svc *api.Service) (troubles []trouble) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := holderOf(svc)
	wrong := func(reason, format string, args ...any) {
		troubles = append(troubles, trouble{svc, reason, fmt.Sprintf(format, args...)})
	}
	for _, addr := range heldAddresses(svc) {
		if !a.addresses.adopt(addr, h) {
			wrong("ClusterIPAlreadyAllocated", "Cluster IP [%v]:%s was assigned to multiple services; please recreate service", familyOf(addr), addr)
		}
		if !a.inRange(addr) {
			wrong("ClusterIPOutOfRange", "Cluster IP [%v]: %s is not within any configured Service CIDR; please recreate service", familyOf(addr), addr)
		}
	}
	for _, port := range heldPorts(svc) {
		if !a.ports.adopt(port, h) {
			wrong("PortAlreadyAllocated", "Port %d was assigned to multiple services; please recreate service", port)
		}
		if _, ok := a.portRange.number(port); !ok {
			wrong("PortOutOfRange", "Port %d is not within the port range %s; please recreate service", port, a.portRange.PortRange.String())
		}
	}
	return troubles
}

// inRange tells whether an address is in a range, ready or not. The lock is held.
func (a *Allocators) inRange(addr netip.Addr) bool {
	return slices.ContainsFunc(a.ranges, func(r *addressRange) bool {
		_, ok := r.number(addr)
		return ok
	})
}

// release frees all that a Service holds. It is for a Service that is gone from the store.
func (a *Allocators) release(svc *api.Service) {
	a.free(svc.UID, heldAddresses(svc), heldPorts(svc))
}

// free ends the use by one Service.
func (a *Allocators) free(owner types.UID, addresses []netip.Addr, ports []int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, addr := range addresses {
		a.addresses.free(addr, owner)
	}
	for _, port := range ports {
		a.ports.free(port, owner)
	}
}

// settle ends the time in which a repair leaves these alone because their write was under way.
func (a *Allocators) settle(owner types.UID, addresses []netip.Addr, ports []int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, addr := range addresses {
		a.addresses.settle(addr, owner)
	}
	for _, port := range ports {
		a.ports.settle(port, owner)
	}
}

// holdAddress gives an address to a holder if it is free, and returns who holds it now.
func (a *Allocators) holdAddress(addr netip.Addr, h holder, pending bool) holding {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.addresses.hold(addr, h, pending)
	return a.addresses.holdings[addr]
}

// holderOfAddress returns who holds an address.
func (a *Allocators) holderOfAddress(addr netip.Addr) (h holding, held bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h, held = a.addresses.holdings[addr]
	return h, held
}

// observe is holderOfAddress for one observer, who may use holdObserved afterwards.
func (a *Allocators) observe(addr netip.Addr) (h holding, held bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.observed = addr
	h, held = a.addresses.holdings[addr]
	return h, held
}

// holdObserved gives an address that was free to its object, and reports whether it did: not if anything has happened to it since observe.
func (a *Allocators) holdObserved(addr netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.observed == addr && a.addresses.hold(addr, byObject, false)
}

// forget ends the use of an address by its object, which is gone.
func (a *Allocators) forget(addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.addresses.free(addr, byObject.uid) && a.observed == addr {
		a.observed = netip.Addr{}
	}
}

// servicesWithin tells whether a Service holds an address of these prefixes that none of the others has too.
func (a *Allocators) servicesWithin(prefixes, others []netip.Prefix) bool {
	within := func(prefixes []netip.Prefix, addr netip.Addr) bool {
		return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool {
			r, err := newAddressRange(p)
			if err != nil {
				return false
			}
			_, ok := r.number(addr)
			return ok
		})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for addr, h := range a.addresses.holdings {
		if h.service.Name != "" && within(prefixes, addr) && !within(others, addr) {
			return true
		}
	}
	return false
}

func holderOf(svc *api.Service) holder {
	return holder{svc.UID, types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}}
}

// heldAddresses are the cluster IPs that belong to a stored Service.
func heldAddresses(svc *api.Service) []netip.Addr {
	if svc == nil || svc.Spec.Type == api.ServiceTypeExternalName {
		return nil
	}
	ips := svc.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{svc.Spec.ClusterIP}
	}
	var addresses []netip.Addr
	for _, ip := range ips {
		if addr, err := netip.ParseAddr(ip); err == nil { // else "None" or not yet known
			addresses = append(addresses, addr.Unmap())
		}
	}
	return addresses
}

// heldPorts are the node ports that belong to a stored Service, each once.
func heldPorts(svc *api.Service) []int32 {
	if svc == nil || !usesNodePorts(svc) {
		return nil
	}
	var ports []int32
	for i := range svc.Spec.Ports {
		ports = append(ports, svc.Spec.Ports[i].NodePort)
	}
	if apiservice.NeedsHealthCheck(svc) {
		ports = append(ports, svc.Spec.HealthCheckNodePort)
	}
	slices.Sort(ports)
	ports = slices.Compact(ports)
	return slices.DeleteFunc(ports, func(port int32) bool { return port == 0 })
}

func familyOf(addr netip.Addr) api.IPFamily {
	if addr.Unmap().Is4() {
		return api.IPv4Protocol
	}
	return api.IPv6Protocol
}

func usesNodePorts(svc *api.Service) bool {
	return svc.Spec.Type == api.ServiceTypeNodePort || svc.Spec.Type == api.ServiceTypeLoadBalancer
}

func isHeadless(svc *api.Service) bool {
	return svc.Spec.ClusterIP == api.ClusterIPNone || len(svc.Spec.ClusterIPs) > 0 && svc.Spec.ClusterIPs[0] == api.ClusterIPNone
}
