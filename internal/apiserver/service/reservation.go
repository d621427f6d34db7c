package service

import (
	"fmt"
	"net/netip"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiservice "k8s.io/kubernetes/pkg/api/service"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	"k8s.io/kubernetes/pkg/registry/core/service/portallocator"
)

// reservation is what one create or update has taken and will give up. It ends with keep or undo.
type reservation struct {
	allocators *Allocators
	dryRun     bool
	service    string // for errors
	holder     holder

	takenAddresses []netip.Addr
	takenPorts     []int32
	// What the Service had before. The write may end that.
	hadAddresses []netip.Addr
	hadPorts     []int32
	// dryTaken are the node ports a dry run has picked: no two of one Service may be equal.
	dryTaken map[uint64]bool
}

// reserve takes whatever svc needs and old (nil for a create) does not already hold, and writes the picks into svc. The
// families of svc must be settled (see settleFamilies). If it fails, nothing is taken.
func (a *Allocators) reserve(svc, old *api.Service, dryRun bool) (*reservation, error) {
	r := &reservation{allocators: a, dryRun: dryRun, service: svc.Name, holder: holderOf(svc)}
	if old != nil {
		r.holder = holderOf(old) // what the client says may be wrong
	}
	for _, step := range []func(svc, old *api.Service) error{r.reserveAddresses, r.reserveNodePorts, r.reserveHealthCheckPort} {
		if err := step(svc, old); err != nil {
			r.undo()
			return nil, err
		}
	}
	r.hadAddresses, r.hadPorts = heldAddresses(old), heldPorts(old)
	return r, nil
}

// keep ends a reservation whose write is stored: whatever the stored Service does not hold, of what it had and of what was taken
// for it, is free now. That is known only from what is stored, because fields that have no meaning for the Service's type are
// wiped after the reservation.
func (r *reservation) keep(stored *api.Service) {
	if r.dryRun {
		return
	}
	addresses, ports := heldAddresses(stored), heldPorts(stored)
	given := func(addr netip.Addr) bool { return slices.Contains(addresses, addr) }
	givenPort := func(port int32) bool { return slices.Contains(ports, port) }
	r.allocators.settle(r.holder.uid, addresses, ports)
	r.allocators.free(r.holder.uid, slices.DeleteFunc(slices.Concat(r.hadAddresses, r.takenAddresses), given), slices.DeleteFunc(slices.Concat(r.hadPorts, r.takenPorts), givenPort))
}

// undo ends a reservation whose write is certainly not stored.
func (r *reservation) undo() {
	if !r.dryRun {
		r.allocators.free(r.holder.uid, r.takenAddresses, r.takenPorts)
	}
}

// leave ends a reservation whose write may be stored or not: everything stays taken until a repair has told.
func (r *reservation) leave() {
	if !r.dryRun {
		r.allocators.settle(r.holder.uid, r.takenAddresses, r.takenPorts)
	}
}

// reserveAddresses fills spec.clusterIPs with one address per family. An update that keeps the kind of the Service can only
// gain a second address; every other change of them is left to validation, which refuses it.
func (r *reservation) reserveAddresses(svc, old *api.Service) error {
	if svc.Spec.Type == api.ServiceTypeExternalName || isHeadless(svc) {
		return nil
	}
	first := 0
	if old != nil && old.Spec.Type != api.ServiceTypeExternalName {
		if isHeadless(old) || len(old.Spec.IPFamilies) != 1 || len(svc.Spec.IPFamilies) != 2 {
			return nil
		}
		first = 1
	}
	// Not in place: an update may share this slice with the stored object.
	ips := make([]string, max(len(svc.Spec.ClusterIPs), len(svc.Spec.IPFamilies)))
	copy(ips, svc.Spec.ClusterIPs)
	asked := slices.Clone(ips) // for errors: upstream names what was not given, too
	for i := first; i < len(svc.Spec.IPFamilies); i++ {
		if ips[i] == "" {
			addr, err := r.takeAddress(svc.Spec.IPFamilies[i])
			if err != nil {
				return apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP for Service %q: %w", r.service, err))
			}
			ips[i] = addr.String()
			continue
		}
		addr, err := netip.ParseAddr(ips[i])
		if err == nil {
			err = r.claimAddress(addr.Unmap())
		}
		if err != nil {
			return r.invalid(field.NewPath("spec", "clusterIPs"), asked, fmt.Errorf("failed to allocate IP %v: %w", ips[i], err))
		}
	}
	if len(ips) > 0 {
		svc.Spec.ClusterIPs, svc.Spec.ClusterIP = ips, ips[0]
	}
	return nil
}

// reserveNodePorts claims the node ports that the manifest asks for and picks the missing ones.
func (r *reservation) reserveNodePorts(svc, old *api.Service) error {
	switch {
	case !usesNodePorts(svc):
		return nil
	case old == nil:
		return r.reserveSharedNodePorts(svc)
	}
	held := heldPorts(old)
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		switch {
		case p.NodePort == 0 && wantsNodePorts(svc):
			if err := r.pickNodePort(p); err != nil {
				return err
			}
		case p.NodePort != 0 && !slices.Contains(held, p.NodePort):
			if err := r.claimNodePort(i, p.NodePort); err != nil {
				return err
			}
			held = append(held, p.NodePort)
		}
	}
	return nil
}

// reserveSharedNodePorts is for a new Service: its ports of one number (53/UDP and 53/TCP) get one node port between them, a
// picked one or the first that the manifest names, and no others may have the same.
func (r *reservation) reserveSharedNodePorts(svc *api.Service) error {
	shared := make(map[int32]int32) // port → node port
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.NodePort == 0 && !wantsNodePorts(svc) {
			continue
		}
		have, ok := shared[p.Port]
		if !ok {
			p.NodePort = namedNodePort(svc, p.Port)
		}
		switch {
		case ok && (p.NodePort == 0 || p.NodePort == have):
			p.NodePort = have
			continue
		case p.NodePort == 0:
			if err := r.pickNodePort(p); err != nil {
				return err
			}
		default:
			if err := r.claimNodePort(i, p.NodePort); err != nil {
				return err
			}
		}
		if !ok {
			shared[p.Port] = p.NodePort
		}
	}
	return nil
}

// namedNodePort is the first node port that the manifest names for ports of that number, 0 if none.
func namedNodePort(svc *api.Service, port int32) int32 {
	for _, p := range svc.Spec.Ports {
		if p.Port == port && p.NodePort != 0 {
			return p.NodePort
		}
	}
	return 0
}

func (r *reservation) pickNodePort(p *api.ServicePort) error {
	port, err := r.takePort()
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
	}
	p.NodePort = port
	return nil
}

func (r *reservation) claimNodePort(i int, nodePort int32) error {
	if err := r.claimPort(nodePort); err != nil {
		return r.invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), nodePort, err)
	}
	return nil
}

// reserveHealthCheckPort is for load balancers with external traffic policy Local; it comes from the range of the node ports.
func (r *reservation) reserveHealthCheckPort(svc, old *api.Service) error {
	if !apiservice.NeedsHealthCheck(svc) {
		return nil
	}
	if old != nil && apiservice.NeedsHealthCheck(old) && old.Spec.HealthCheckNodePort == svc.Spec.HealthCheckNodePort && svc.Spec.HealthCheckNodePort != 0 {
		return nil
	}
	if port := svc.Spec.HealthCheckNodePort; port != 0 {
		if err := r.claimPort(port); err != nil { // upstream calls it an internal error, but it is the client who has to change something
			return r.invalid(field.NewPath("spec", "healthCheckNodePort"), port, err)
		}
		return nil
	}
	port, err := r.takePort()
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate a HealthCheck NodePort %v: %w", port, err))
	}
	svc.Spec.HealthCheckNodePort = port
	return nil
}

func (r *reservation) invalid(at *field.Path, value any, err error) error {
	return apierrors.NewInvalid(api.Kind("Service"), r.service, field.ErrorList{field.Invalid(at, value, err.Error())})
}

func (r *reservation) takeAddress(family api.IPFamily) (netip.Addr, error) {
	r.allocators.mu.Lock()
	defer r.allocators.mu.Unlock()
	for _, pool := range r.allocators.ranges {
		if !pool.ready || pool.family() != family {
			continue
		}
		if n, ok := pool.find(nil); ok {
			addr := pool.address(n)
			r.holdAddress(addr)
			return addr, nil
		}
	}
	return netip.Addr{}, ipallocator.ErrFull
}

func (r *reservation) claimAddress(addr netip.Addr) error {
	r.allocators.mu.Lock()
	defer r.allocators.mu.Unlock()
	if err := r.allocators.takeable(addr); err != nil {
		return err
	}
	r.holdAddress(addr)
	return nil
}

func (r *reservation) holdAddress(addr netip.Addr) {
	if !r.dryRun {
		r.allocators.addresses.hold(addr, r.holder, true)
	}
	r.takenAddresses = append(r.takenAddresses, addr)
}

func (r *reservation) takePort() (int32, error) {
	r.allocators.mu.Lock()
	defer r.allocators.mu.Unlock()
	pool := r.allocators.portRange
	n, ok := pool.find(r.dryTaken)
	if !ok {
		return 0, portallocator.ErrFull
	}
	r.holdPort(pool.port(n))
	return pool.port(n), nil
}

func (r *reservation) claimPort(port int32) error {
	r.allocators.mu.Lock()
	defer r.allocators.mu.Unlock()
	if err := r.allocators.portTakeable(port); err != nil {
		return err
	}
	if n, _ := r.allocators.portRange.number(port); r.dryTaken[n] {
		return portallocator.ErrAllocated
	}
	r.holdPort(port)
	return nil
}

// holdPort takes a port that is free; a dry run only remembers it.
func (r *reservation) holdPort(port int32) {
	if !r.dryRun {
		r.allocators.ports.hold(port, r.holder, true)
	} else if n, ok := r.allocators.portRange.number(port); ok {
		if r.dryTaken == nil {
			r.dryTaken = make(map[uint64]bool)
		}
		r.dryTaken[n] = true
	}
	r.takenPorts = append(r.takenPorts, port)
}

// wantsNodePorts tells whether missing node ports are to be picked.
func wantsNodePorts(svc *api.Service) bool {
	allocate := svc.Spec.AllocateLoadBalancerNodePorts
	return svc.Spec.Type == api.ServiceTypeNodePort ||
		svc.Spec.Type == api.ServiceTypeLoadBalancer && (allocate == nil || *allocate)
}
