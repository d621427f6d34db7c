package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Start runs a shim for the container in dir (see WriteConfig) and returns when the container runs. The process outlives its starter.
// Held stays open in the shim for as long as the container runs.
func Start(ctx context.Context, dir string, held *os.File) (Started, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return Started{}, err
	}
	defer in.Close()
	cmd := &exec.Cmd{
		Path:       "/proc/self/exe",
		Args:       []string{Name, dir},
		Env:        []string{"GOMAXPROCS=1", "PATH=" + os.Getenv("PATH")},
		Dir:        "/",
		ExtraFiles: []*os.File{out, held},
		// A session of its own: what a terminal sends to its foreground processes does not reach the shim.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = cmd.Start()
	out.Close()
	if err != nil {
		return Started{}, fmt.Errorf("start shim: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = in.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var r report
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the shim and the runc that it waits for
		_ = cmd.Wait()
		if ctx.Err() != nil {
			return Started{}, ctx.Err()
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("it ended without a word")
		}
		return Started{}, fmt.Errorf("shim: %w", err)
	}
	if r.Error != "" {
		_ = cmd.Wait()
		return Started{}, errors.New(r.Error)
	}
	_ = cmd.Process.Release() // see Reap
	return *r.Started, nil
}

// Reap takes note of the end of a shim that this process has started, so that the kernel can forget it. For any other, and for one
// that still runs, it does nothing.
func Reap(pid int) { _, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) }

// Kill ends a shim of that directory that has not yet said that its container runs, and the runc that it waits for. It is for a container
// whose starter was killed in the middle of the start.
func Kill(dir string) {
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is well-formed
	for _, path := range commands {
		data, err := os.ReadFile(path)
		if err != nil || string(data) != Name+"\x00"+dir+"\x00" {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			_ = syscall.Kill(-pid, syscall.SIGKILL) // a shim leads a group of its own
		}
	}
}
