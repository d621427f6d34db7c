package shim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Name is the argv[0] under which a program is a shim; the one argument is the container's directory.
const Name = "fairway-shim"

// Config is what a shim reads from its directory.
type Config struct {
	ID       string // container ID, for runc
	Runc     string // path of runc
	Root     string // directory of runc's own state
	Bundle   string // OCI bundle
	Log      string // log file of the container
	LogLimit int64  // size in bytes at which the log is moved aside to <Log>.1
	Cgroup   string // path of the container's cgroup, as runc was told it

	Stdin     bool // it has a standard input, for who attaches; otherwise that is empty
	StdinOnce bool // it ends with the input of the first one who attaches
	Terminal  bool // all its streams are a terminal
}

// Started says that a container runs.
type Started struct {
	Pid       int       // the container's first process
	Ticks     uint64    // its start time, in the kernel's ticks: tells it from another process of the same number
	Shim      int       // the shim's process
	StartedAt time.Time // when runc had started it
}

// Exited says how a container ended.
type Exited struct {
	Code       int       // exit code; 128 + signal for a process ended by a signal, as a shell has it
	Signal     int       // 0 if it ended by itself
	OOMKilled  bool      // the kernel killed a process of the container for want of memory
	FinishedAt time.Time // when the end was noticed
}

// report is the line that the shim sends to its starter.
type report struct {
	Started *Started `json:",omitempty"`
	Error   string   `json:",omitempty"`
}

// Files of a container's directory.
const (
	configFile  = "shim.json"
	startedFile = "started.json"
	exitFile    = "exit.json"
	runcLog     = "runc.log"
	pidFile     = "pid"
)

// WriteConfig prepares the directory of a shim.
func WriteConfig(dir string, c Config) error { return write(filepath.Join(dir, configFile), c) }

// ReadConfig returns what WriteConfig wrote.
func ReadConfig(dir string) (Config, error) { return read[Config](filepath.Join(dir, configFile)) }

// ReadStarted returns the record of the start; it does not exist (fs.ErrNotExist) if the container never ran.
func ReadStarted(dir string) (Started, error) { return read[Started](filepath.Join(dir, startedFile)) }

// ReadExited returns the record of the end; it does not exist (fs.ErrNotExist) before.
func ReadExited(dir string) (Exited, error) { return read[Exited](filepath.Join(dir, exitFile)) }

func write(path string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func read[T any](path string) (T, error) {
	var value T
	data, err := os.ReadFile(path)
	if err != nil {
		return value, err
	}
	if err := json.Unmarshal(data, &value); err != nil {
		return value, fmt.Errorf("%s: read: %w", path, err)
	}
	return value, nil
}

// Ticks returns the start time of a process as the kernel counts it, or 0 if there is no such process or it is only waiting to
// be reaped.
func Ticks(pid int) uint64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The second field, the program's name in brackets, may itself hold spaces and brackets.
	_, rest, found := bytes.Cut(data[bytes.LastIndexByte(data, ')')+1:], []byte(" "))
	fields := bytes.Fields(rest)
	if !found || len(fields) < 20 || fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return 0
	}
	ticks, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return 0
	}
	return ticks
}
