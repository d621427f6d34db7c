package network

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// ErrNoAddress says that all addresses of a Pod CIDR are taken.
var ErrNoAddress = errors.New("all Pod addresses are in use")

// Allocator hands out the Pod addresses of one node. An address that was given back is used again only after all others
// have been, so that what still travels to a dead Pod does not reach a new one. Safe for concurrent use.
type Allocator struct {
	mu    sync.Mutex
	pools []*pool
}

type pool struct {
	prefix netip.Prefix
	last   netip.Addr // handed out last
	used   map[netip.Addr]bool
}

// NewAllocator returns an allocator over the CIDRs in which the network's and the node's address, and the last address of an IPv4 CIDR,
// are never handed out.
func NewAllocator(cidrs []netip.Prefix) *Allocator {
	a := &Allocator{}
	for _, c := range cidrs {
		c = c.Masked()
		a.pools = append(a.pools, &pool{prefix: c, last: c.Addr().Next(), used: map[netip.Addr]bool{}})
	}
	return a
}

// Allocate returns one address of each CIDR, in their order, or none and an error that is ErrNoAddress.
func (a *Allocator) Allocate() ([]netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var addresses []netip.Addr
	for _, p := range a.pools {
		address, err := p.allocate()
		if err != nil {
			a.release(addresses)
			return nil, err
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}

// Reserve marks addresses as taken: those of Pods that were here before the process was.
func (a *Allocator) Reserve(addresses []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, address := range addresses {
		for _, p := range a.pools {
			if p.prefix.Contains(address) {
				p.used[address] = true
				if p.last.Less(address) {
					p.last = address
				}
			}
		}
	}
}

// Release gives addresses back.
func (a *Allocator) Release(addresses []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.release(addresses)
}

func (a *Allocator) release(addresses []netip.Addr) {
	for _, address := range addresses {
		for _, p := range a.pools {
			delete(p.used, address)
		}
	}
}

func (p *pool) allocate() (netip.Addr, error) {
	for address := p.after(p.last); ; address = p.after(address) {
		if !p.used[address] {
			p.used[address] = true
			p.last = address
			return address, nil
		}
		if address == p.last {
			return netip.Addr{}, fmt.Errorf("pod CIDR %s: %w", p.prefix, ErrNoAddress)
		}
	}
}

// after returns the Pod address behind address, and the first one behind the last.
func (p *pool) after(address netip.Addr) netip.Addr {
	next := address.Next()
	if !p.prefix.Contains(next) || next.Is4() && !p.prefix.Contains(next.Next()) {
		return p.prefix.Addr().Next().Next()
	}
	return next
}
