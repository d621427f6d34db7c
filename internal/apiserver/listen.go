package apiserver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// listeners joins several TCP listeners into one, because the generic server takes one. Accept goroutines start with the
// first Accept and end with Close.
type listeners struct {
	all      []net.Listener
	start    sync.Once
	stop     sync.Once
	accepted chan accepted
	closed   chan struct{}
	running  sync.WaitGroup
}

type accepted struct {
	conn net.Conn
	err  error
}

// listen binds every address. If one of them cannot be had, none is kept, and the error says in one line which and why.
func listen(addresses []netip.AddrPort) (*listeners, error) {
	l := &listeners{accepted: make(chan accepted), closed: make(chan struct{})}
	for _, address := range addresses {
		one, err := net.Listen("tcp", address.String())
		if err != nil {
			_ = l.Close()
			switch {
			case errors.Is(err, syscall.EADDRINUSE):
				return nil, fmt.Errorf("listen on %s: the port is taken by another program, see it with `ss -ltnp 'sport = :%d'`: %w", address, address.Port(), syscall.EADDRINUSE)
			case errors.Is(err, syscall.EADDRNOTAVAIL):
				return nil, fmt.Errorf("listen on %s: this machine has no such address", address)
			}
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		l.all = append(l.all, one)
	}
	return l, nil
}

// addresses are what is really bound: a port 0 that was asked for is a number here.
func (l *listeners) addresses() []netip.AddrPort {
	var bound []netip.AddrPort
	for _, one := range l.all {
		address := one.Addr().(*net.TCPAddr).AddrPort()
		bound = append(bound, netip.AddrPortFrom(address.Addr().Unmap(), address.Port()))
	}
	return bound
}

// Accept implements net.Listener.
func (l *listeners) Accept() (net.Conn, error) {
	l.start.Do(func() {
		for _, one := range l.all {
			l.running.Go(func() { l.acceptFrom(one) })
		}
	})
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listeners) acceptFrom(one net.Listener) {
	for {
		conn, err := one.Accept()
		select {
		case l.accepted <- accepted{conn, err}:
		case <-l.closed:
			if conn != nil {
				_ = conn.Close()
			}
			return
		}
		// net/http waits and tries again after a temporary error (out of file descriptors), so this goroutine stays.
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// Close implements net.Listener: it closes all of them and waits for the goroutines that accepted.
func (l *listeners) Close() error {
	var err error
	l.stop.Do(func() {
		close(l.closed)
		for _, one := range l.all {
			err = errors.Join(err, one.Close())
		}
		l.running.Wait()
	})
	return err
}

// Addr implements net.Listener with the first address.
func (l *listeners) Addr() net.Addr { return l.all[0].Addr() }
