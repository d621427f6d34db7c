package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/node/shim"
)

// Running is a container that was started; it may have ended since.
type Running struct {
	ID      string
	Started shim.Started
	Place   Place

	runtime *Runtime
	cgroup  string
	pidfd   *os.File // nil if the process had ended before it was opened
}

// Exit says how a container ended.
type Exit = shim.Exited

// unknownExit is the code of a container whose end nobody saw, because its shim was killed.
const unknownExit = 137

func (r *Runtime) running(id, cgroup string, place Place, started shim.Started) (*Running, error) {
	c := &Running{ID: id, Started: started, Place: place, runtime: r, cgroup: cgroup}
	fd, err := unix.PidfdOpen(started.Pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("container %s: open process: %w", id, err)
	}
	if started.Ticks != 0 && shim.Ticks(started.Pid) != started.Ticks { // ended, and its number may be another's
		unix.Close(fd)
		return c, nil
	}
	c.pidfd = os.NewFile(uintptr(fd), "pidfd")
	return c, nil
}

// WaitDead returns when the container's process has ended, or ctx has.
func (c *Running) WaitDead(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	process, err := c.process()
	if process == nil || err != nil {
		return err
	}
	defer process.Close()
	stop := context.AfterFunc(ctx, func() { _ = process.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := process.SyscallConn()
	if err != nil {
		return err
	}
	// A process file descriptor becomes readable when its process ends; the poller waits for that.
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return err == nil && n > 0
	})
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// process opens the process file descriptor once more, because a deadline and a wait belong to one opening; nil for a process that
// had ended from the start.
func (c *Running) process() (*os.File, error) {
	if c.pidfd == nil {
		return nil, nil
	}
	raw, err := c.pidfd.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var failed error
	if err := raw.Control(func(own uintptr) { fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// WaitExit returns how the container ended, once it has. The shim writes that down within a millisecond of the end.
func (c *Running) WaitExit(ctx context.Context) (Exit, error) {
	if err := c.WaitDead(ctx); err != nil {
		return Exit{}, err
	}
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for {
		// The order matters: a shim that is gone by now has written its record before.
		shimLives := shim.Ticks(c.Started.Shim) != 0
		exit, err := shim.ReadExited(c.Place.State)
		if err == nil {
			return exit, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return Exit{}, fmt.Errorf("container %s: %w", c.ID, err)
		}
		if !shimLives {
			return Exit{Code: unknownExit, FinishedAt: time.Now()}, nil
		}
		select {
		case <-ctx.Done():
			return Exit{}, ctx.Err()
		case <-tick.C:
		}
	}
}

// Signal sends a signal to the container's first process; one that has ended is fine. SIGKILL ends all processes of the
// container with it.
func (c *Running) Signal(signal unix.Signal) error {
	if c.pidfd == nil {
		return nil
	}
	raw, err := c.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), signal, nil, 0) }); err != nil {
		return err
	}
	if sent != nil && !errors.Is(sent, unix.ESRCH) {
		return fmt.Errorf("container %s: send signal %d: %w", c.ID, signal, sent)
	}
	return nil
}

// Close lets go of the container without touching it.
func (c *Running) Close() {
	if c.pidfd != nil {
		c.pidfd.Close()
	}
}

// Remove kills the container if it still runs and removes all of it but the log.
func (c *Running) Remove() error {
	_ = c.Signal(unix.SIGKILL)
	c.Close()
	// The shim writes one more file when it ends; the directory cannot go before that.
	deadline := time.Now().Add(5 * time.Second)
	for shim.Ticks(c.Started.Shim) != 0 && time.Now().Before(deadline) {
		time.Sleep(200 * time.Microsecond)
	}
	shim.Reap(c.Started.Shim)
	if err := c.runtime.clear(c.ID, c.cgroup, c.Place); err != nil {
		return fmt.Errorf("container %s: remove: %w", c.ID, err)
	}
	return nil
}
