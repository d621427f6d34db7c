package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Where an instance lives unless it is told otherwise: the directory of its name below these.
const (
	DataRoot = "/var/lib/fairway"
	RunRoot  = "/run/fairway"
)

// Instance is one stand-alone Fairway of this machine, running or not.
type Instance struct {
	Name string
	// DataDir outlives reboots: certificates, the API's store, images, the kubeconfig.
	DataDir string
	// RunDir holds what is running: Pods, logs, the lock, the status socket.
	RunDir string
}

// DefaultName is the instance that is meant when nobody names one.
const DefaultName = "default"

// Command is a command line of fairway's as it is typed for this instance: with the flags without which another one would be meant.
func (i Instance) Command(words string) string {
	line := "fairway"
	if i.Name != DefaultName {
		line += " --name " + i.Name
	}
	if i.DataDir != filepath.Join(DataRoot, i.Name) {
		line += " --data-dir " + i.DataDir
	}
	if i.RunDir != filepath.Join(RunRoot, i.Name) {
		line += " --run-dir " + i.RunDir
	}
	return line + " " + words
}

// instanceName keeps names short enough for devices and paths that are made of them.
var instanceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?$`)

// NewInstance checks the name and fills in the directories that are empty.
func NewInstance(name, dataDir, runDir string) (Instance, error) {
	if !instanceName.MatchString(name) {
		return Instance{}, fmt.Errorf("--name %q: use 1 to 8 lower-case letters, digits and dashes", name)
	}
	i := Instance{Name: name, DataDir: dataDir, RunDir: runDir}
	if i.DataDir == "" {
		i.DataDir = filepath.Join(DataRoot, name)
	}
	if i.RunDir == "" {
		i.RunDir = filepath.Join(RunRoot, name)
	}
	var err error
	if i.DataDir, err = filepath.Abs(i.DataDir); err != nil {
		return Instance{}, fmt.Errorf("--data-dir: %w", err)
	}
	if i.RunDir, err = filepath.Abs(i.RunDir); err != nil {
		return Instance{}, fmt.Errorf("--run-dir: %w", err)
	}
	if i.DataDir == "/" || i.RunDir == "/" || i.DataDir == i.RunDir {
		return Instance{}, fmt.Errorf("--data-dir %s and --run-dir %s: give two directories of their own", i.DataDir, i.RunDir)
	}
	return i, nil
}

// Kubeconfig is the file with the administrator's credentials.
func (i Instance) Kubeconfig() string { return filepath.Join(i.DataDir, "kubeconfig") }

// Images is the image store's directory.
func (i Instance) Images() string { return filepath.Join(i.DataDir, "images") }

// api is the data directory of the API: its store, its certificates, the settings.
// names is where DNS keeps its names for the next start.
func (i Instance) names() string { return filepath.Join(i.DataDir, "dns", "names") }

func (i Instance) api() string { return filepath.Join(i.DataDir, "api") }

func (i Instance) socket() string    { return filepath.Join(i.RunDir, "fairway.sock") }
func (i Instance) lockFile() string  { return filepath.Join(i.RunDir, "lock") }
func (i Instance) stateFile() string { return filepath.Join(i.RunDir, "state.json") }

// table is the name of the nftables table.
func (i Instance) table() string {
	if i.Name == "default" {
		return "fairway"
	}
	return "fairway-" + i.Name
}

// What Fairway puts into the two directories: whoever pointed --data-dir at a directory of theirs keeps the rest.
var (
	dataEntries = []string{"api", "api.restore", "dns", "images", "ingress", "kubeconfig"}
	runEntries  = []string{"lock", "state.json", "fairway.sock"}
)

// removeNew gives the function that removes what of the instance's directories is not there yet now.
func (i Instance) removeNew() func() error {
	data, run := missingIn(i.DataDir, dataEntries), missingIn(i.RunDir, runEntries)
	_, dataErr := os.Stat(i.DataDir)
	_, runErr := os.Stat(i.RunDir)
	return func() error {
		errs := []error{removeEntries(i.RunDir, run), removeEntries(i.DataDir, data)}
		if errors.Is(runErr, fs.ErrNotExist) {
			errs = append(errs, removeEmpty(i.RunDir, RunRoot))
		}
		if errors.Is(dataErr, fs.ErrNotExist) {
			errs = append(errs, removeEmpty(i.DataDir, DataRoot))
		}
		return errors.Join(errs...)
	}
}

// removeRun and removeData remove what Fairway puts into the two directories, and the directories if nothing else is in them.
func (i Instance) removeRun() error {
	return errors.Join(removeEntries(i.RunDir, runEntries), removeEmpty(i.RunDir, RunRoot))
}

func (i Instance) removeData() error {
	return errors.Join(removeEntries(i.DataDir, dataEntries), removeEmpty(i.DataDir, DataRoot))
}

// missingIn gives those of the names that are not in the directory.
func missingIn(dir string, names []string) (missing []string) {
	for _, n := range names {
		if _, err := os.Lstat(filepath.Join(dir, n)); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, n)
		}
	}
	return missing
}

func removeEntries(dir string, names []string) error {
	var errs []error
	for _, n := range names {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, n)))
	}
	return errors.Join(errs...)
}

// removeEmpty removes a directory if it is empty, and the root above it with the last instance in that.
func removeEmpty(dir, root string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	_ = os.Remove(root)
	return nil
}

// lock takes the instance for this process. The kernel lets go of it when the process ends, however it ends.
func (i Instance) lock() (release func(), err error) {
	f, err := i.claim()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid()))); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", i.lockFile(), err)
	}
	return func() { f.Close() }, nil
}

// claim opens and locks the lock file. A look by running holds it for a moment, and a down that ends takes the file away from under who
// opened it before: neither is a Fairway that runs, so both are tried again.
func (i Instance) claim() (*os.File, error) {
	for attempt := 1; ; attempt++ {
		if err := os.MkdirAll(i.RunDir, 0o711); err != nil {
			return nil, fmt.Errorf("run directory: %w", err)
		}
		f, err := os.OpenFile(i.lockFile(), os.O_RDWR|os.O_CREATE, 0o644)
		if errors.Is(err, fs.ErrNotExist) && attempt < lockAttempts { // the directory went meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil && i.isLockFile(f) {
			return f, nil
		}
		f.Close()
		if attempt == lockAttempts {
			return nil, fmt.Errorf("instance %q is running already (pid %d); look at it with '%s', stop it with '%s', or start another with --name", i.Name, i.pid(), i.Command("status"), i.Command("down"))
		}
		time.Sleep(lockPause)
	}
}

// How often a lock that is held is tried, and how long apart: long enough for a look to end, too short to be noticed.
const (
	lockAttempts = 5
	lockPause    = 2 * time.Millisecond
)

// isLockFile tells whether f is still what others find under the lock's name.
func (i Instance) isLockFile(f *os.File) bool {
	mine, err1 := f.Stat()
	theirs, err2 := os.Stat(i.lockFile())
	return err1 == nil && err2 == nil && os.SameFile(mine, theirs)
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// pid gives the process that wrote the lock last, or 0.
func (i Instance) pid() int {
	b, err := os.ReadFile(i.lockFile())
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// holder gives the process that has the lock file open, or 0: a process that has just taken the lock has not written its id yet, and the one
// of the process before may be anybody's by now.
func (i Instance) holder() int {
	pid := i.pid()
	open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the pattern is well-formed
	for _, fd := range open {
		have, err1 := os.Stat(fd)
		lock, err2 := os.Stat(i.lockFile())
		if err1 == nil && err2 == nil && os.SameFile(have, lock) {
			return pid
		}
	}
	return 0
}

// running tells whether a process holds the lock.
func (i Instance) running() bool {
	f, err := os.Open(i.lockFile())
	if err != nil {
		return false
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil
}

// state is what of the configuration is in the kernel, for a later up to check and for down to take away.
type state struct {
	ServiceCIDRs []netip.Prefix `json:"serviceCIDRs"`
	PodCIDRs     []netip.Prefix `json:"podCIDRs"`
	NodeName     string         `json:"nodeName"`
}

func (i Instance) loadState() (*state, error) {
	b, err := os.ReadFile(i.stateFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s: %w; '%s' clears it", i.stateFile(), err, i.Command("down"))
	}
	return &s, nil
}

func (i Instance) saveState(s state) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return replaceFile(i.stateFile(), b)
}

// replaceFile writes a file of mode 0600 that is there as a whole or as it was.
func replaceFile(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
