package shim

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// consoleSocket is where runc hands over the container's terminal.
const consoleSocket = "console.sock"

// console is the place where runc hands over a terminal.
type console struct {
	listener *net.UnixListener
	got      chan received
}

type received struct {
	terminal *os.File
	err      error
}

// newConsole makes the socket in dir and waits for runc, in the background.
func newConsole(dir string) (*console, error) {
	at, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: shortPath(at, consoleSocket), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for the terminal: %w", err)
	}
	listener.SetUnlinkOnClose(false) // by then the path means nothing; the directory goes with the container
	c := &console{listener, make(chan received, 1)}
	go func() {
		var r received
		if r.terminal, r.err = c.accept(); r.err != nil {
			r.err = fmt.Errorf("receive the terminal from runc: %w", r.err)
		}
		c.got <- r
	}()
	return c, nil
}

func (c *console) accept() (*os.File, error) {
	conn, err := c.listener.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	name, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, rights)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, fmt.Errorf("%d control messages came, not one", len(messages))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		return nil, fmt.Errorf("%d files came, not one", len(fds))
	}
	unix.CloseOnExec(fds[0])
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}

// terminal is what runc has handed over, once it has ended well. It must be called in any case.
func (c *console) terminal(failed bool) (*os.File, error) {
	if failed {
		c.listener.Close()
	}
	r := <-c.got
	c.listener.Close()
	return r.terminal, r.err
}
