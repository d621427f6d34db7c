package app

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process that keeps a table holds an abstract Unix socket of the table's name. Such names belong to the network namespace, as tables do:
// the claim is seen from every container that shares it, needs no directory, and ends with the process however that ends.
func claimName(table string) string { return "@fairway/table/" + table }

// How often a claim that is held is tried: a process that has just been killed may be a moment from having let go.
const (
	claimAttempts = 20
	claimPause    = 10 * time.Millisecond
)

// claimTable takes a table for this process, until release is called.
func claimTable(table string) (release func(), err error) {
	for attempt := 1; ; attempt++ {
		l, err := net.Listen("unix", claimName(table))
		if err == nil {
			return func() { _ = l.Close() }, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("claim table %s: %w", table, err)
		}
		if attempt == claimAttempts {
			return nil, &heldError{table, tableHolder(table)}
		}
		time.Sleep(claimPause)
	}
}

// heldError says which process has a table.
type heldError struct {
	table string
	pid   int
}

func (e *heldError) Error() string {
	who := "a Fairway in another container"
	if e.pid > 0 {
		who = fmt.Sprintf("a running Fairway (pid %d)", e.pid)
	}
	return fmt.Sprintf("table %s belongs to %s on this machine; stop that one first, or give another name with --table", e.table, who)
}

// tableHolder gives the process that has claimed a table, or 0 if it cannot be seen from here.
func tableHolder(table string) int {
	c, err := net.Dial("unix", claimName(table))
	if err != nil {
		return 0
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}
