package story

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// inventory is what can be left behind: the network of the namespace, line by line as the machine's own tools print it.
type inventory map[string][]string

// tools print the network of a namespace.
var tools = map[string][]string{
	"link":         {"ip", "-o", "link", "show"},
	"address":      {"ip", "-o", "address", "show"},
	"IPv4 route":   {"ip", "-4", "route", "show", "table", "all"},
	"IPv6 route":   {"ip", "-6", "route", "show", "table", "all"},
	"IPv4 policy":  {"ip", "-4", "rule", "show"},
	"IPv6 policy":  {"ip", "-6", "rule", "show"},
	"packet rules": {"nft", "list", "ruleset"},
}

func takeInventory(ctx context.Context, c *cluster) (inventory, error) {
	inv := inventory{}
	for what, tool := range tools {
		out, err := c.ns.output(ctx, tool[0], tool[1:]...)
		if err != nil {
			return nil, err
		}
		inv[what] = lines(out)
	}
	names, err := os.ReadDir("/run/netns")
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, n := range names {
		if strings.Contains(n.Name(), c.name) { // others make namespaces on this machine, too
			inv["network namespace"] = append(inv["network namespace"], n.Name())
		}
	}
	return inv, nil
}

func lines(s string) []string {
	var out []string
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

// goneTime bounds the wait for processes that have been told to end.
const goneTime = 5 * time.Second

// compare takes another inventory, of the machine as well, and says what is there now and was not before.
func (before inventory) compare(ctx context.Context, c *cluster) ([]string, error) {
	now, err := takeInventory(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("look at the namespace after the end: %w", err)
	}
	left := before.more(now)
	processes := c.processes()
	for deadline := time.Now().Add(goneTime); len(processes) > 0 && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
		processes = c.processes()
	}
	left = append(left, processes...)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for _, m := range lines(string(mounts)) {
		if strings.Contains(m, c.dir) {
			left = append(left, "mount "+m)
		}
	}
	for _, dir := range []string{c.dataDir(), c.runDir()} {
		left = append(left, files(dir)...)
	}
	for _, group := range c.cgroups {
		if _, err := os.Stat(group); err == nil {
			left = append(left, "cgroup "+group)
		}
	}
	return left, nil
}

// more are the lines of now that before does not have.
func (before inventory) more(now inventory) []string {
	var out []string
	for what, all := range now {
		for _, l := range all {
			if !slices.Contains(before[what], l) {
				out = append(out, what+" "+l)
			}
		}
	}
	slices.Sort(out)
	return out
}

// processes are those that live in the story's network namespace or have its directory in their command line, root or mounts.
func (c *cluster) processes() []string {
	net, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", c.ns.file.Fd()))
	if err != nil {
		return []string{"processes: " + err.Error()}
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var out []string
	for _, dir := range dirs {
		if filepath.Base(dir) == strconv.Itoa(os.Getpid()) {
			continue
		}
		why := ""
		if its, err := os.Readlink(dir + "/ns/net"); err == nil && its == net {
			why = "in the namespace"
		}
		for _, file := range []string{"cmdline", "mountinfo"} {
			if b, err := os.ReadFile(dir + "/" + file); err == nil && strings.Contains(string(b), c.dir) {
				why = "has " + c.dir + " in its " + file
			}
		}
		if why != "" {
			cmdline, _ := os.ReadFile(dir + "/cmdline")
			out = append(out, fmt.Sprintf("process %s (%s), %s", filepath.Base(dir), strings.ReplaceAll(strings.Trim(string(cmdline), "\x00"), "\x00", " "), why))
		}
	}
	return out
}

// files are those below dir.
func files(dir string) []string {
	var out []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, "file "+path)
		}
		return nil
	})
	return out
}

// rememberCgroup notes the control group of a container's process, which must be gone at the end.
func (c *cluster) rememberCgroup(pid int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return
	}
	for _, l := range lines(string(b)) {
		if path, ok := strings.CutPrefix(l, "0::"); ok && path != "/" {
			c.cgroups = append(c.cgroups, filepath.Join("/sys/fs/cgroup", path))
		}
	}
}
