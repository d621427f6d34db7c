package proxy

import (
	"net/netip"
	"slices"

	"fairway.dev/fairway/internal/ingress/policy"
)

// admitsClient compares the client's address with the route's lists. The address is the peer's, unless a trusted proxy names another.
func (p *passage) admitsClient() bool {
	o := p.policy
	if o.Deny == nil && o.Allow == nil {
		return true
	}
	if !p.client.IsValid() || contains(o.Deny, p.client) {
		return false
	}
	return o.Allow == nil || contains(o.Allow, p.client)
}

func restrictsClients(o *policy.Policy) bool { return o.Allow != nil || o.Deny != nil }

func contains(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}
