package zone

import "net/netip"

// NamespaceOf gives the namespace of the Pod that has an address, as far as it is an endpoint of Services of one namespace; else "".
func (z *Zone) NamespaceOf(a netip.Addr) string {
	owners, _ := z.addrs.get(a.AsSlice())
	space := ""
	for _, o := range owners {
		s := o.set.Load()
		if _, is := s.byAddr(a); !is {
			continue
		}
		key := s.key() // the labels of name and namespace
		own := string(key[2+int(key[0]):])
		if space != "" && own != space {
			return ""
		}
		space = own
	}
	return space
}
