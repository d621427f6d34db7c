package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ExecOptions say what to run in a container and where its streams go; a nil stream is /dev/null.
type ExecOptions struct {
	Args           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Terminal       bool        // with one terminal for all three streams; Stdout takes its output
	Sizes          <-chan Size // of the terminal, as they change
}

// Exec runs a program in the container, as the container's own user and with its environment, and returns its exit code. The
// error says that it could not be run; a code other than 0 is not an error. When ctx ends, the program is killed.
func (c *Running) Exec(ctx context.Context, o ExecOptions) (int, error) {
	dir, err := os.MkdirTemp(c.Place.State, "exec-*")
	if err != nil {
		return 0, fmt.Errorf("container %s: exec: %w", c.ID, err)
	}
	defer os.RemoveAll(dir)
	process, err := c.execProcess(o)
	if err != nil {
		return 0, fmt.Errorf("container %s: exec: %w", c.ID, err)
	}
	file, log, pidFile := filepath.Join(dir, "process.json"), filepath.Join(dir, "log.json"), filepath.Join(dir, "pid")
	if err := os.WriteFile(file, process, 0o600); err != nil {
		return 0, fmt.Errorf("container %s: exec: %w", c.ID, err)
	}
	cmd := exec.CommandContext(ctx, c.runtime.runc, "--root", c.runtime.root, "--log", log, "--log-format", "json",
		"exec", "--process", file, "--pid-file", pidFile, c.ID)
	// runc ends when the program does; if runc were killed, the program would stay.
	cmd.Cancel = func() error {
		if data, err := os.ReadFile(pidFile); err == nil {
			if pid, err := strconv.Atoi(string(data)); err == nil {
				// It leads a session, and with it a group, of its own: what it has started goes with it.
				_ = unix.Kill(-pid, unix.SIGKILL)
				return unix.Kill(pid, unix.SIGKILL)
			}
		}
		return cmd.Process.Kill()
	}
	cmd.WaitDelay = 2 * time.Second
	err = run(cmd, o)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if said := logged(log); said != "" {
			return 0, fmt.Errorf("container %s: exec: %s", c.ID, said)
		}
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("container %s: exec: %w", c.ID, err)
	}
	return 0, nil
}

// run runs the command with its streams connected.
func run(cmd *exec.Cmd, o ExecOptions) error {
	if o.Terminal {
		t, err := newTerminal()
		if err != nil {
			return err
		}
		t.connect(cmd)
		if err := cmd.Start(); err != nil {
			t.slave.Close()
			t.master.Close()
			return err
		}
		return t.run(cmd, o.Stdin, o.Stdout, o.Sizes)
	}
	cmd.Stdout, cmd.Stderr = o.Stdout, o.Stderr
	if o.Stdin != nil {
		// Not cmd.Stdin: Wait would wait for the end of an input that the program never asked for.
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(in, o.Stdin)
			in.Close()
		}()
	}
	return cmd.Run()
}

// execProcess is the container's own process with other arguments.
func (c *Running) execProcess(o ExecOptions) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(c.Place.State, "config.json"))
	if err != nil {
		return nil, err
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, err
	}
	spec.Process.Args, spec.Process.Terminal = o.Args, o.Terminal
	if o.Terminal && !slices.Contains(spec.Process.Env, terminalEnv) {
		spec.Process.Env = append(spec.Process.Env, terminalEnv)
	}
	return json.Marshal(spec.Process)
}

// logged returns the last error that runc itself logged, as opposed to what the program printed.
func logged(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	message := ""
	for line := range strings.Lines(string(data)) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Level == "error" {
			message = entry.Msg
		}
	}
	return message
}
