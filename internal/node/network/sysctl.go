package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Paths under /proc/sys/net belong to the network namespace of the thread that opens them.
const (
	forward4 = "net/ipv4/ip_forward"
	forward6 = "net/ipv6/conf/all/forwarding"
)

// rememberSysctls writes the values that Setup will change to the state file, unless an earlier Setup did: then the file has
// the true ones.
func rememberSysctls(c Config) error {
	if data, err := os.ReadFile(c.statePath()); err == nil {
		var before state
		if err := json.Unmarshal(data, &before); err == nil {
			return writeState(c, before.Sysctls)
		}
	}
	values := map[string]string{}
	paths := []string{forward4, forward6}
	interfaces, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, path := range interfaces {
		paths = append(paths, strings.TrimPrefix(path, "/proc/sys/"))
	}
	for _, path := range paths {
		value, err := readSysctl(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return err
		}
		if filepath.Base(path) != "accept_ra" || value == "1" {
			values[path] = value
		}
	}
	return writeState(c, values)
}

func writeState(c Config, sysctls map[string]string) error {
	data, err := json.MarshalIndent(state{Config: c, Sysctls: sysctls}, "", "  ")
	if err == nil {
		err = os.MkdirAll(c.RunDir, 0o755)
	}
	if err == nil {
		temporary := c.statePath() + ".new"
		if err = os.WriteFile(temporary, data, 0o644); err == nil {
			err = os.Rename(temporary, c.statePath())
		}
	}
	if err != nil {
		return fmt.Errorf("network state %s: write: %w", c.statePath(), err)
	}
	return nil
}

// enableForwarding turns the machine into a router for its Pods. A router ignores router advertisements unless
// accept_ra is 2; where they were accepted, they stay so, or the machine would lose its own IPv6 default route.
func enableForwarding() error {
	if err := writeSysctl(forward4, "1"); err != nil {
		return err
	}
	if value, err := readSysctl(forward6); errors.Is(err, fs.ErrNotExist) || value == "1" {
		return nil
	}
	interfaces, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, path := range interfaces {
		path = strings.TrimPrefix(path, "/proc/sys/")
		if value, err := readSysctl(path); err == nil && value == "1" {
			if err := writeSysctl(path, "2"); err != nil {
				return err
			}
		}
	}
	return writeSysctl(forward6, "1")
}

// restoreSysctls puts forwarding back before accept_ra, whose value the kernel reads in the light of forwarding. A device that is gone
// has nothing to restore.
func restoreSysctls(values map[string]string) error {
	var errs []error
	restore := func(path, value string) {
		if err := writeSysctl(path, value); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, path := range []string{forward4, forward6} {
		if value, known := values[path]; known {
			restore(path, value)
		}
	}
	for path, value := range values {
		if path != forward4 && path != forward6 {
			restore(path, value)
		}
	}
	return errors.Join(errs...)
}

func readSysctl(path string) (string, error) {
	data, err := os.ReadFile("/proc/sys/" + path)
	if err != nil {
		return "", fmt.Errorf("sysctl %s: read: %w", path, err)
	}
	return strings.TrimSpace(string(data)), nil
}

func writeSysctl(path, value string) error {
	if err := os.WriteFile("/proc/sys/"+path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("sysctl %s: set to %s: %w", path, value, err)
	}
	return nil
}
