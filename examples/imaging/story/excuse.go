package story

import (
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kill is the one act of violence in the story: SIGKILL to a process that serves.
type kill struct {
	Pod    string    `json:"pod"`
	PID    int       `json:"pid"`
	Before time.Time `json:"before"` // just before the signal
	Dead   time.Time `json:"dead"`   // when the process had ended, and the kernel had closed its sockets
}

// deathTime bounds the wait for a killed process to be gone.
const deathTime = 10 * time.Second

// strike kills the process and waits for its death.
func (k *kill) strike() error {
	fd, err := unix.PidfdOpen(k.PID, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	k.Before = time.Now()
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		return err
	}
	for deadline := k.Before.Add(deathTime); ; {
		// The descriptor becomes readable when the last thread has ended.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, max(0, int(time.Until(deadline).Milliseconds())))
		k.Dead = time.Now()
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		case k.Dead.After(deadline):
			return errors.New("it is still there")
		}
	}
}

// wasOpen is the one excuse.
const wasOpen = "open at the killed process"

// excuse says why a failure is not the system's, or nothing. There is one way to be a victim of the kill: the request was open while the
// process died, and its connection was cut (or the Ingress, whose connection to the Pod was cut, said 502). Until its sockets
// are closed, the kernel takes connections for a dying process, so that a request may even begin a moment after the signal.
//
// Everything else counts: a timeout, a 503, a refused connection, a cut one that began after the death. The address of the dead
// process is handed out for a few milliseconds more, and still nobody may be refused: that is what the data plane's second
// chance is for.
func (k *kill) excuse(f Failure) string {
	if k != nil && cut(f.Error) && !f.Started.After(k.Dead) && !f.Ended.Before(k.Before) {
		return wasOpen
	}
	return ""
}

// cut tells whether an error is that of a connection that was cut under a request. The text is looked at, since the
// gallery tells its errors as text.
func cut(err string) bool {
	return contains(err, "EOF", "connection reset by peer", "broken pipe", "502 Bad Gateway", picturesMissing,
		"server closed idle connection",    // the cut came between the connection and the request
		"use of closed network connection", // net/http closes the connection on the cut while it is still writing the request
	)
}

func contains(s string, any ...string) bool {
	for _, a := range any {
		if strings.Contains(s, a) {
			return true
		}
	}
	return false
}
