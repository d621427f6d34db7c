package zone

import (
	"net/netip"

	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/model"
)

// VerifiesPods tells whether the Pods that are put count.
func (z *Zone) VerifiesPods() bool { return z.cfg.Pods == PodsVerified }

// PutPod adds a Pod or replaces it. It counts for PodsVerified only.
func (z *Zone) PutPod(p *model.Pod) {
	if !isLabel(p.Name.Namespace) {
		return
	}
	old := z.podAddrs[p.Name]
	for _, a := range p.Addresses { // first, so that an address that stays never goes
		z.changePod(p.Name.Namespace, a, 1)
	}
	for _, a := range old {
		z.changePod(p.Name.Namespace, a, -1)
	}
	z.podAddrs[p.Name] = p.Addresses
}

// DeletePod takes a Pod away. Deleting an absent one is fine.
func (z *Zone) DeletePod(n model.Name) {
	for _, a := range z.podAddrs[n] {
		z.changePod(n.Namespace, a, -1)
	}
	delete(z.podAddrs, n)
}

// Pods yields the Pods that were put. It is for the writer, who may delete meanwhile.
func (z *Zone) Pods() func(yield func(model.Name) bool) {
	return func(yield func(model.Name) bool) {
		for n := range z.podAddrs {
			if !yield(n) {
				return
			}
		}
	}
}

func (z *Zone) changePod(namespace string, a netip.Addr, by int) {
	key := podKey(make([]byte, 0, 80), wire.AppendLabel(nil, namespace), a)
	n, _ := z.pods.get(key)
	if n += by; n > 0 {
		z.pods.put(string(key), n)
	} else {
		z.pods.delete(string(key))
	}
}

// podKey appends what a Pod's address is found by; namespace is a label in lower case, with its length.
func podKey(b, namespace []byte, a netip.Addr) []byte {
	addr := a.As16()
	return append(append(b, namespace...), addr[:]...)
}

func (z *Zone) findPod(name []byte, labels []uint8, n int) node {
	switch {
	case n == 1:
		return node{kind: empty}
	case z.cfg.Pods == PodsDisabled || n > 3:
		return node{}
	}
	space := z.findNamespace(name, labels)
	if n == 2 || space.kind == nothing {
		return space
	}
	a, ok := parseLabel(label(name, labels, 0))
	if !ok {
		return node{}
	}
	if z.cfg.Pods == PodsVerified {
		var buf [80]byte
		if _, there := z.pods.get(podKey(buf[:0], name[labels[1]:labels[2]], a)); !there {
			return node{}
		}
	}
	return node{kind: pod, addr: a}
}
