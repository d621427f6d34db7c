package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// commits listens to what the kernel says of nftables in a room: when which of the addresses that are looked for came into force.
type commits struct {
	conn *netlink.Conn

	mu     sync.Mutex
	wanted map[uint32]func(time.Time)
	seen   []func(time.Time) // in the transaction that is being told
	lost   bool              // the kernel had more to tell than fitted
	count  int
}

// watchCommits starts to listen.
func (r *room) watchCommits() (*commits, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(r.ns.Fd())})
	if err != nil {
		return nil, fmt.Errorf("nftables notifications: %w", err)
	}
	_ = conn.SetReadBuffer(256 << 20)
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		conn.Close()
		return nil, fmt.Errorf("nftables notifications: %w", err)
	}
	c := &commits{conn: conn, wanted: map[uint32]func(time.Time){}}
	go c.listen()
	return c, nil
}

func (c *commits) close() { c.conn.Close() }

func (c *commits) listen() {
	for {
		msgs, err := c.conn.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			c.mu.Lock()
			c.lost = true
			c.mu.Unlock()
			continue
		}
		if err != nil {
			return
		}
		now := time.Now()
		c.mu.Lock()
		for _, m := range msgs {
			c.told(m, now)
		}
		c.mu.Unlock()
	}
}

// told looks through one message. Attributes are aligned to four bytes, and so is an address in them, however the rules are made.
func (c *commits) told(m netlink.Message, now time.Time) {
	const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	switch m.Header.Type {
	case subsystem | unix.NFT_MSG_NEWSETELEM, subsystem | unix.NFT_MSG_NEWRULE:
		for b := m.Data; len(b) >= 4 && len(c.wanted) > 0; b = b[4:] {
			if word := binary.BigEndian.Uint32(b); word >= firstFresh {
				if f := c.wanted[word]; f != nil {
					c.seen = append(c.seen, f)
					delete(c.wanted, word)
				}
			}
		}
	case subsystem | unix.NFT_MSG_NEWGEN: // the transaction is in force, and told whole
		for _, f := range c.seen {
			f(now)
		}
		c.seen = c.seen[:0]
		c.count++
	}
}

// expect calls f, once, when a transaction with that address in it has come into force.
func (c *commits) expect(a netip.Addr, f func(time.Time)) {
	b := a.As4()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted[binary.BigEndian.Uint32(b[:])] = f
}

// state tells how many transactions came, and fails if some were not told.
func (c *commits) state() (count int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost {
		err = errors.New("the kernel's notifications of changed rules overran their buffer")
	}
	return c.count, err
}

// generations asks for the number of the newest generation of rules.
type generations struct{ conn *netlink.Conn }

func (r *room) generations() (*generations, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(r.ns.Fd())})
	if err != nil {
		return nil, fmt.Errorf("nftables generation: %w", err)
	}
	return &generations{conn}, nil
}

func (g *generations) close() { g.conn.Close() }

func (g *generations) newest() (uint32, error) {
	msgs, err := g.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   make([]byte, 4),
	})
	if err != nil {
		return 0, fmt.Errorf("nftables generation: %w", err)
	}
	for _, m := range msgs {
		if len(m.Data) >= 12 && binary.NativeEndian.Uint16(m.Data[6:]) == unix.NFTA_GEN_ID {
			return binary.BigEndian.Uint32(m.Data[8:]), nil
		}
	}
	return 0, errors.New("nftables generation: no answer")
}
