package shim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	if len(os.Args) == 2 && os.Args[0] == Name {
		os.Exit(run(os.Args[1]))
	}
}

// drainTime bounds the wait for what a container printed last. All processes of a container end with its first one, so the end
// of the pipes is there at once; a process that shares the machine's process namespace may hold them longer.
const drainTime = 100 * time.Millisecond

func run(dir string) int {
	unix.CloseOnExec(3) // neither the reply nor the held image is for runc
	unix.CloseOnExec(4)
	reply := os.NewFile(3, "reply")
	fail := func(err error) int {
		_ = json.NewEncoder(reply).Encode(report{Error: err.Error()})
		return 1
	}
	c, err := ReadConfig(dir)
	if err != nil {
		return fail(err)
	}
	// runc ends after the start; the container's process then becomes a child of this one.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fail(fmt.Errorf("become subreaper: %w", err))
	}
	log, err := openLog(c.Log, c.LogLimit)
	if err != nil {
		return fail(err)
	}
	started, drained, err := start(dir, c, log)
	if err != nil {
		return fail(err)
	}
	if err := write(filepath.Join(dir, startedFile), started); err != nil {
		_ = unix.Kill(started.Pid, unix.SIGKILL)
		return fail(err)
	}
	_ = json.NewEncoder(reply).Encode(report{Started: &started})
	reply.Close()

	exited := wait(started.Pid)
	exited.OOMKilled = oomKilled(c.Cgroup)
	select {
	case <-drained:
	case <-time.After(drainTime):
	}
	if err := write(filepath.Join(dir, exitFile), exited); err != nil {
		return 1
	}
	return 0
}

// start has runc start the container with its output connected to the log and to those who attach.
func start(dir string, c Config, log *logFile) (Started, <-chan struct{}, error) {
	var s Started
	listener, err := listenAttach(dir)
	if err != nil {
		return s, nil, err
	}
	h := newHub(c.Terminal, c.StdinOnce)
	var drained <-chan struct{}
	if c.Terminal {
		drained, err = h.startOnTerminal(dir, c, log)
	} else {
		drained, err = h.startOnPipes(dir, c, log)
	}
	if err != nil {
		return s, nil, err
	}
	go h.accept(listener)
	data, err := os.ReadFile(filepath.Join(dir, pidFile))
	if err != nil {
		return s, nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return s, nil, fmt.Errorf("runc's pid file: %w", err)
	}
	// A program that has already ended is not yet reaped: its number cannot have passed to another.
	return Started{Pid: pid, Ticks: Ticks(pid), Shim: os.Getpid(), StartedAt: time.Now()}, drained, nil
}

func (h *hub) startOnPipes(dir string, c Config, log *logFile) (<-chan struct{}, error) {
	stdoutRead, stdout, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdout.Close() // the container has its own
	stderrRead, stderr, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	cmd := runcRun(dir, c)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if c.Stdin {
		stdin, in, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer stdin.Close()
		cmd.Stdin, h.in = stdin, in
	}
	drained := log.collect(
		stream{"stdout", stdoutRead, func(b []byte) { h.print(FrameStdout, b) }},
		stream{"stderr", stderrRead, func(b []byte) { h.print(FrameStderr, b) }},
	)
	return drained, runRunc(dir, cmd)
}

func (h *hub) startOnTerminal(dir string, c Config, log *logFile) (<-chan struct{}, error) {
	console, err := newConsole(dir)
	if err != nil {
		return nil, err
	}
	failed := runRunc(dir, runcRun(dir, c, "--console-socket", consoleSocket))
	terminal, err := console.terminal(failed != nil)
	if failed != nil {
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	h.in = terminal
	// To read from a terminal whose last program has ended is an error, and the end.
	return log.collect(stream{"stdout", terminal, func(b []byte) { h.print(FrameStdout, b) }}), nil
}

// runcRun is the command that starts the container and ends. It runs in dir, for which options name files.
func runcRun(dir string, c Config, options ...string) *exec.Cmd {
	args := []string{"--root", c.Root, "--log", filepath.Join(dir, runcLog), "--log-format", "json",
		"run", "--detach", "--bundle", c.Bundle, "--pid-file", filepath.Join(dir, pidFile)}
	cmd := exec.Command(c.Runc, append(append(args, options...), c.ID)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Dir = dir
	return cmd
}

func runRunc(dir string, cmd *exec.Cmd) error {
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if said := lastError(filepath.Join(dir, runcLog)); said != "" {
		err = errors.New(said)
	}
	return fmt.Errorf("runc run: %w", err)
}

// wait reaps children until the container's process is among them.
func wait(pid int) Exited {
	for {
		var status unix.WaitStatus
		child, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil: // no child at all: runc cannot have left it to us
			return Exited{Code: 255, FinishedAt: time.Now()}
		case child != pid:
			continue
		case status.Signaled():
			return Exited{Code: 128 + int(status.Signal()), Signal: int(status.Signal()), FinishedAt: time.Now()}
		case status.Exited():
			return Exited{Code: status.ExitStatus(), FinishedAt: time.Now()}
		}
	}
}

// oomKilled asks the cgroup, in either version of the hierarchy, whether its memory ran out.
func oomKilled(cgroup string) bool {
	for _, path := range []string{
		"/sys/fs/cgroup" + cgroup + "/memory.events",
		"/sys/fs/cgroup/memory" + cgroup + "/memory.oom_control",
	} {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if count, found := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); found {
				return count != "0"
			}
		}
	}
	return false
}

// lastError returns the message of the last error in runc's log.
func lastError(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	message := ""
	for line := range bytes.Lines(data) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			message = entry.Msg
		}
	}
	return message
}
