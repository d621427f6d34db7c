package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ensureMasquerade writes, in one transaction, the table that lets Pods talk to the outside under the machine's address. What stays
// between Pods, Services and the machine keeps its source.
func ensureMasquerade(c Config) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables table %s: connect: %w", table(c.Instance), err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: table(c.Instance)}
	conn.AddTable(t) // so that deleting it never fails
	conn.DelTable(t)
	conn.AddTable(t)
	chain := conn.AddChain(&nftables.Chain{
		Name: "outside", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	rule := func(exprs ...[]expr.Any) {
		r := &nftables.Rule{Table: t, Chain: chain}
		for _, e := range exprs {
			r.Exprs = append(r.Exprs, e...)
		}
		conn.AddRule(r)
	}
	leave := []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}
	rule(outputDevice(Device(c.Instance)+"\x00"), leave)
	rule(outputDevice(LinkPrefix(c.Instance)), leave)
	for _, pods := range c.PodCIDRs {
		for _, inside := range append(append([]netip.Prefix{}, c.PodCIDRs...), c.ServiceCIDRs...) {
			if inside.Addr().Is4() == pods.Addr().Is4() {
				rule(address(pods, source), address(inside, destination), leave)
			}
		}
		rule(address(pods, source), []expr.Any{&expr.Counter{}, &expr.Masq{}})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables table %s: write: %w", table(c.Instance), err)
	}
	return nil
}

func removeMasquerade(instance string) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables table %s: connect: %w", table(instance), err)
	}
	conn.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: table(instance)})
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("nftables table %s: remove: %w", table(instance), err)
	}
	return nil
}

// outputDevice matches devices whose name begins with prefix; one that ends in a zero byte is a whole name.
func outputDevice(prefix string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(prefix)},
	}
}

type side bool

const (
	source      side = false
	destination side = true
)

// address matches packets whose source or destination is in the prefix.
func address(p netip.Prefix, s side) []expr.Any {
	family, length, offset := byte(unix.NFPROTO_IPV4), uint32(4), uint32(12)
	if p.Addr().Is6() {
		family, length, offset = unix.NFPROTO_IPV6, 16, 8
	}
	if s == destination {
		offset += length
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: ipNet(p).Mask, Xor: make([]byte, length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}
