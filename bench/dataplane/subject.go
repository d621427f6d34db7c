package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fairway.dev/fairway/bench/lab"
)

// program is what is measured, and how it is started.
type program struct {
	name, path string
	args       []string
}

func fairwayAgent(path string) program {
	return program{"fairway", path, []string{
		"agent", "--node-name", nodeName, "--service-cidr", serviceRange, "--pod-cidr", podRange, "--health-listen", "127.0.0.1:10256",
	}}
}

// kubeProxy leaves alone what is not of one namespace: the sizes of conntrack's tables.
func kubeProxy(path string) program {
	return program{"kube-proxy", path, []string{
		"--proxy-mode", "nftables", "--hostname-override", nodeName, "--cluster-cidr", podRange,
		"--healthz-bind-address", "127.0.0.1:10256", "--metrics-bind-address", "127.0.0.1:10249", "--conntrack-max-per-core", "0",
		"--conntrack-tcp-timeout-established", "0s", "--conntrack-tcp-timeout-close-wait", "0s", "--v", "0",
	}}
}

// subject is a program that is being measured in a room.
type subject struct {
	*bench
	program
	api  *api
	room *room
	note func(name string, v float64, unit string)
	cmd  *exec.Cmd
	out  lab.Output
}

func (s *subject) start(ctx context.Context) error {
	s.cmd = s.room.command(ctx, s.path, append(s.args, "--kubeconfig", s.api.kubeconfig)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return s.cmd.Start()
}

func (s *subject) stop() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	end := time.AfterFunc(10*time.Second, func() { _ = s.cmd.Process.Kill() })
	defer end.Stop()
	_ = s.cmd.Wait()
}

func (s *subject) said() string { return "it said\n" + s.out.String() }

// processor is how long the program has kept processors busy so far, with the programs that it has run to their end.
func (s *subject) processor() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := bytes.Cut(b, []byte(") "))
	f := strings.Fields(string(after))
	var ticks int64
	for _, i := range []int{11, 12, 13, 14} { // utime, stime and those of children: fields 14 to 17 of proc(5)
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", s.cmd.Process.Pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100 wherever Go runs
}

// memory is a line of the program's /proc/PID/status, VmRSS or VmHWM, in MiB.
func (s *subject) memory(line string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) == 3 && f[0] == line+":" {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", s.cmd.Process.Pid, line)
}
