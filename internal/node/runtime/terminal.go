package runtime

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminalEnv tells a program on a terminal which kind it is; the client's own is another one, but understands as much.
const terminalEnv = "TERM=xterm"

// Size is that of a terminal, in characters.
type Size struct{ Width, Height uint16 }

// terminal is a pseudo-terminal between a client and runc, which passes what it sees on it to the one that it makes in the
// container.
type terminal struct{ master, slave *os.File }

func newTerminal() (*terminal, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		master.Close()
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		master.Close()
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	t := &terminal{master, slave}
	if err := t.raw(); err != nil {
		master.Close()
		slave.Close()
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	return t, nil
}

// raw makes this terminal pass on what is typed as it is: the one in the container does with it what a terminal does. The other way,
// runc leaves it to this one to begin each line at its left edge.
func (t *terminal) raw() error {
	fd := int(t.slave.Fd())
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	mode.Iflag = 0
	mode.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, mode)
}

// connect makes the terminal the command's own.
func (t *terminal) connect(cmd *exec.Cmd) {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.slave, t.slave, t.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
}

func (t *terminal) resize(s Size) error {
	raw, err := t.master.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: s.Height, Col: s.Width})
	})
	if err != nil {
		return err
	}
	return failed
}

// run copies both ways until the command, which was started on the terminal, has ended and its output is out.
func (t *terminal) run(cmd *exec.Cmd, in io.Reader, out io.Writer, sizes <-chan Size) error {
	t.slave.Close() // only the command holds it now: its end is the end of the output
	defer t.master.Close()
	if in != nil {
		go func() { _, _ = io.Copy(t.master, in) }() // ends with the client's stream or the terminal
	}
	stop := make(chan struct{})
	defer close(stop)
	if sizes != nil {
		go func() {
			for {
				select {
				case s, more := <-sizes:
					if !more || t.resize(s) != nil {
						return
					}
				case <-stop:
					return
				}
			}
		}()
	}
	_, _ = io.Copy(out, t.master) // ends with EIO, a terminal's end of file
	return cmd.Wait()
}
