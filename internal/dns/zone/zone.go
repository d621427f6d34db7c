package zone

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync/atomic"

	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/model"
)

// PodNames says what is answered for names such as 10-240-0-1.default.pod.cluster.local.
type PodNames uint8

const (
	// PodsInsecure answers with the address that the name spells, whether or not such a Pod exists, in every
	// namespace that exists.
	PodsInsecure PodNames = iota
	// PodsDisabled answers that there are no such names.
	PodsDisabled
	// PodsVerified answers if a Pod of the namespace has the address: those given to PutPod.
	PodsVerified
)

// Config is what a zone is made with.
type Config struct {
	// Domain is the cluster domain; "" is cluster.local.
	Domain string
	// TTL of every record, in seconds, and of negative answers.
	TTL uint32
	// Service is the cluster's DNS Service, which the NS record names; its zero value makes that ns.dns.<domain>.
	Service model.Name
	Pods    PodNames
	// Ranges are the cluster's addresses, of Services and of Pods, as far as they are known from the start: what has no name there does not
	// exist. Of other addresses only those that have a name are answered for, and the rest is somebody else's. SetRanges adds to them.
	Ranges []netip.Prefix
}

// Zone is the cluster's names. Use New.
type Zone struct {
	cfg    Config
	origin []byte // Domain in wire form
	depth  int    // labels of origin
	// serverKey is what the DNS Service is found by; empty if none was named.
	serverKey []byte

	serial atomic.Uint32
	synced atomic.Bool
	limit  atomic.Uint32                  // of the TTL, in seconds
	ranges atomic.Pointer[[]netip.Prefix] // of Config and SetRanges

	services   index[*service]         // by the labels of name and namespace
	nameless   index[bool]             // by the same: Services without a name; true if one is withheld
	namespaces index[*namespace]       // by the namespace's label
	addrs      index[[]*service]       // by an address's bytes: the Services that have a name for it
	pods       index[int]              // by the namespace's label and an address: how many Pods have it
	names      map[model.Name]*service // the writer's
	without    map[model.Name]struct{} // the writer's: those in nameless
	podAddrs   map[model.Name][]netip.Addr
}

// service is the place of one Service, which stays while its records change.
type service struct {
	set atomic.Pointer[set]
}

// namespace exists as long as it has a row or a Service. Readers only ask whether it is there; the fields are the writer's.
type namespace struct {
	row      bool
	services int
}

// New gives an empty zone, not synced. It fails if the domain is no name or leaves no room for names below it.
func New(cfg Config) (*Zone, error) {
	if cfg.Domain == "" {
		cfg.Domain = "cluster.local"
	}
	origin, err := wire.EncodeName(nil, cfg.Domain)
	if err != nil {
		return nil, fmt.Errorf("dns zone: %w", err)
	}
	// The longest name is label.service.namespace.svc.<origin>.
	if len(origin) == 1 || 3*64+4+len(origin) > wire.MaxName {
		return nil, fmt.Errorf("dns zone %q: want between 1 and %d bytes", cfg.Domain, wire.MaxName-3*64-4-2)
	}
	z := &Zone{
		cfg: cfg, origin: origin, names: map[model.Name]*service{}, without: map[model.Name]struct{}{}, podAddrs: map[model.Name][]netip.Addr{},
	}
	for i := 0; origin[i] != 0; i += 1 + int(origin[i]) {
		z.depth++
	}
	if cfg.Service.Name != "" {
		z.serverKey = wire.AppendLabel(wire.AppendLabel(nil, cfg.Service.Name), cfg.Service.Namespace)
	}
	z.services.init()
	z.nameless.init()
	z.pods.init()
	z.namespaces.init()
	z.addrs.init()
	z.limit.Store(cfg.TTL)
	z.SetRanges(nil)
	return z, nil
}

// SetSynced says whether everything that exists has been put: until then a name that is not found may exist, and the
// answer is SERVFAIL.
func (z *Zone) SetSynced(synced bool) { z.synced.Store(synced) }

// Synced tells what SetSynced has said.
func (z *Zone) Synced() bool { return z.synced.Load() }

// LimitTTL caps, in seconds, the TTL of all answers but the addresses of a Service's own name, which have that of PutService or PutServiceTTL.
func (z *Zone) LimitTTL(ttl uint32) { z.limit.Store(min(ttl, z.cfg.TTL)) }

// UnlimitTTL ends what LimitTTL has begun.
func (z *Zone) UnlimitTTL() { z.limit.Store(z.cfg.TTL) }

// ttl is that of what is composed at the time of the question.
func (z *Zone) ttl() uint32 { return z.limit.Load() }

// Touch says when the zone last changed, in Unix seconds: the SOA record's serial.
func (z *Zone) Touch(unix uint32) { z.serial.Store(unix) }

// Len is the number of Services that have names. It is for the writer.
func (z *Zone) Len() int { return len(z.names) }

// Addresses is the number of addresses that have names. It is for the writer.
func (z *Zone) Addresses() int { return z.addrs.n }

// HasAddress tells whether an address has a name. It is for the writer.
func (z *Zone) HasAddress(a netip.Addr) bool {
	_, has := z.addrs.get(a.AsSlice())
	return has
}

// Names yields the Services that were put, in no order. It is for the writer, who may delete meanwhile.
func (z *Zone) Names() iter.Seq[model.Name] {
	return func(yield func(model.Name) bool) {
		for n := range z.names {
			if !yield(n) {
				return
			}
		}
		for n := range z.without {
			if !yield(n) {
				return
			}
		}
	}
}

// ClusterIPs gives the addresses under which a Service is answered now. It is for the writer.
func (z *Zone) ClusterIPs(n model.Name) []netip.Addr {
	if s := z.names[n]; s != nil {
		return s.set.Load().cluster
	}
	return nil
}

// PutService adds a Service or replaces it, with all of its slices. One that can have no name (no cluster address and not headless, or an
// external name that is an address) is known not to have one.
func (z *Zone) PutService(svc *model.Service, endpointSlices iter.Seq[*model.EndpointSlice]) {
	z.put(svc, endpointSlices, z.cfg.TTL, false)
}

// PutPart is PutService for what may be answered of a Service now, while the rest is withheld and comes in a moment: who asks for that had
// better wait (Pending).
func (z *Zone) PutPart(part *model.Service, endpointSlices iter.Seq[*model.EndpointSlice]) {
	z.put(part, endpointSlices, z.cfg.TTL, true)
}

// PutServiceTTL is PutService with another TTL for the Service's addresses, in seconds, if that is lower than the zone's.
func (z *Zone) PutServiceTTL(svc *model.Service, endpointSlices iter.Seq[*model.EndpointSlice], ttl uint32) {
	z.put(svc, endpointSlices, min(ttl, z.cfg.TTL), false)
}

func (z *Zone) put(svc *model.Service, endpointSlices iter.Seq[*model.EndpointSlice], ttl uint32, withheld bool) {
	fresh := pack(svc, endpointSlices, ttl)
	if fresh == nil {
		z.DeleteService(svc.Name)
		if key := serviceKey(svc.Name); key != "" {
			z.nameless.put(key, withheld)
			z.without[svc.Name] = struct{}{}
		}
		return
	}
	fresh.withheld = withheld
	s := z.names[svc.Name]
	if s == nil {
		s = &service{}
		s.set.Store(fresh)
		z.names[svc.Name] = s
		z.changeNamespace(svc.Name.Namespace, func(n *namespace) { n.services++ })
		z.services.put(string(fresh.key()), s)
		z.moveAddrs(s, &set{}, fresh)
		z.forget(svc.Name) // only now: who asks meanwhile finds one or the other
		return
	}
	old := s.set.Load()
	fresh.v4.turn.Store(old.v4.turn.Load()) // an update must not start the rotation anew
	fresh.v6.turn.Store(old.v6.turn.Load())
	fresh.turn.Store(old.turn.Load())
	s.set.Store(fresh)
	z.moveAddrs(s, old, fresh)
}

// DeleteService takes a Service and all names under it away. Deleting an absent one is fine.
func (z *Zone) DeleteService(n model.Name) {
	z.forget(n)
	s := z.names[n]
	if s == nil {
		return
	}
	old := s.set.Load()
	z.services.delete(string(old.key()))
	z.moveAddrs(s, old, &set{})
	delete(z.names, n)
	z.changeNamespace(n.Namespace, func(n *namespace) { n.services-- })
}

// forget ends a Service's being known without a name.
func (z *Zone) forget(n model.Name) {
	if _, known := z.without[n]; known {
		delete(z.without, n)
		z.nameless.delete(serviceKey(n))
	}
}

// serviceKey is what a Service is found by, or "" if it cannot be asked for.
func serviceKey(n model.Name) string {
	if !isLabel(n.Name) || !isLabel(n.Namespace) {
		return ""
	}
	return string(wire.AppendLabel(wire.AppendLabel(nil, n.Name), n.Namespace))
}

// PutNamespace says that a namespace exists: then it is an empty name rather than none.
func (z *Zone) PutNamespace(name string) {
	z.changeNamespace(name, func(n *namespace) { n.row = true })
}

// DeleteNamespace takes the namespace's row away; the name stays as long as a Service is in it.
func (z *Zone) DeleteNamespace(name string) {
	z.changeNamespace(name, func(n *namespace) { n.row = false })
}

// Namespaces gives the namespaces that were put, in no order. It is for the writer.
func (z *Zone) Namespaces() []string {
	var out []string
	z.namespaces.each(func(key string, n *namespace) {
		if n.row {
			out = append(out, key[1:])
		}
	})
	return out
}

// HasNamespace tells whether a namespace exists, given as a label in lower case with its length.
func (z *Zone) HasNamespace(label []byte) bool {
	_, exists := z.namespaces.get(label)
	return exists
}

func (z *Zone) changeNamespace(name string, change func(*namespace)) {
	if len(name) == 0 || len(name) > 63 {
		return
	}
	key := wire.AppendLabel(nil, name)
	n, had := z.namespaces.get(key)
	if !had {
		n = &namespace{}
	}
	change(n)
	switch exists := n.row || n.services > 0; {
	case exists && !had:
		z.namespaces.put(string(key), n)
	case !exists && had:
		z.namespaces.delete(string(key))
	}
}

// moveAddrs brings the reverse index from one set of a Service to the next.
func (z *Zone) moveAddrs(s *service, old, fresh *set) {
	for a := range fresh.addrs() {
		if !old.has(a) {
			z.changeAddr(a, func(list []*service) []*service {
				if slices.Contains(list, s) {
					return list
				}
				return append(slices.Clip(list), s)
			})
		}
	}
	for a := range old.addrs() {
		if !fresh.has(a) {
			z.changeAddr(a, func(list []*service) []*service {
				return slices.DeleteFunc(slices.Clone(list), func(o *service) bool { return o == s })
			})
		}
	}
}

func (z *Zone) changeAddr(a netip.Addr, change func([]*service) []*service) {
	list, had := z.addrs.get(a.AsSlice())
	switch next := change(list); {
	case len(next) > 0:
		z.addrs.put(string(a.AsSlice()), next)
	case had:
		z.addrs.delete(string(a.AsSlice()))
	}
}

// Domain is the zone's name with dots and a final one.
func (z *Zone) Domain() string { return wire.NameString(z.origin) }
