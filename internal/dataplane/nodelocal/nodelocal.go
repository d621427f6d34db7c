// Package nodelocal lets a node answer at an address of the cluster's, such as that of its DNS Service, by itself and without conntrack.
//
// Contract. Setup makes each address one of the node's own, on a device for nothing else, and exempts one port of it from connection tracking, by a
// table of its own in nftables; who listens there then gets what Pods and programs of this node send to it. The kernel's NAT sees tracked packets only, so
// rules for the same address, the Service's own among them, are passed by. Setup and Cleanup may be repeated. Both work in the
// network namespace of the calling thread. After Cleanup the Service's rules count again.
//
// To debug: ip address show dev TABLE-dns; nft list table inet TABLE-dns; conntrack -L -d ADDRESS shows nothing.
package nodelocal

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Setup puts the addresses and the port in force in place of what an earlier Setup of the same table did.
func Setup(table string, addrs []netip.Addr, port uint16) error {
	if err := writeTable(table, addrs, port); err != nil { // first, so that no packet is tracked in between
		return err
	}
	device := Device(table)
	// A bridge without ports is a device that every kernel with bridges has and that never sends a packet anywhere.
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: device}}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("device %s: create: %w", device, err)
	}
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("device %s: find: %w", device, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("device %s: set up: %w", device, err)
	}
	have, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("device %s: list addresses: %w", device, err)
	}
	for _, h := range have {
		if a, ok := netip.AddrFromSlice(h.IP); ok && !a.Unmap().IsLinkLocalUnicast() && !slices.Contains(addrs, a.Unmap()) {
			if err := netlink.AddrDel(link, &h); err != nil {
				return fmt.Errorf("device %s: remove address %s: %w", device, a, err)
			}
		}
	}
	for _, a := range addrs {
		one := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
		if a.Is6() {
			one.Flags = unix.IFA_F_NODAD // usable at once: nobody else is on this device
		}
		if err := netlink.AddrReplace(link, one); err != nil {
			return fmt.Errorf("device %s: add address %s: %w", device, a, err)
		}
	}
	return nil
}

// Device is the name of the device that has the addresses: at most 15 bytes, the kernel's limit.
func Device(table string) string {
	if n := name(table); len(n) < unix.IFNAMSIZ {
		return n
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(table))
	return fmt.Sprintf("fw%08x-dns", h.Sum32())
}

// Cleanup takes the addresses and the table away.
func Cleanup(table string) (err error) {
	if link, e := netlink.LinkByName(Device(table)); e == nil {
		if e := netlink.LinkDel(link); e != nil && !errors.Is(e, unix.ENODEV) {
			err = fmt.Errorf("device %s: remove: %w", Device(table), e)
		}
	} else if !errors.As(e, &netlink.LinkNotFoundError{}) {
		err = fmt.Errorf("device %s: find: %w", Device(table), e)
	}
	conn, e := nftables.New()
	if e != nil {
		return errors.Join(err, fmt.Errorf("nftables table %s: connect: %w", name(table), e))
	}
	conn.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name(table)})
	if e := conn.Flush(); e != nil && !errors.Is(e, unix.ENOENT) {
		err = errors.Join(err, fmt.Errorf("nftables table %s: remove: %w", name(table), e))
	}
	return err
}

func name(table string) string { return table + "-dns" }

// writeTable writes, in one transaction, the rules that keep conntrack away from both directions, before it (raw, -300) and in both hooks where
// packets begin.
func writeTable(table string, addrs []netip.Addr, port uint16) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables table %s: connect: %w", name(table), err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: name(table)}
	conn.AddTable(t) // so that deleting it never fails
	conn.DelTable(t)
	conn.AddTable(t)
	for hook, at := range map[string]*nftables.ChainHook{"prerouting": nftables.ChainHookPrerouting, "output": nftables.ChainHookOutput} {
		chain := conn.AddChain(&nftables.Chain{Name: hook, Table: t, Type: nftables.ChainTypeFilter, Hooknum: at, Priority: nftables.ChainPriorityRaw})
		for _, a := range addrs {
			for _, l4 := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
				for _, dir := range []direction{question, answer} {
					conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(match(a, l4, port, dir), &expr.Notrack{})})
				}
			}
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables table %s: write: %w", name(table), err)
	}
	return nil
}

type direction bool

const (
	question direction = false // to the address
	answer   direction = true  // from it
)

// match gives the expressions for packets of one transport to or from an address and port.
func match(a netip.Addr, l4 byte, port uint16, dir direction) []expr.Any {
	family, length, offset, portOffset := byte(unix.NFPROTO_IPV4), uint32(4), uint32(12), uint32(0)
	if a.Is6() {
		family, length, offset = unix.NFPROTO_IPV6, 16, 8
	}
	if dir == question {
		offset, portOffset = offset+length, 2
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{l4}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: portOffset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(port >> 8), byte(port)}},
	}
}
